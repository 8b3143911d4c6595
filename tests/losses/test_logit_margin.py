"""AS-Softmax with a margin between logits: its limits, its ties and its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from oracle import as_softmax, draw

from as_softmax_jax import (
    as_softmax_kept,
    as_softmax_loss,
    as_softmax_probs,
    as_softmax_settled,
    count_active,
)
from as_softmax_jax.losses import softmax_loss

KINDS = ("hard", "partial", "settled", "mixed")
LABELS = jnp.array([0], jnp.int32)
exp, log = np.exp, np.log


def value_and_grad(logits, labels, loss=as_softmax_loss, **keywords):
    """The losses, and the gradient for cotangents that differ by row."""
    value, vjp = jax.vjp(lambda o: loss(o, labels, **keywords), logits)
    weights = jnp.linspace(0.5, 2, value.size, dtype=value.dtype)
    return value, vjp(weights.reshape(value.shape))[0]


def assert_same_bits(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert (a.dtype, a.shape) == (e.dtype, e.shape)
        assert np.asarray(a).tobytes() == np.asarray(e).tobytes()


def test_value_and_gradient_are_the_formula():
    logits = jnp.array([[1.0, 0.5, -0.5, -1.5]])
    loss, gradient = value_and_grad(logits, LABELS, logit_margin=2.0)
    total = 1 + exp(-0.5) + exp(-1.5)
    np.testing.assert_allclose(loss, [log(total)], rtol=1e-6)
    parts = np.array([[1 - total, exp(-0.5), exp(-1.5), 0]])
    np.testing.assert_allclose(gradient, 0.5 * parts / total, rtol=1e-6)
    assert gradient[0, 3] == 0


@pytest.mark.parametrize("how", [pytest.param("eager", marks=pytest.mark.long), "jit"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((64, 10), "float32"),
        ((33, 150), "bfloat16"),
        ((2, 3, 1000), "float32"),
        ((), "float16"),
        ((9, 1), "float32"),
    ],
)
def test_without_a_margin_it_is_softmax_bit_for_bit(shape, dtype, masked, how):
    rng = np.random.default_rng(0)
    shape = shape or (7,)
    logits = jnp.asarray(rng.normal(size=shape) * 4, dtype)
    logits = logits.at[..., 0].set(-jnp.inf)
    labels = jnp.asarray(rng.integers(0, shape[-1], shape[:-1]))
    masks = {}
    if masked:
        masks["where"] = jnp.asarray(rng.random(shape[:-1]) < 0.7)
        masks["class_mask"] = jnp.asarray(rng.random(shape) < 0.7)

    def both(loss, **margin):
        def f(o):
            return value_and_grad(o, labels, loss, **masks, **margin)

        return (jax.jit(f) if how == "jit" else f)(logits)

    expected = both(softmax_loss)
    assert_same_bits(both(as_softmax_loss, logit_margin=np.inf), expected)


def test_a_row_of_an_infinite_margin_is_softmax_bit_for_bit():
    logits, labels = map(jnp.asarray, draw("mixed", 60, 12, logit_margin=2.0))
    margins = jnp.where(jnp.arange(60) % 2 == 0, jnp.inf, 1.0)
    got = value_and_grad(logits, labels, logit_margin=margins)
    expected = value_and_grad(logits, labels, softmax_loss)
    assert_same_bits((part[::2] for part in got), [part[::2] for part in expected])
    kept = as_softmax_kept(logits, labels, logit_margin=margins)
    assert kept[::2].all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0, 7.0, np.inf])
def test_mask_and_counts_equal_the_oracle(kind, margin):
    logits, labels = draw(kind, 200, 23, logit_margin=2.0)
    truth = as_softmax(logits, labels, logit_margin=margin)
    assert truth.clear.mean() > 0.9
    kept = as_softmax_kept(logits, labels, logit_margin=margin)
    settled = as_softmax_settled(logits, labels, logit_margin=margin)
    np.testing.assert_array_equal(kept[truth.clear], truth.kept[truth.clear])
    np.testing.assert_array_equal(settled[truth.clear], truth.settled[truth.clear])
    np.testing.assert_array_equal(settled, np.sum(kept, -1) == 1)
    num_valid, num_active = count_active(settled)
    assert (num_valid, num_active) == (200, 200 - np.sum(settled))


def test_settled_rows_are_exactly_zero_and_the_others_are_not():
    logits, labels = map(jnp.asarray, draw("mixed", 300, 17, logit_margin=2.0))
    loss, gradient = value_and_grad(logits, labels, logit_margin=2.0)
    settled = np.asarray(as_softmax_settled(logits, labels, logit_margin=2.0))
    assert settled.sum() == 100
    np.testing.assert_array_equal(np.asarray(loss) == 0, settled)
    np.testing.assert_array_equal((np.asarray(gradient) == 0).all(-1), settled)


@pytest.mark.parametrize("n_classes", [2, 3, 150, 5000])
def test_what_is_settled_does_not_depend_on_the_number_of_classes(n_classes):
    lead = jnp.array([0.5, 1.9375, 2.0, 2.0625, 9.0])
    logits = jnp.zeros((5, n_classes)).at[:, 0].set(lead)
    labels = jnp.zeros(5, int)
    settled = as_softmax_settled(logits, labels, logit_margin=2.0)
    np.testing.assert_array_equal(settled, [False, False, False, True, True])
    loss = as_softmax_loss(logits, labels, logit_margin=2.0)
    expected = jnp.where(settled, 0, jnp.log1p((n_classes - 1) * jnp.exp(-lead)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e4, 3e38])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_exact_ties_at_a_margin_of_0_are_kept(size, count):
    logits = jnp.full((1, 10), -size, jnp.float32).at[0, :count].set(size)
    loss = as_softmax_loss(logits, LABELS, logit_margin=0.0)
    np.testing.assert_allclose(loss, [log(count)], rtol=1e-6)
    kept = as_softmax_kept(logits, LABELS, logit_margin=0.0)
    np.testing.assert_array_equal(kept[0], np.arange(10) < count)


def test_a_margin_of_0_keeps_the_classes_at_least_as_strong():
    logits = jnp.array([[1.0, 1.0, 2.0, np.nextafter(np.float32(1), 0), -5.0]])
    kept = as_softmax_kept(logits, LABELS, logit_margin=0.0)
    np.testing.assert_array_equal(kept, [[True, True, True, False, False]])


@pytest.mark.parametrize("margin", [0.0, 2.0, np.inf])
def test_one_class_is_always_settled(margin):
    logits, labels = jnp.array([[3.0], [-1e4]]), jnp.zeros(2, int)
    loss, gradient = value_and_grad(logits, labels, logit_margin=margin)
    np.testing.assert_array_equal(loss, [0, 0])
    np.testing.assert_array_equal(gradient, [[0], [0]])
    assert as_softmax_settled(logits, labels, logit_margin=margin).all()


@pytest.mark.parametrize("margin", [0.0, 2.0, 3e38, np.inf])
def test_a_label_at_minus_infinity_costs_infinity_and_is_pulled_up(margin):
    logits = jnp.array([[-jnp.inf, 1.0, -3.0], [-jnp.inf] * 3])
    labels = jnp.zeros(2, int)
    loss, gradient = value_and_grad(logits, labels, logit_margin=margin)
    np.testing.assert_array_equal(loss, [np.inf, np.inf])
    share = 0.5 / (1 + exp(-4.0))
    expected = [[-0.5, share, 0.5 - share], [-2, 0, 0]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert not as_softmax_settled(logits, labels, logit_margin=margin).any()


@pytest.mark.parametrize("margin", [0.0, 2.0, np.inf])
@pytest.mark.parametrize("n_classes", [2, 7, 150, 5000])
def test_a_nan_or_infinite_logit_makes_its_own_row_nan(n_classes, margin):
    logits = np.zeros((6, n_classes), np.float32)
    logits[1, n_classes // 2] = np.nan
    logits[2, -1] = np.inf
    logits[3, 0] = np.nan
    logits[4, 0] = np.inf
    labels = jnp.zeros(6, int)
    bad = np.array([False, True, True, True, True, False])
    loss, gradient = value_and_grad(jnp.asarray(logits), labels, logit_margin=margin)
    np.testing.assert_array_equal(np.isnan(loss), bad)
    np.testing.assert_array_equal(np.isnan(gradient).any(-1), bad)
    np.testing.assert_array_equal(np.isnan(gradient).all(-1), bad)
    settled = as_softmax_settled(logits, labels, logit_margin=margin)
    assert not settled[bad].any()
    probs = as_softmax_probs(logits, labels, logit_margin=margin)
    np.testing.assert_array_equal(np.isnan(probs).any(-1), bad)
    assert as_softmax_kept(logits, labels, logit_margin=margin)[bad].all()


def test_probs_score_the_loss():
    logits, labels = draw("mixed", 60, 12, logit_margin=2.0)
    margins = np.linspace(0, 4, 60, dtype=np.float32)
    probs = as_softmax_probs(logits, labels, logit_margin=margins)
    np.testing.assert_allclose(probs.sum(-1), np.ones(60), rtol=1e-6)
    loss = as_softmax_loss(logits, labels, logit_margin=margins)
    scored = -jnp.log(probs[jnp.arange(60), labels])
    np.testing.assert_allclose(scored, loss, rtol=1e-5, atol=1e-6)
    kept = as_softmax_kept(logits, labels, logit_margin=margins)
    np.testing.assert_array_equal(probs > 0, kept)


def test_a_margin_of_each_class_goes_by_the_label():
    logits, labels = draw("mixed", 90, 5, logit_margin=2.0)
    margins = np.array([0.0, 0.5, 2.0, 4.0, np.inf], np.float32)
    loss = jax.jit(lambda m: as_softmax_loss(logits, labels, logit_margin=m[labels]))(
        margins
    )
    for label, margin in enumerate(margins):
        of_label = labels == label
        expected = as_softmax_loss(logits, labels, logit_margin=margin)
        np.testing.assert_allclose(loss[of_label], expected[of_label], 1e-6, 1e-6)


@pytest.mark.parametrize("kind", ["hard", "partial", "settled"])
def test_derivatives_of_both_modes_and_orders_are_finite_differences(kind):
    with jax.enable_x64(True):
        logits, labels = draw(kind, 6, 7, logit_margin=2.0)

        def f(o):
            return as_softmax_loss(o, labels, logit_margin=2.0)

        check_grads(f, (jnp.asarray(logits, jnp.float64),), order=2, eps=1e-6)


def test_no_gradient_flows_to_the_margin():
    logits, labels = draw("mixed", 9, 5, logit_margin=2.0)

    def total(margin):
        return as_softmax_loss(logits, labels, logit_margin=margin).sum()

    assert jax.grad(total)(2.0) == 0
    assert jax.grad(total)(jnp.inf) == 0


@pytest.mark.parametrize("bad", [-0.1, -np.inf, np.nan])
def test_a_traced_margin_out_of_range_is_nan_for_its_row(bad):
    logits, labels = map(jnp.asarray, draw("mixed", 3, 5, logit_margin=2.0))
    margins = jnp.array([0.1, bad, jnp.inf], jnp.float32)

    @jax.jit
    def all_of_them(m):
        settled = as_softmax_settled(logits, labels, logit_margin=m)
        return *value_and_grad(logits, labels, logit_margin=m), settled

    loss, gradient, settled = all_of_them(margins)
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
    np.testing.assert_array_equal(np.isnan(gradient).any(-1), [False, True, False])
    assert not settled[1]


FUNCTIONS = (as_softmax_loss, as_softmax_kept, as_softmax_probs, as_softmax_settled)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("error", "bad"),
    [
        (ValueError, -0.1),
        (ValueError, np.array([0.1, -1.0, 2.0])),
        (ValueError, np.ones(4, np.float32)),
        (TypeError, True),
        (TypeError, "2"),
        (TypeError, 1j),
    ],
)
def test_a_known_margin_out_of_range_is_refused(function, error, bad):
    logits, labels = draw("mixed", 3, 5, logit_margin=2.0)
    with pytest.raises(error, match="`logit_margin` must"):
        function(logits, labels, logit_margin=bad)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("margins", "got"),
    [({}, "neither"), ({"delta": 0.1, "logit_margin": 2.0}, "both")],
)
def test_exactly_one_margin_is_given(function, margins, got):
    logits, labels = draw("mixed", 3, 5)
    message = rf"`{function.__name__}` .*`logit_margin`.*`delta`.*got {got}"
    with pytest.raises(ValueError, match=message):
        function(logits, labels, **margins)


def test_settled_needs_no_array_as_large_as_the_logits():
    logits, labels = draw("partial", 256, 1024, logit_margin=2.0)
    f = jax.jit(lambda o: as_softmax_settled(o, labels, logit_margin=2.0))
    memory = f.lower(logits).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.1 * logits.nbytes


@pytest.mark.parametrize("margin", [2.0, np.inf])
def test_the_gradient_needs_no_more_than_two_arrays_of_logits(margin):
    logits, labels = draw("partial", 1024, 1000, logit_margin=2.0)

    def f(o):
        return value_and_grad(o, labels, logit_margin=margin)

    memory = jax.jit(f).lower(logits).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2.2 * logits.nbytes
