import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from as_softmax_jax.transforms import (
    WindowCounts,
    active_count_window,
    adaptive_multi_steps,
    has_updated,
    settled_ratio_window,
)


def opening(num_valid, num_active, *, last, limit):
    return WindowCounts(
        mini_step=jnp.int32(1),
        num_valid=jnp.int32(num_valid),
        num_active=jnp.int32(num_active),
        window_length=jnp.int32(last),
        opening=jnp.array(True),
        max_mini_steps=limit,
    )


def lengths(rule, batches, *, max_mini_steps):
    """The length after each mini-step, and whether it stepped."""
    tx = adaptive_multi_steps(optax.sgd(1.0), rule, max_mini_steps=max_mini_steps)
    state = tx.init(0.0)
    seen = []
    for num_valid, num_active in batches:
        _, state = tx.update(1.0, state, num_valid=num_valid, num_active=num_active)
        seen.append((int(state.window_length), bool(has_updated(state))))
    return seen


@pytest.mark.parametrize(
    ("num_valid", "num_active", "scale", "k"),
    [
        (32, 32, 1.0, 1),  # 32 / 32
        (32, 10, 1.0, 3),  # 3.2
        (32, 9, 1.0, 4),  # 3.56
        (32, 8, 0.5, 2),  # 0.5 * 4
        (32, 16, 3.0, 6),  # 3 * 2
        (5, 2, 1.0, 2),  # 2.5, and halves go down
        (7, 2, 1.0, 3),  # 3.5
        (35, 1, 0.1, 3),  # 3.5, though 0.1 as float32 is above 0.1
        (5, 6, 3.0, 2),  # 2.5, though 5 / 6 as float32 is above 5 / 6
        (3, 2, 0.1, 1),  # 0.15 rounds to 0, the last length was 1
        (2**31 - 1, 2**31 - 1, 1.0, 1),
    ],
)
def test_ratio_is_scale_times_valid_over_active_rounded(
    num_valid, num_active, scale, k
):
    rule = settled_ratio_window(scale=scale, max_growth=99)
    assert rule(opening(num_valid, num_active, last=1, limit=100)) == k
    assert k == max(1, round(scale * num_valid / (num_active + 1e-8)))  # the authors


@pytest.mark.parametrize("max_growth", [0, 1, 3])
def test_ratio_grows_by_max_growth_at_most(max_growth):
    rule = settled_ratio_window(max_growth=max_growth)
    assert rule(opening(100, 1, last=5, limit=50)) == 5 + max_growth


def test_ratio_never_shrinks():
    assert settled_ratio_window()(opening(10, 10, last=5, limit=50)) == 5


def test_ratio_stays_within_max_mini_steps():
    rule = settled_ratio_window(max_growth=10)
    assert rule(opening(100, 1, last=5, limit=8)) == 8
    assert rule(opening(1, 1, last=5, limit=3)) == 3  # the limit was lowered


def test_ratio_without_active_examples_is_the_largest_allowed():
    rule = settled_ratio_window(max_growth=2)
    assert rule(opening(32, 0, last=3, limit=50)) == 3 + 2
    assert rule(opening(32, 0, last=3, limit=4)) == 4


@pytest.mark.parametrize("limit", [2**31 - 1, 2**24 + 1, 7])
def test_ratio_survives_the_ends_of_int32(limit):
    rule = settled_ratio_window(scale=3e38, max_growth=2**31 - 1)
    k = rule(opening(2**31 - 1, 1, last=1, limit=limit))
    assert k == min(limit, 2**30)
    none_active = rule(opening(2**31 - 1, 0, last=limit, limit=limit))
    assert none_active == limit


def test_ratio_is_decided_when_the_window_opens():
    # 3.0 on the first mini-batch; what comes later in the window changes nothing.
    batches = [(30, 10), (30, 1), (30, 30), (30, 30)]
    assert lengths(settled_ratio_window(max_growth=9), batches, max_mini_steps=9) == [
        (3, False),
        (3, False),
        (3, True),
        (3, False),
    ]


def test_ratio_window_grows_from_window_to_window():
    rule = settled_ratio_window(max_growth=1)
    seen = lengths(rule, [(32, 1)] * (2 + 3 + 4 + 4), max_mini_steps=4)
    assert [k for k, _ in seen] == [2] * 2 + [3] * 3 + [4] * 4 + [4] * 4
    assert [i + 1 for i, (_, stepped) in enumerate(seen) if stepped] == [2, 5, 9, 13]


@pytest.mark.parametrize(
    ("target", "step_at"), [(1, [1, 2, 3, 4]), (9, [2, 4]), (10, [2, 4]), (11, [3])]
)
def test_active_count_closes_at_the_target(target, step_at):
    batches = [(32, 5)] * 4
    seen = lengths(active_count_window(target), batches, max_mini_steps=4)
    assert [i + 1 for i, (_, stepped) in enumerate(seen) if stepped] == step_at


def test_active_count_is_bounded_by_max_mini_steps():
    seen = lengths(active_count_window(100), [(32, 1)] * 6, max_mini_steps=3)
    assert [stepped for _, stepped in seen] == [False, False, True] * 2


def test_a_users_own_rule_serves():
    def two_batches_of_twenty(counts):
        return jnp.where(counts.num_valid >= 20, 2, counts.max_mini_steps)

    batches = [(8, 1), (8, 1), (8, 1), (32, 1), (32, 1)]
    seen = lengths(two_batches_of_twenty, batches, max_mini_steps=9)
    assert [stepped for _, stepped in seen] == [False, False, True, False, True]


@pytest.mark.parametrize(
    ("answer", "step_at"), [(0, [1, 2, 3]), (-5, [1, 2, 3]), (99, [2])]
)
def test_a_rules_answer_is_clipped(answer, step_at):
    seen = lengths(lambda _: answer, [(8, 8)] * 3, max_mini_steps=2)
    assert [i + 1 for i, (_, stepped) in enumerate(seen) if stepped] == step_at


@pytest.mark.parametrize("rule", [settled_ratio_window(2.0, 3), active_count_window(9)])
def test_rules_are_int32_and_alike_eager_and_traced(rule):
    counts = opening(32, 7, last=2, limit=20)
    arrays = counts._replace(max_mini_steps=0)
    traced = jax.jit(lambda c: rule(c._replace(max_mini_steps=20)))(arrays)
    assert rule(counts).dtype == traced.dtype == jnp.int32
    np.testing.assert_array_equal(rule(counts), traced)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_a_scale_out_of_range(scale):
    with pytest.raises(ValueError, match="`scale` must be finite and above 0; got"):
        settled_ratio_window(scale=scale)


def test_refuses_what_is_no_scale():
    with pytest.raises(TypeError, match="`scale` must be a number; got None"):
        settled_ratio_window(scale=None)


def test_refuses_a_negative_growth():
    with pytest.raises(ValueError, match=r"`max_growth` .* at least 0; got -1\."):
        settled_ratio_window(max_growth=-1)


@pytest.mark.parametrize("target", [0, -3, 2**31])
def test_refuses_a_target_out_of_range(target):
    with pytest.raises(ValueError, match=r"`target` must be .*; got"):
        active_count_window(target)


@pytest.mark.parametrize("target", [1.5, True, "8", None])
def test_refuses_what_is_no_target(target):
    with pytest.raises(TypeError, match="`target` must be an integer of at least 1"):
        active_count_window(target)


@pytest.mark.parametrize(
    ("length", "got"),
    [
        (None, "None"),
        (2.5, r"float32 of shape \(\)"),
        (np.ones(2, np.int32), r"int32 of shape \(2,\)"),
    ],
)
def test_refuses_a_rule_that_gives_no_length(length, got):
    message = f"`window` rule must return .* an int32 scalar; got {got}"
    with pytest.raises(TypeError, match=message):
        lengths(lambda _: length, [(8, 8)], max_mini_steps=2)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0, 3.0, 0.1, 0.3, 0.7, 1.3])
def test_halves_round_as_in_the_authors_code(scale):
    rng = np.random.default_rng(0)
    num_valid = rng.integers(1, 513, 3000)
    num_active = rng.integers(1, num_valid + 1)
    rule = settled_ratio_window(scale, max_growth=10**4)
    found = jax.jit(jax.vmap(lambda n, a: rule(opening(n, a, last=1, limit=10**5))))(
        num_valid, num_active
    )
    authors = [
        max(1, round(scale * int(n) / (int(a) + 1e-8)))
        for n, a in zip(num_valid, num_active, strict=True)
    ]
    np.testing.assert_array_equal(found, authors)
