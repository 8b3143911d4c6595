"""Cosines in place of logits: values, norms of 0, centres, a class more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from three_examples import FEATURES, KERNEL, LABELS

from as_softmax_jax import as_softmax_loss
from as_softmax_jax.heads import append_class, cosine_logits
from as_softmax_jax.losses import arcface_loss, margin_logits


def plain(features, kernel):
    return (features @ kernel) / (
        np.linalg.norm(features, axis=-1, keepdims=True)
        * np.linalg.norm(kernel, axis=0)
    )


def test_float64_values():
    with jax.enable_x64(True):
        result = cosine_logits(FEATURES, KERNEL)
        np.testing.assert_allclose(result, plain(FEATURES, KERNEL), rtol=1e-14)


def test_either_layout_and_any_number_of_axes():
    features = jnp.asarray(FEATURES, jnp.float32).reshape(3, 1, 3)
    kernel = jnp.asarray(KERNEL, jnp.float32)
    expected = cosine_logits(features, kernel)
    assert expected.shape == (3, 1, 4)
    other = cosine_logits(features, kernel.T, kernel_layout="cd")
    np.testing.assert_array_equal(other, expected)


def test_half_precision_is_summed_in_float32():
    # The operands are rounded once, as they come; nothing is rounded on the way.
    features, kernel = (jnp.asarray(a, jnp.bfloat16) for a in (FEATURES, KERNEL))
    result = cosine_logits(features, kernel)
    assert result.dtype == jnp.float32
    exact = plain(np.asarray(features, np.float64), np.asarray(kernel, np.float64))
    np.testing.assert_allclose(result, exact, rtol=1e-6, atol=1e-7)


def test_vectors_of_0_have_a_cosine_and_a_gradient_of_0():
    features = jnp.zeros((1, 3))
    kernel = jnp.asarray(KERNEL, jnp.float32).at[:, 1].set(0)

    def total(features, kernel):
        return jnp.sum(cosine_logits(features, kernel) * jnp.arange(1.0, 5.0)[None])

    assert (cosine_logits(features, kernel) == 0).all()
    by_features, by_kernel = jax.grad(total, (0, 1))(features, kernel)
    assert (by_features == 0).all()
    assert (by_kernel == 0).all()
    aligned = jax.grad(total, 1)(jnp.asarray(FEATURES, jnp.float32), kernel)
    assert (aligned[:, 1] == 0).all()
    assert jnp.isfinite(aligned).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_at_a_cosine_of_1_or_minus_1_margins_have_a_gradient(sign):
    kernel = jnp.asarray(KERNEL, jnp.float32)
    features = sign * kernel[:, :1].T

    def loss(features):
        return arcface_loss(cosine_logits(features, kernel), jnp.array([0])).sum()

    assert jnp.isfinite(jax.grad(loss)(features)).all()


def test_the_nearest_centre_counts():
    with jax.enable_x64(True):
        # Each class has its column, and half of it plus 0.2.
        pairs = np.stack([KERNEL, KERNEL / 2 + 0.2], -1).reshape(3, 8)
        cosines = cosine_logits(FEATURES, pairs, sub_centers=2)
        # As pytorch-metric-learning's SubCenterArcFaceLoss has it.
        expected = [0.6311693878, 11.38621482, 24.44539393]
        loss = arcface_loss(cosines, LABELS)
        np.testing.assert_allclose(loss, expected, rtol=1e-9)


def test_as_softmax_on_margin_logits():
    with jax.enable_x64(True):

        def losses(features):
            cosines = cosine_logits(features, KERNEL)
            lowered = margin_logits(cosines, LABELS, scale=4.0, cosine=0.35)
            return as_softmax_loss(lowered, LABELS, delta=0.1)

        features = jnp.asarray(FEATURES)
        expected = [0.7054390578, 0.7250462505, 1.538015224]
        np.testing.assert_allclose(losses(features), expected, rtol=1e-9)
        gradient = jax.grad(lambda f: losses(f).sum())(features)
        np.testing.assert_allclose(
            gradient,
            [
                [-0.2019678168, -0.1221625051, -0.09453253694],
                [-0.05827949418, -0.1841402015, 0.1326932459],
                [0.8992457752, 0.2913527314, -0.3521420358],
            ],
            rtol=1e-9,
        )


def test_a_class_more():
    kernel = jnp.asarray(KERNEL, jnp.float32)
    new = jnp.array([[3.0, 0.0, 0.0], [0.0, 0.5, 0.0], [9.0, 9.0, 9.0]])
    where = jnp.array([True, True, False])
    result = append_class(kernel, new, where=where)
    np.testing.assert_array_equal(result[:, :4], kernel)
    root = 0.5**0.5
    np.testing.assert_allclose(result[:, 4], [root, root, 0.0], rtol=1e-6)
    turned = append_class(kernel.T, new, where=where, kernel_layout="cd")
    np.testing.assert_array_equal(turned, result.T)
    opposite = append_class(kernel, jnp.array([[1.0, 0, 0], [-1.0, 0, 0]]))
    assert (opposite[:, 4] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": np.ones((2, 4))}, "must be .D, C. for features"),
        ({"sub_centers": 3}, "columns a class"),
        ({"sub_centers": 0}, "sub_centers"),
        ({"kernel_layout": "xy"}, "kernel_layout"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    given = {"kernel": KERNEL} | arguments
    kernel = jnp.asarray(given.pop("kernel"), jnp.float32)
    with pytest.raises(ValueError, match=message):
        cosine_logits(jnp.asarray(FEATURES, jnp.float32), kernel, **given)
