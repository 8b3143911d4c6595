"""Soft top-k: the threshold by itself, where it is hard to find, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import draw

from as_softmax_jax.losses import LOSSES, multi_label_soft_top_k_loss

ROW = LOSSES["multi_label_soft_top_k"]


def chances(logits, k, alpha=2.0):
    """sigma(alpha (o + tau)) of each class, from the losses of each as the label."""
    targets = jnp.eye(logits.shape[-1], dtype=jnp.int32)
    each = jnp.broadcast_to(logits, targets.shape)
    return jnp.exp(-multi_label_soft_top_k_loss(each, targets, k=k, alpha=alpha))


@pytest.mark.parametrize("alpha", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("k", [1, 4, 11])
def test_the_chances_sum_to_k(k, alpha):
    logits, _ = draw(ROW)
    for row in logits:
        np.testing.assert_allclose(chances(row, k, alpha).sum(), k, rtol=1e-5)


@pytest.mark.parametrize("size", [10, 100_000])
def test_of_equal_classes_each_has_its_share(size):
    """Ten over alpha, the bracket of the authors' code, is too small for many."""
    targets = jnp.zeros((1, size), jnp.int32).at[0, 3].set(1)
    loss = multi_label_soft_top_k_loss(jnp.full((1, size), 7.0), targets, k=5)
    np.testing.assert_allclose(loss, np.log(size / 5), rtol=1e-5)


def test_far_apart_the_threshold_is_midway():
    logits = jnp.array([[500.0, 300.0, -1e5]])
    for label, expected in ((0, 0.0), (1, 2.0 * 100), (2, 2.0 * (1e5 + 400))):
        targets = jax.nn.one_hot(jnp.array([label]), 3, dtype=jnp.int32)
        loss = multi_label_soft_top_k_loss(logits, targets, k=1)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_without_a_choice_to_make_nothing_is_learnt():
    logits, targets = draw(ROW)
    few = jnp.arange(12) < 5
    for keywords in ({"k": 12}, {"k": 20}, {"class_mask": few}):

        def total(o, keywords=keywords):
            return multi_label_soft_top_k_loss(o, targets, **keywords).sum()

        loss, gradient = jax.value_and_grad(total)(logits)
        assert loss == 0
        np.testing.assert_array_equal(gradient, 0)
    nothing = jnp.zeros(logits.shape, int)
    np.testing.assert_array_equal(multi_label_soft_top_k_loss(logits, nothing), 0)


def test_the_gradient_goes_through_the_threshold():
    """It sums to 0: with all logits the threshold moves."""
    logits, targets = draw(ROW)
    gradient = jax.grad(lambda o: multi_label_soft_top_k_loss(o, targets, k=3).sum())(
        logits
    )
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-6)
    assert (jnp.abs(gradient).sum(axis=1) > 0.1).all()


def test_a_number_of_classes_that_cannot_be_is_refused():
    logits, targets = draw(ROW)
    with pytest.raises(ValueError, match="`k` must be at least 1"):
        multi_label_soft_top_k_loss(logits, targets, k=0)
    with pytest.raises(TypeError, match="`k` must be an integer"):
        multi_label_soft_top_k_loss(logits, targets, k=2.5)
