"""Softmax, temperature, label smoothing and focal: their numbers and their limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from as_softmax_jax.losses import (
    focal_loss,
    label_smoothing_loss,
    softmax_loss,
    temperature_softmax_loss,
)

exp, log = np.exp, np.log
LOGITS = jnp.array([[1.0, 2.0, 0.5], [3.0, -1.0, 3.0]])
LABELS = jnp.array([1, 0], jnp.int32)
ULP = np.finfo(np.float32).eps
TOTAL = exp(1.0) + exp(2.0) + exp(0.5)


def gradient(loss, logits, *args, **keywords):
    return jax.jit(jax.grad(lambda o: loss(o, *args, **keywords).sum()))(logits)


def random(rows=200, classes=20, scale=5.0):
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(rows, classes)) * scale).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(rng.integers(0, classes, rows, np.int32))


def test_softmax_is_its_formula():
    loss = softmax_loss(LOGITS, LABELS)
    total = 2 * exp(3.0) + exp(-1.0)
    expected = [-log(exp(2.0) / TOTAL), -log(exp(3.0) / total)]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_softmax_equals_optax_to_a_few_ulp():
    logits, labels = random()
    optax_loss = optax.softmax_cross_entropy_with_integer_labels
    np.testing.assert_allclose(
        softmax_loss(logits, labels), optax_loss(logits, labels), 4 * ULP, 4 * ULP
    )
    np.testing.assert_allclose(
        gradient(softmax_loss, logits, labels),
        gradient(optax_loss, logits, labels),
        8 * ULP,
        4 * ULP,
    )


def test_a_label_of_minus_1_is_nan_where_optax_scores_the_last_class():
    labels = jnp.array([-1, 0], jnp.int32)
    assert jnp.isnan(softmax_loss(LOGITS, labels)[0])
    expected = optax.softmax_cross_entropy_with_integer_labels(LOGITS, labels)
    np.testing.assert_allclose(expected[0], softmax_loss(LOGITS[0], 2), rtol=1e-6)


@pytest.mark.parametrize("gap", [5.0, 20.0, 60.0, 85.0])
def test_a_small_loss_keeps_its_digits(gap):
    # -log p = log(1 + exp(-gap)), which log(sum) loses below one unit of rounding,
    # and so does optax; `softmax_loss` follows optax to the ulp.
    logits = jnp.array([[gap, 0.0]])
    labels = jnp.array([0], jnp.int32)
    loss = functools.partial(temperature_softmax_loss, temperature=1.0)
    np.testing.assert_allclose(loss(logits, labels), [np.log1p(exp(-gap))], 1e-5)
    expected = exp(-gap) / (1 + exp(-gap))
    slope = gradient(loss, logits, labels)
    np.testing.assert_allclose(slope, [[-expected, expected]], 1e-5)


def test_temperature_divides_the_logits():
    loss = temperature_softmax_loss(LOGITS, LABELS, temperature=4.0)
    np.testing.assert_allclose(loss, softmax_loss(LOGITS / 4, LABELS), rtol=1e-6)
    loss = temperature_softmax_loss(LOGITS, LABELS, temperature=1.0)
    np.testing.assert_allclose(loss, softmax_loss(LOGITS, LABELS), 4 * ULP)


def test_temperature_may_be_learnt_beside_a_class_of_probability_0():
    logits = LOGITS.at[:, 2].set(-jnp.inf)

    @jax.jit
    def loss(temperature, o):
        return temperature_softmax_loss(o, LABELS, temperature=temperature).sum()

    slope = jax.jit(jax.grad(loss))(1.5, logits)
    finite = jnp.where(jnp.isinf(logits), -1e3, logits)
    difference = (loss(1.51, finite) - loss(1.49, finite)) / 0.02
    np.testing.assert_allclose(slope, difference, rtol=1e-3)


@pytest.mark.parametrize("temperature", [0, -1.0, np.inf])
def test_temperature_must_be_positive(temperature):
    message = rf"`temperature` must be positive and finite; got {temperature}\."
    with pytest.raises(ValueError, match=message):
        temperature_softmax_loss(LOGITS, LABELS, temperature=temperature)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
def test_label_smoothing_equals_optax(smoothing):
    logits, labels = random()
    onehot = jax.nn.one_hot(labels, logits.shape[-1])

    def optax_loss(o):
        return optax.softmax_cross_entropy(o, optax.smooth_labels(onehot, smoothing))

    loss = label_smoothing_loss(logits, labels, smoothing=smoothing)
    np.testing.assert_allclose(loss, optax_loss(logits), 8 * ULP, 4 * ULP)
    slope = gradient(label_smoothing_loss, logits, labels, smoothing=smoothing)
    np.testing.assert_allclose(slope, gradient(optax_loss, logits), 1e-5, 8 * ULP)


def test_no_label_smoothing_is_softmax():
    loss = label_smoothing_loss(LOGITS, LABELS, smoothing=0.0)
    np.testing.assert_allclose(loss, softmax_loss(LOGITS, LABELS), 4 * ULP)


def test_masked_classes_carry_no_mass():
    mask = jnp.array([True, True, False])
    loss = label_smoothing_loss(LOGITS, LABELS, smoothing=0.3, class_mask=mask)
    p = 1 / (1 + exp(-1.0))  # of class 1 against class 0
    np.testing.assert_allclose(loss[0], -0.85 * log(p) - 0.15 * log(1 - p), rtol=1e-6)


def test_label_smoothing_is_finite_at_the_ends_of_float32():
    logits = jnp.array([[3e38, -3e38, 0.0]])
    labels = jnp.array([0], jnp.int32)
    loss = label_smoothing_loss(logits, labels, smoothing=0.1)
    np.testing.assert_allclose(loss, [0.1 / 3 * 6e38 + 0.1 / 3 * 3e38], rtol=1e-6)


def test_focal_is_its_formula():
    p = exp(2.0) / TOTAL
    for gamma in (0.5, 2.0, 5.0):
        loss = focal_loss(LOGITS, LABELS, gamma=gamma)
        np.testing.assert_allclose(loss[0], -((1 - p) ** gamma) * log(p), rtol=1e-5)


def test_focal_with_gamma_0_is_softmax():
    logits, labels = random()
    loss = focal_loss(logits, labels, gamma=0.0)
    np.testing.assert_allclose(loss, softmax_loss(logits, labels), 4 * ULP, 4 * ULP)
    np.testing.assert_allclose(
        gradient(focal_loss, logits, labels, gamma=0.0),
        gradient(softmax_loss, logits, labels),
        8 * ULP,
        4 * ULP,
    )


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 1e30])
def test_focal_gradients_are_finite_up_to_probability_1(gamma):
    gap = jnp.array([0.0, 1, 10, 50, 88, 104, 1e3, 3e38, -1e3, -3e38])
    logits = jnp.stack([gap, jnp.zeros_like(gap)], axis=-1)
    labels = jnp.zeros(gap.shape, jnp.int32)
    slope = gradient(focal_loss, logits, labels, gamma=gamma)
    assert jnp.isfinite(slope).all()
    assert (slope[:, 0] <= 0).all()


def test_focal_keeps_its_digits_near_probability_1():
    # (1 - p)^2 -log p is about exp(-3 gap); 1 - p in float32 would be 0 from 17 on.
    logits = jnp.array([[20.0, 0.0]])
    loss = focal_loss(logits, jnp.array([0], jnp.int32), gamma=2.0)
    np.testing.assert_allclose(loss, [exp(-60.0)], rtol=1e-4)


@pytest.mark.parametrize(
    "loss", [softmax_loss, label_smoothing_loss, focal_loss, temperature_softmax_loss]
)
def test_hessians_by_any_mode_agree(loss):
    def value(o):
        return loss(o, LABELS).sum()

    forward = jax.jit(jax.jacfwd(jax.jacrev(value)))(LOGITS)
    reverse = jax.jit(jax.jacrev(jax.jacrev(value)))(LOGITS)
    np.testing.assert_allclose(forward, reverse, rtol=1e-5, atol=1e-6)
    assert jnp.isfinite(forward).all()
