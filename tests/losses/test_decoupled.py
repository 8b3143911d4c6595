"""Decoupled softmax: labels that do not compete with each other."""

import jax
import jax.numpy as jnp
import numpy as np
from battery import draw

from as_softmax_jax.losses import (
    LOSSES,
    multi_label_decoupled_softmax_loss,
    softmax_loss,
)

ROW = LOSSES["multi_label_decoupled_softmax"]


def loss_and_gradient(f, logits):
    loss, vjp = jax.vjp(f, logits)
    return loss, vjp(jnp.ones_like(loss))[0]


def test_with_one_label_it_is_softmax():
    logits, _ = draw(ROW)
    labels = jnp.arange(8)
    targets = jax.nn.one_hot(labels, 12, dtype=jnp.int32)
    found = loss_and_gradient(
        lambda o: multi_label_decoupled_softmax_loss(o, targets), logits
    )
    expected = loss_and_gradient(lambda o: softmax_loss(o, labels), logits)
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-7)


def test_other_labels_have_no_part_in_a_labels_loss():
    logits, targets = draw(ROW)
    loss = multi_label_decoupled_softmax_loss(logits, targets)
    for i in range(8):
        labels = np.flatnonzero(targets[i])
        masks = [(targets[i] == 0).at[t].set(True) for t in labels]
        alone = [
            softmax_loss(logits[i], jnp.array(t), class_mask=mask)
            for t, mask in zip(labels, masks, strict=True)
        ]
        np.testing.assert_allclose(loss[i], np.mean(alone), rtol=1e-5)


def test_without_labels_or_without_negatives_there_is_nothing_to_learn():
    logits, _ = draw(ROW)
    for fill in (0, 1):
        targets = jnp.full(logits.shape, fill)
        loss, gradient = loss_and_gradient(
            lambda o, t=targets: multi_label_decoupled_softmax_loss(o, t), logits
        )
        np.testing.assert_array_equal(loss, 0)
        np.testing.assert_array_equal(gradient, 0)


def test_logits_below_any_stand_in_count():
    """The authors' code has -100 in place of what is left out."""
    logits, targets = jnp.array([[-200.0, -201.0, -202.0]]), jnp.array([[1, 0, 0]])
    loss = multi_label_decoupled_softmax_loss(logits, targets)
    np.testing.assert_allclose(loss, np.log1p(np.exp(-1) + np.exp(-2)), rtol=1e-6)
