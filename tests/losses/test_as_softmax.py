"""AS-Softmax: its limits, its ties, its numbers, and its agreement with others."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from as_softmax_jax.losses import entmax_probs

KINDS = ("hard", "partial", "settled", "mixed")
LABELS = jnp.array([0], jnp.int32)
exp, log = np.exp, np.log


def value_and_grad(logits, labels, cotangent=None, **keywords):
    """The losses, and the gradient for a cotangent of 1 or the one given."""
    loss, vjp = jax.vjp(lambda o: as_softmax_loss(o, labels, **keywords), logits)
    return loss, vjp(jnp.ones_like(loss) if cotangent is None else cotangent)[0]


def test_value_is_the_papers_formula():
    # p = (.5, .4, .1): class 1 is within .2 of the label, class 2 is not.
    loss = as_softmax_loss(jnp.log(jnp.array([[0.5, 0.4, 0.1]])), LABELS, delta=0.2)
    np.testing.assert_allclose(loss, [-log(0.5 / (0.5 + 0.4))], rtol=1e-6)


def test_gradient_is_the_papers_formula():
    logits = jnp.log(jnp.array([[0.5, 0.4, 0.1]]))
    _, gradient = value_and_grad(logits, LABELS, delta=0.2)
    np.testing.assert_allclose(
        gradient, [[0.5 / 0.9 - 1, 0.4 / 0.9, 0.0]], rtol=1e-6, atol=1e-7
    )
    assert gradient[0, 2] == 0


def test_delta_may_differ_by_row_and_be_traced():
    logits = jnp.log(jnp.array([[0.5, 0.4, 0.1]] * 3))
    loss = jax.jit(lambda d: as_softmax_loss(logits, jnp.zeros(3, int), delta=d))(
        jnp.array([0.05, 0.2, 1.0])
    )
    expected = [0.0, log(0.9 / 0.5), log(1 / 0.5)]
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "n_classes"),
    [("hard", 2), ("settled", 2), *itertools.product(KINDS, (3, 10, 150, 1000))],
)
def test_delta_1_equals_optax_to_a_few_ulp(kind, n_classes):
    logits, labels = draw(kind, 64, n_classes)
    loss, gradient = value_and_grad(logits, labels, delta=1.0)

    def optax_loss(o):
        return optax.softmax_cross_entropy_with_integer_labels(o, labels)

    expected, vjp = jax.vjp(optax_loss, jnp.asarray(logits))
    ulp = np.finfo(np.float32).eps
    np.testing.assert_allclose(loss, expected, rtol=4 * ulp, atol=4 * ulp)
    np.testing.assert_allclose(
        gradient, vjp(jnp.ones_like(expected))[0], rtol=8 * ulp, atol=4 * ulp
    )


def test_delta_0_keeps_the_classes_at_least_as_strong():
    logits = jnp.array([[1.0, 1.0, 2.0, np.nextafter(np.float32(1), 0), -5.0]])
    kept = as_softmax_kept(logits, LABELS, delta=0.0)
    np.testing.assert_array_equal(kept, [[True, True, True, False, False]])
    loss = as_softmax_loss(logits, LABELS, delta=0.0)
    np.testing.assert_allclose(loss, [log(1 + 1 + exp(1))], rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e4, 3e38])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_exact_ties_at_delta_0_are_kept(size, count):
    logits = jnp.full((1, 10), -size, jnp.float32).at[0, :count].set(size)
    loss = as_softmax_loss(logits, LABELS, delta=0.0)
    np.testing.assert_allclose(loss, [log(count)], rtol=1e-6)
    kept = as_softmax_kept(logits, LABELS, delta=0.0)
    np.testing.assert_array_equal(kept[0], np.arange(10) < count)


def test_one_class_is_always_settled():
    logits = jnp.array([[3.0], [-1e4]])
    labels = jnp.zeros(2, int)
    for delta in (0.0, 0.1, 1.0):
        loss, gradient = value_and_grad(logits, labels, delta=delta)
        np.testing.assert_array_equal(loss, [0, 0])
        np.testing.assert_array_equal(gradient, [[0], [0]])
        assert as_softmax_settled(logits, labels, delta=delta).all()


def test_two_classes():
    # p_t - p_1 = tanh(x / 2): a gap of .2 of logits is a gap of .1 of probability.
    logits = jnp.array([[0.25, 0.0], [0.15, 0.0]])
    loss = as_softmax_loss(logits, jnp.zeros(2, int), delta=0.1)
    np.testing.assert_allclose(loss, [0, log(1 + exp(-0.15))], rtol=1e-6)


def test_settled_rows_are_exactly_zero_and_the_others_are_not():
    logits, labels = draw("mixed", 300, 17)
    loss, gradient = value_and_grad(logits, labels, delta=0.1)
    settled = np.asarray(as_softmax_settled(logits, labels, delta=0.1))
    assert 50 < settled.sum() < 150
    np.testing.assert_array_equal(np.asarray(loss) == 0, settled)
    np.testing.assert_array_equal((np.asarray(gradient) == 0).all(-1), settled)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_mask_and_counts_equal_the_oracle(kind, delta):
    logits, labels = draw(kind, 200, 23)
    truth = as_softmax(logits, labels, delta)
    assert truth.clear.mean() > 0.9
    kept = as_softmax_kept(logits, labels, delta=delta)
    settled = as_softmax_settled(logits, labels, delta=delta)
    np.testing.assert_array_equal(kept[truth.clear], truth.kept[truth.clear])
    np.testing.assert_array_equal(settled[truth.clear], truth.settled[truth.clear])
    np.testing.assert_array_equal(settled, np.sum(kept, -1) == 1)
    num_valid, num_active = count_active(settled)
    assert (num_valid, num_active) == (200, 200 - np.sum(settled))


def test_gradient_is_zero_exactly_where_a_class_is_dropped():
    logits, labels = draw("mixed", 99, 31)
    _, gradient = value_and_grad(logits, labels, delta=0.1)
    kept = np.asarray(as_softmax_kept(logits, labels, delta=0.1))
    assert (np.asarray(gradient)[~kept] == 0).all()


def test_probs_score_the_loss():
    logits, labels = draw("mixed", 60, 12)
    probs = as_softmax_probs(logits, labels, delta=0.1)
    np.testing.assert_allclose(probs.sum(-1), np.ones(60), rtol=1e-6)
    np.testing.assert_allclose(
        -jnp.log(probs[jnp.arange(60), labels]),
        as_softmax_loss(logits, labels, delta=0.1),
        rtol=1e-5,
        atol=1e-6,
    )
    kept = as_softmax_kept(logits, labels, delta=0.1)
    np.testing.assert_array_equal(probs > 0, kept)


def test_several_class_axes_count_as_one_in_each_companion():
    logits, labels = draw("mixed", 40, 12)
    apart = jnp.moveaxis(jnp.reshape(logits, (40, 3, 4)), (1, 2), (2, 0))
    for companion in (as_softmax_kept, as_softmax_probs, as_softmax_settled):
        expected = companion(logits, labels, delta=0.1)
        result = companion(apart, labels, delta=0.1, axis=(2, 0))
        if expected.ndim == 2:
            result = jnp.moveaxis(result, (2, 0), (1, 2)).reshape(40, 12)
        np.testing.assert_array_equal(result, expected)
    result = entmax_probs(apart, axis=(2, 0))
    result = jnp.moveaxis(result, (2, 0), (1, 2)).reshape(40, 12)
    np.testing.assert_array_equal(result, entmax_probs(logits))


def test_each_row_has_its_own_cotangent():
    logits, labels = draw("mixed", 30, 8)
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=30), jnp.float32)
    _, plain = value_and_grad(logits, labels, delta=0.1)
    _, scaled = value_and_grad(logits, labels, cotangent, delta=0.1)
    np.testing.assert_allclose(scaled, plain * cotangent[:, None], atol=1e-6)


@pytest.mark.parametrize("kind", ["hard", "partial", "settled"])
def test_gradient_equals_finite_differences_in_float64(kind):
    with jax.enable_x64(True):
        logits, labels = draw(kind, 6, 7)
        logits = jnp.asarray(logits, jnp.float64)
        # Far from the margin, so that a small step does not cross it.
        f = lambda o: as_softmax_loss(o, labels, delta=0.1)  # noqa: E731
        assert f(logits).dtype == jnp.float64
        check_grads(f, (logits,), order=1, modes=["rev"], eps=1e-6)


def test_bfloat16_decides_as_float32_on_the_same_numbers():
    logits, labels = draw("mixed", 500, 10)
    half = jnp.asarray(logits, jnp.bfloat16)
    wide = half.astype(jnp.float32)
    np.testing.assert_array_equal(
        as_softmax_kept(half, labels, delta=0.1),
        as_softmax_kept(wide, labels, delta=0.1),
    )
    loss, gradient = value_and_grad(half, labels, delta=0.1)
    expected, exact = value_and_grad(wide, labels, delta=0.1)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(gradient, exact.astype(jnp.bfloat16))


def test_probability_underflow_is_no_division_by_zero():
    logits = jnp.array([[-200.0, 0.0], [-1e4, 1e4], [-3e38, 3e38]])
    for delta in (0.0, 0.1, 1.0):
        loss, gradient = value_and_grad(logits, jnp.zeros(3, int), delta=delta)
        np.testing.assert_allclose(loss[:2], [200.0, 2e4])
        np.testing.assert_array_equal(gradient, [[-1, 1]] * 3)


def test_every_logit_minus_infinity_is_an_infinite_loss_without_nan():
    logits = jnp.full((2, 3), -jnp.inf)
    loss, gradient = value_and_grad(logits, jnp.zeros(2, int), delta=0.1)
    np.testing.assert_array_equal(loss, [np.inf, np.inf])
    np.testing.assert_array_equal(gradient, [[-1, 0, 0]] * 2)


def test_nan_is_found_in_rows_of_any_width():
    for n_classes in (2, 7, 64, 150, 5000):
        logits = np.zeros((4, n_classes), np.float32)
        logits[1, n_classes // 2] = np.nan
        logits[2, -1] = np.inf
        loss, gradient = value_and_grad(
            jnp.asarray(logits), jnp.ones(4, int), delta=0.1
        )
        np.testing.assert_array_equal(np.isnan(loss), [False, True, True, False])
        rows = np.isnan(np.asarray(gradient))
        np.testing.assert_array_equal(rows.all(-1), [False, True, True, False])
        np.testing.assert_array_equal(rows.any(-1), [False, True, True, False])
        settled = as_softmax_settled(logits, jnp.ones(4, int), delta=0.0)
        assert not settled[1:3].any()


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_traced_delta_outside_its_range_is_nan_for_its_row(bad):
    logits, labels = draw("mixed", 3, 5)
    delta = jnp.array([0.1, bad, 1.0], jnp.float32)
    loss, gradient = jax.jit(lambda d: value_and_grad(logits, labels, delta=d))(delta)
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])
    np.testing.assert_array_equal(np.isnan(gradient).all(-1), [False, True, False])
    settled = jax.jit(lambda d: as_softmax_settled(logits, labels, delta=d))(delta)
    assert not settled[1]


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.float32(7), np.array([0.1, 2, 0.3])])
def test_known_delta_outside_its_range_is_refused(bad):
    logits, labels = draw("mixed", 3, 5)
    with pytest.raises(ValueError, match=r"`delta` must be in \[0, 1\]; got"):
        as_softmax_loss(logits, labels, delta=bad)


def test_unknown_implementation_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'reference'"):
        as_softmax_loss(
            jnp.zeros((1, 2)), LABELS, delta=0.1, implementation="referense"
        )


def test_the_schedule_of_delta_carries_no_gradient():
    logits, labels = draw("mixed", 9, 5)
    slope = jax.grad(lambda d: as_softmax_loss(logits, labels, delta=d).sum())(0.1)
    assert slope == 0


class Variants(chex.TestCase):
    """With jit, without, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True, with_pmap=True)
    def test_values(self):
        logits, labels = draw("mixed", 12, 9)
        f = self.variant(lambda o, t: as_softmax_loss(o, t, delta=0.1))
        truth = as_softmax(logits, labels, 0.1)
        np.testing.assert_allclose(f(logits, labels), truth.loss, rtol=1e-5, atol=1e-6)


def test_the_second_call_does_not_compile_again():
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(logits, labels, delta):
        return jax.grad(lambda o: as_softmax_loss(o, labels, delta=delta).sum())(logits)

    for seed, delta in enumerate((1.0, 0.5, 0.1)):
        step(*draw("mixed", 6, 5, seed=seed), jnp.float32(delta))


def test_no_array_beside_the_gradient_is_as_large_as_the_logits():
    logits, labels = draw("partial", 256, 1024)
    compiled = jax.jit(lambda o: value_and_grad(o, labels, delta=0.1)).lower(logits)
    memory = compiled.compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.1 * logits.nbytes


def test_settled_needs_no_array_as_large_as_the_logits():
    logits, labels = draw("partial", 256, 1024)
    f = jax.jit(lambda o: as_softmax_settled(o, labels, delta=0.1))
    memory = f.lower(logits).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.1 * logits.nbytes
