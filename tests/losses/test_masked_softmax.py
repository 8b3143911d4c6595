"""Masked softmax: what is inactive, and the constant that stands for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import draw

from as_softmax_jax.losses import LOSSES, masked_softmax_loss, softmax_loss

ROW = LOSSES["masked_softmax"]
ACTIVE = jnp.arange(12) < 5


def of(logits, labels, **keywords):
    """Loss and gradient of each row."""
    loss, vjp = jax.vjp(lambda o: masked_softmax_loss(o, labels, **keywords), logits)
    return loss, vjp(jnp.ones_like(loss))[0]


def test_without_the_inactive_it_is_softmax_over_the_active():
    logits, labels = draw(ROW)
    for found, expected in zip(
        of(logits, labels, active=ACTIVE),
        jax.value_and_grad(lambda o: softmax_loss(o, labels, class_mask=ACTIVE).sum())(
            logits
        ),
        strict=True,
    ):
        found = found if found.ndim > 1 else found.sum()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mask_value", [-np.inf, -2.0, 3.0])
def test_inactive_classes_have_a_gradient_of_exactly_0(mask_value):
    logits, labels = draw(ROW)
    _, gradient = of(logits, labels, active=ACTIVE, mask_value=mask_value)
    inactive = ~ACTIVE[None] & ~jax.nn.one_hot(labels, 12, dtype=bool)
    np.testing.assert_array_equal(gradient[inactive], 0)
    assert (gradient[~inactive] != 0).all()


def test_a_finite_constant_stands_for_each_inactive_class():
    logits, labels = draw(ROW, scale=1.0)
    labels %= 5
    found, _ = of(logits, labels, active=ACTIVE, mask_value=0.5)
    total = np.exp(np.asarray(logits)[:, :5]).sum(axis=1) + 7 * np.exp(0.5)
    own = np.asarray(logits)[np.arange(8), labels]
    np.testing.assert_allclose(found, np.log(total) - own, rtol=1e-5)
    # A masked class is no inactive one: it leaves the sum.
    mask = jnp.arange(12) < 10
    found, _ = of(logits, labels, active=ACTIVE, mask_value=0.5, class_mask=mask)
    np.testing.assert_allclose(found, np.log(total - 2 * np.exp(0.5)) - own, rtol=1e-5)


def test_each_row_may_have_classes_of_its_own():
    logits, labels = draw(ROW)
    rows = jax.random.bernoulli(jax.random.key(0), 0.5, logits.shape)
    found, gradient = of(logits, labels, active=rows, mask_value=-1.0)
    for i in range(8):
        loss, slope = of(logits[i], labels[i], active=rows[i], mask_value=-1.0)
        np.testing.assert_allclose(found[i], loss, rtol=1e-6)
        np.testing.assert_allclose(gradient[i], slope, rtol=1e-5, atol=1e-7)


def test_a_label_alone_costs_nothing_and_one_of_probability_0_everything():
    none, label = jnp.zeros(3, bool), jnp.array(1)
    assert masked_softmax_loss(jnp.arange(3.0), label, active=none) == 0
    logits = jnp.array([1.0, -jnp.inf, 2.0])
    loss, slope = of(logits, label, active=none)
    assert loss == jnp.inf
    assert jnp.isfinite(slope).all()


def test_classes_of_a_wrong_form_are_refused():
    logits, labels = draw(ROW)
    with pytest.raises(TypeError, match="`active` must be boolean"):
        masked_softmax_loss(logits, labels, active=jnp.ones(12))
    with pytest.raises(ValueError, match=r"`active` must have one entry a class, \(12"):
        masked_softmax_loss(logits, labels, active=jnp.ones(8, bool))
    with pytest.raises(ValueError, match="`mask_value` must be a number or -inf"):
        masked_softmax_loss(logits, labels, active=ACTIVE, mask_value=np.inf)
