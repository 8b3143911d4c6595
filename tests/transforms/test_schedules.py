import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from as_softmax_jax.transforms import delta_schedule, margin_schedule


def test_goes_linearly_from_init_to_delta_and_stays():
    schedule = delta_schedule(0.1, warmup_steps=4)
    values = [float(schedule(step)) for step in range(6)]
    expected = [1.0, 1 - 0.9 / 4, 1 - 0.9 * 2 / 4, 1 - 0.9 * 3 / 4, 0.1, 0.1]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_both_ends_are_exact():
    schedule = delta_schedule(0.1, warmup_steps=3, init=0.7)
    assert schedule(0) == jnp.float32(0.7)
    assert schedule(3) == jnp.float32(0.1)
    assert schedule(2**30) == jnp.float32(0.1)


def test_no_warmup_is_constant():
    schedule = delta_schedule(0.3, warmup_steps=0)
    assert [float(schedule(step)) for step in (0, 1, 9)] == [float(np.float32(0.3))] * 3


@pytest.mark.parametrize("delta", [0.0, 0.1, 1.0])
def test_never_leaves_the_range_of_its_ends(delta):
    steps = jnp.arange(1001)
    values = delta_schedule(delta, warmup_steps=997)(steps)
    assert values.max() <= 1.0
    assert values.min() >= jnp.float32(delta)
    same = delta_schedule(delta, warmup_steps=997, init=delta)(steps)
    np.testing.assert_array_equal(same, np.full(1001, delta, np.float32))


@pytest.mark.parametrize("warmup_steps", [0, 5])
def test_is_float32_of_the_steps_shape_eager_and_traced(warmup_steps):
    schedule = delta_schedule(0.2, warmup_steps=warmup_steps)
    steps = jnp.arange(6, dtype=jnp.int32).reshape(2, 3)
    eager, traced = schedule(steps), jax.jit(schedule)(steps)
    assert eager.dtype == traced.dtype == jnp.float32
    assert eager.shape == (2, 3)
    np.testing.assert_allclose(eager, traced, rtol=1e-6)
    assert schedule(3).shape == ()


def test_agrees_with_optax_linear_schedule():
    ours = delta_schedule(0.25, warmup_steps=10)
    theirs = optax.linear_schedule(1.0, 0.25, 10)
    for step in (0, 1, 5, 9, 10, 11):
        np.testing.assert_allclose(ours(step), theirs(step), rtol=1e-6)


def test_serves_as_an_optax_schedule():
    tx = optax.scale_by_schedule(delta_schedule(0.5, warmup_steps=1))
    state = tx.init(jnp.float32(1.0))
    first, state = tx.update(jnp.float32(2.0), state)
    second, _ = tx.update(jnp.float32(2.0), state)
    assert (first, second) == (2.0, 1.0)


@pytest.mark.parametrize("delta", [-0.1, 1.5, float("nan"), float("inf")])
def test_refuses_a_margin_out_of_range(delta):
    with pytest.raises(ValueError, match=r"`delta` must be in \[0, 1\]; got"):
        delta_schedule(delta, warmup_steps=10)
    with pytest.raises(ValueError, match=r"`init` must be in \[0, 1\]; got"):
        delta_schedule(0.1, warmup_steps=10, init=delta)


def test_refuses_what_is_no_margin():
    with pytest.raises(TypeError, match=r"`delta` must be a number; got '0.1'\."):
        delta_schedule("0.1", warmup_steps=10)


def test_refuses_bad_warmup_steps():
    with pytest.raises(ValueError, match=r"integer of at least 0; got -1\."):
        delta_schedule(0.1, warmup_steps=-1)
    with pytest.raises(TypeError, match=r"`warmup_steps` must be an integer.*got 2\.5"):
        delta_schedule(0.1, warmup_steps=2.5)


class TestMarginSchedule:
    """Both units, up and down."""

    def test_the_ratio_of_probabilities_moves_linearly(self):
        schedule = margin_schedule(logit_margin=2.0, init=1.0, warmup_steps=4)
        ratios = np.exp(-np.asarray(schedule(np.arange(6))))
        start, stop = np.exp(-1), np.exp(-2)
        expected = start + (stop - start) * np.array([0, 0.25, 0.5, 0.75, 1, 1])
        np.testing.assert_allclose(ratios, expected, rtol=1e-6)

    def test_it_begins_and_ends_as_softmax(self):
        schedule = margin_schedule(
            logit_margin=2.0, warmup_steps=10, cooldown_steps=5, total_steps=40
        )
        values = np.asarray(schedule(np.arange(45)))
        assert values[0] == values[40] == values[44] == np.inf
        np.testing.assert_array_equal(values[10:36], 2.0)
        assert (np.diff(values[1:11]) < 0).all()
        assert (np.diff(values[35:40]) > 0).all()
        # Half-way e^-m is half of what it is at the margin.
        np.testing.assert_allclose(values[5], 2 + np.log(2), rtol=1e-6)

    def test_a_margin_in_probability_goes_up_at_the_end(self):
        schedule = margin_schedule(delta=0.1, cooldown_steps=4, total_steps=8)
        values = schedule(np.arange(10))
        expected = [0.1] * 5 + [0.1 + 0.9 * k / 4 for k in (1, 2, 3)] + [1.0, 1.0]
        np.testing.assert_allclose(values, expected, rtol=1e-6)
        assert values[8] == 1.0

    def test_it_may_go_down_to_an_end_of_its_own(self):
        schedule = margin_schedule(
            logit_margin=3.0, end=0.5, cooldown_steps=2, total_steps=4
        )
        assert [float(schedule(s)) for s in (0, 2, 4, 9)] == [3.0, 3.0, 0.5, 0.5]

    def test_delta_schedule_is_a_case_of_it(self):
        steps = jnp.arange(20)
        np.testing.assert_array_equal(
            margin_schedule(delta=0.3, warmup_steps=7)(steps),
            delta_schedule(0.3, warmup_steps=7)(steps),
        )

    @pytest.mark.parametrize("margin", [{"delta": 0.2}, {"logit_margin": 2.0}])
    def test_traced_and_under_nan_checks(self, margin):
        schedule = margin_schedule(
            **margin, warmup_steps=3, cooldown_steps=3, total_steps=9
        )
        steps = jnp.arange(12, dtype=jnp.int32).reshape(2, 6)
        with jax.debug_nans(True):
            traced = jax.jit(schedule)(steps)
        assert (traced.dtype, traced.shape) == (jnp.float32, (2, 6))
        np.testing.assert_allclose(traced, schedule(steps), rtol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "takes one margin, .*; got neither"),
            ({"delta": 0.1, "logit_margin": 2.0}, "got both"),
            ({"logit_margin": -1.0}, "`logit_margin` must be at least 0"),
            ({"logit_margin": float("nan")}, "`logit_margin` must be at least 0"),
            ({"delta": 1.5}, r"`delta` must be in \[0, 1\]"),
            ({"delta": 0.1, "init": 2.0}, r"`init` must be in \[0, 1\]"),
            ({"logit_margin": 1.0, "end": -2.0}, "`end` must be at least 0"),
            ({"delta": 0.1, "warmup_steps": -1}, "`warmup_steps` must be an integer"),
            ({"delta": 0.1, "cooldown_steps": 3}, "give `total_steps`"),
            (
                {"delta": 0.1, "warmup_steps": 3, "total_steps": 2},
                "must fit into `total_steps`; got 3 \\+ 0 of 2",
            ),
        ],
    )
    def test_what_does_not_fit_is_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            margin_schedule(**arguments)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("delta", 0.25), ("logit_margin", 0.0), ("logit_margin", 2.0)],
)
def test_traced_arguments_are_as_numbers(keyword, value):
    """One program serves every margin and every length of training."""
    steps = {"warmup_steps": 3, "cooldown_steps": 2, "total_steps": 8}

    traced = []

    @jax.jit
    def margins(value, steps):
        traced.append(value)
        return margin_schedule(**{keyword: value}, **steps)(jnp.arange(10))

    expected = margin_schedule(**{keyword: value}, **steps)(jnp.arange(10))
    np.testing.assert_array_equal(margins(value, steps), expected)
    margins(value / 2 + 0.1, steps | {"total_steps": 9})
    assert len(traced) == 1


def test_a_traced_margin_is_refused_where_it_is_known_to_be_wrong():
    with pytest.raises(ValueError, match="`total_steps`"):
        jax.eval_shape(lambda m: margin_schedule(delta=m, cooldown_steps=2)(0), 0.5)
    with pytest.raises(ValueError, match="must fit into `total_steps`"):
        jax.eval_shape(
            lambda m: margin_schedule(delta=m, cooldown_steps=2, total_steps=1)(0), 0.5
        )
