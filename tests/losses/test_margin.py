"""AM-Softmax and SM-Softmax: their numbers and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.losses import (
    am_softmax_loss,
    soft_margin_softmax_loss,
    softmax_loss,
)

exp, log = np.exp, np.log
COSINES = jnp.array([[0.9, 0.4, -0.2], [0.1, 0.3, 0.2]])
LABELS = jnp.array([0, 2], jnp.int32)


def test_am_softmax_is_its_formula():
    loss = am_softmax_loss(COSINES, LABELS, margin=0.2, scale=10.0)
    own = [exp(10 * (0.9 - 0.2)), exp(10 * (0.2 - 0.2))]
    others = [exp(10 * 0.4) + exp(10 * -0.2), exp(10 * 0.1) + exp(10 * 0.3)]
    expected = [-log(a / (a + b)) for a, b in zip(own, others, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_am_softmax_without_margin_is_softmax_of_the_scaled_cosines():
    loss = am_softmax_loss(COSINES, LABELS, margin=0.0, scale=30.0)
    np.testing.assert_allclose(loss, softmax_loss(30 * COSINES, LABELS), 1e-5, 1e-6)


def test_soft_margin_lowers_the_label_alone():
    loss = soft_margin_softmax_loss(COSINES, LABELS, margin=0.7)
    lowered = COSINES - 0.7 * jax.nn.one_hot(LABELS, 3)
    np.testing.assert_allclose(loss, softmax_loss(lowered, LABELS), rtol=1e-6)


def test_no_soft_margin_is_softmax():
    loss = soft_margin_softmax_loss(COSINES, LABELS, margin=0.0)
    np.testing.assert_allclose(loss, softmax_loss(COSINES, LABELS), 1e-6)


def test_margin_and_scale_may_be_learnt():
    def loss(margin, scale):
        return am_softmax_loss(COSINES, LABELS, margin=margin, scale=scale).sum()

    step = 1e-2
    for i, slope in enumerate(jax.grad(loss, argnums=(0, 1))(0.35, 10.0)):
        ahead, behind = np.array([0.35, 10.0]), np.array([0.35, 10.0])
        ahead[i] += step
        behind[i] -= step
        expected = (loss(*map(float, ahead)) - loss(*map(float, behind))) / (2 * step)
        np.testing.assert_allclose(slope, expected, rtol=1e-2)


@pytest.mark.parametrize(
    ("loss", "keyword", "value", "allowed"),
    [
        (am_softmax_loss, "margin", -0.1, "at least 0 and finite"),
        (am_softmax_loss, "scale", 0.0, "positive and finite"),
        (soft_margin_softmax_loss, "margin", np.inf, "at least 0 and finite"),
    ],
)
def test_a_parameter_out_of_range_is_refused(loss, keyword, value, allowed):
    with pytest.raises(
        ValueError, match=rf"`{keyword}` must be {allowed}; got {value}"
    ):
        loss(COSINES, LABELS, **{keyword: value})
