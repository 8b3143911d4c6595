"""The Fourier head: the authors' values, and its series as they compute it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import assert_is_derivative
from three_examples import FEATURES, LABELS

from as_softmax_jax import as_softmax_loss
from as_softmax_jax.heads import fourier_logits, fourier_penalty
from as_softmax_jax.losses import softmax_loss
from as_softmax_jax.reference import _fourier as reference

KERNEL = np.array(
    [
        [0.5, -0.3, 0.2, 0.1, 0.4, -0.6],
        [0.1, 0.7, -0.2, 0.3, -0.5, 0.2],
        [-0.4, 0.2, 0.6, -0.1, 0.3, 0.5],
    ]
)
BIAS = np.array([0.3, 0.1, -0.2, 0.05, 0.2, -0.1])


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
class TestPublishedValues:
    def test_logits(self):
        expected = [
            [-1.09905859, -2.445387648, -2.641114489, -0.6755408931],
            [-0.3214172558, -2.62940331, -2.89670553, -1.913296129],
            [-1.419609579, -0.9129733432, -1.24874727, -2.65871018],
        ]
        found = fourier_logits(FEATURES, KERNEL, BIAS, num_classes=4)
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_losses_and_gradients(self):
        def losses(features, kernel, bias):
            logits = fourier_logits(features, kernel, bias, num_classes=4)
            return softmax_loss(logits, LABELS)

        expected = [2.641154488, 2.629443309, 2.658750179]
        np.testing.assert_allclose(losses(FEATURES, KERNEL, BIAS), expected, rtol=1e-9)
        gradient = jax.grad(lambda f: losses(f, KERNEL, BIAS).sum())(FEATURES)
        expected = [
            [-1.906899762, -0.5175097702, 1.82210914],
            [0.1369229717, 0.03790034327, 0.5898912934],
            [1.090928259, -3.191201274, 3.320566736],
        ]
        np.testing.assert_allclose(gradient, expected, rtol=1e-8)
        assert_is_derivative(losses, FEATURES, KERNEL, BIAS)

    def test_penalty(self):
        expected = [138.0352611, 2254.857512, 9.183992592]
        found = fourier_penalty(FEATURES, KERNEL, BIAS)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert_is_derivative(
            lambda f, w: fourier_penalty(f, w, BIAS), 0.1 * FEATURES, KERNEL
        )


@pytest.mark.parametrize("num_waves", [1, 2, 5, 16])
@pytest.mark.usefixtures("float64")
def test_is_its_reference(num_waves):
    rng = np.random.default_rng(num_waves)
    features, kernel = rng.normal(size=(6, 4)), rng.normal(size=(4, 2 * num_waves))
    bias = rng.normal(size=2 * num_waves)
    arrays = [jnp.asarray(a) for a in (features, kernel, bias)]

    def with_gradients(f):
        value, vjp = jax.vjp(f, *arrays)
        return value, *vjp(jnp.ones_like(value))

    for found, expected in (
        (
            lambda *a: fourier_logits(*a, num_classes=9),
            lambda *a: reference.fourier_logits(*a, num_classes=9),
        ),
        (fourier_penalty, reference.fourier_penalty),
    ):
        for a, b in zip(with_gradients(found), with_gradients(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


def test_small_probabilities_are_no_worse_than_by_the_reference():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((64, 4), (4, 32), (32,))]
    narrow = [jnp.asarray(a, jnp.float32) for a in arrays]
    fast = fourier_logits(*narrow, num_classes=50, eps=1e-12)
    naive = reference.fourier_logits(*narrow, num_classes=50, eps=1e-12)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a), jnp.float64) for a in narrow]
        truth = np.asarray(reference.fourier_logits(*wide, num_classes=50, eps=1e-12))
    errors = [np.nanmax(np.abs(np.asarray(x) - truth)) for x in (fast, naive)]
    assert errors[0] < 0.5 * errors[1] or errors[0] < 1e-4


def test_the_probabilities_sum_to_1_whatever_the_size_of_the_coefficients():
    features = jnp.asarray(FEATURES, jnp.float32)
    kernel, bias = jnp.asarray(KERNEL, jnp.float32), jnp.asarray(BIAS, jnp.float32)

    def logits_of(features, size):
        return fourier_logits(features, size * kernel, size * bias, num_classes=4)

    expected = logits_of(features, 1.0)
    np.testing.assert_allclose(jnp.exp(expected).sum(-1), 1 + 4e-5, rtol=1e-5)
    for size in (2.0**-100, 2.0**100):
        np.testing.assert_allclose(logits_of(features, size), expected, rtol=1e-5)
        gradient = jax.grad(lambda f, size=size: logits_of(f, size).sum())(features)
        wanted = jax.grad(lambda f: logits_of(f, 1.0).sum())(features)
        np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-4)


def test_coefficients_of_0_are_log_eps_without_a_gradient():
    kernel, bias = jnp.zeros((3, 4)), jnp.zeros(4)

    def logits_of(features):
        return fourier_logits(features, kernel, bias, num_classes=5)

    np.testing.assert_allclose(logits_of(jnp.ones((2, 3))), np.log(1e-5), rtol=1e-6)
    by_bias = jax.grad(
        lambda b: fourier_logits(jnp.ones(3), kernel, b, num_classes=5).sum()
    )(bias)
    np.testing.assert_array_equal(by_bias, 0)
    one = fourier_logits(jnp.ones(3), jnp.asarray(KERNEL), jnp.ones(6), num_classes=1)
    np.testing.assert_allclose(one, np.log1p(1e-5), atol=1e-7)


def test_rows_left_out_of_the_penalty_may_hold_anything():
    features = jnp.asarray(FEATURES, jnp.float32)
    kernel, bias = jnp.asarray(KERNEL, jnp.float32), jnp.asarray(BIAS, jnp.float32)
    where = jnp.array([True, False, True])

    def total(features, kernel):
        return fourier_penalty(features, kernel, bias, where=where).sum()

    both = jax.value_and_grad(total, (0, 1))
    found = both(features.at[1].set(jnp.nan), kernel)
    jax.tree.map(np.testing.assert_array_equal, found, both(features, kernel))
    assert fourier_penalty(features, kernel, bias, where=where)[1] == 0


def test_half_precision_is_summed_in_float32():
    arrays = [jnp.asarray(a, jnp.bfloat16) for a in (FEATURES, KERNEL, BIAS)]
    found = fourier_logits(*arrays, num_classes=4)
    wide = fourier_logits(*(a.astype(jnp.float32) for a in arrays), num_classes=4)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, rtol=1e-5, atol=1e-5)
    assert fourier_penalty(*arrays).dtype == jnp.float32


@pytest.mark.usefixtures("float64")
def test_as_softmax_on_top():
    logits = fourier_logits(FEATURES, KERNEL, BIAS, num_classes=4)
    loss = as_softmax_loss(logits, LABELS, delta=1.0)
    np.testing.assert_allclose(loss, softmax_loss(logits, LABELS), rtol=1e-12)


def test_what_does_not_fit_is_refused():
    features = jnp.ones((2, 3))
    with pytest.raises(ValueError, match=r"must have 2 \(K \+ 1\) columns"):
        fourier_logits(features, jnp.ones((3, 5)), jnp.ones(5), num_classes=4)
    with pytest.raises(ValueError, match=r"must have 2 \(K \+ 1\) columns"):
        fourier_penalty(features, jnp.ones((3, 4)), jnp.ones(2))
    with pytest.raises(
        ValueError, match="`num_classes` must be an integer of at least"
    ):
        fourier_logits(features, jnp.ones((3, 4)), jnp.ones(4), num_classes=0)
    with pytest.raises(ValueError, match="`eps` must be finite and above 0"):
        fourier_logits(features, jnp.ones((3, 4)), jnp.ones(4), num_classes=4, eps=0.0)
