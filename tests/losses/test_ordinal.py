"""Ordered classes: labels up to the number of thresholds, and their probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.losses import (
    LOSSES,
    multi_label_sigmoid_loss,
    ordinal_cross_entropy_loss,
    ordinal_probs,
)

LOGITS = jnp.array([[2.0, 0.5, -1.0, -40.0]])


def test_a_label_passes_the_thresholds_below_it():
    for label in range(5):
        passed = (np.arange(4) < label)[None]
        np.testing.assert_array_equal(
            ordinal_cross_entropy_loss(LOGITS, jnp.array([label])),
            multi_label_sigmoid_loss(LOGITS, jnp.asarray(passed)),
        )
    outside = jnp.array([5])
    assert jnp.isnan(ordinal_cross_entropy_loss(LOGITS, outside)).all()
    assert LOSSES["ordinal_cross_entropy"].num_logits(5) == 4


def test_two_classes_are_logistic_regression():
    loss = ordinal_cross_entropy_loss(jnp.array([[1.5], [1.5]]), jnp.array([0, 1]))
    np.testing.assert_allclose(
        loss, [np.log1p(np.exp(1.5)), np.log1p(np.exp(-1.5))], rtol=1e-6
    )


def test_a_threshold_that_is_masked_has_no_part():
    mask = jnp.array([True, False, True, True])
    loss = ordinal_cross_entropy_loss(LOGITS, jnp.array([2]), class_mask=mask)
    expected = np.log1p(np.exp([-2.0, -1.0, -40.0])).sum()
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_probabilities_are_differences_of_sigmoids(axis):
    share = 1 / (1 + np.exp(-np.array([2.0, 0.5, -1.0])))
    expected = [1 - share[0], share[0] - share[1], share[1] - share[2], share[2]]
    logits = jnp.moveaxis(LOGITS[:, :3], 1, axis)
    probs = jnp.moveaxis(ordinal_probs(logits, axis=axis), axis, 1)
    np.testing.assert_allclose(probs, [expected], rtol=1e-6)


def test_probabilities_near_1_keep_their_digits():
    high = jnp.array([40.0, 30.0, 20.0])
    found = ordinal_probs(high)
    mirrored = ordinal_probs(-high[::-1])[::-1]
    np.testing.assert_allclose(found, mirrored, rtol=1e-6)
    np.testing.assert_allclose(
        found[1], np.exp(-30.0) - np.exp(-40.0), rtol=1e-5, atol=0
    )


def test_half_precision_and_wrong_input():
    probs = ordinal_probs(LOGITS.astype(jnp.bfloat16))
    assert probs.dtype == jnp.float32
    for logits, error in (
        (jnp.ones(2, int), TypeError),
        (jnp.ones((3, 0)), ValueError),
    ):
        with pytest.raises(error, match="`logits` must"):
            ordinal_probs(logits)
    slope = jax.grad(lambda o: ordinal_probs(o)[0, 2])(LOGITS)
    assert jnp.isfinite(slope).all()
