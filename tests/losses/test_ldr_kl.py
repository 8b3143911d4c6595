"""LDR-KL and ALDR-KL: normalised logits, and the temperature of an example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import draw, picked
from golden.case import A, B

from as_softmax_jax.losses import (
    LOSSES,
    aldr_kl_loss,
    aldr_kl_temperature,
    ldr_kl_loss,
    temperature_softmax_loss,
)

ROW = LOSSES["ldr_kl"]


def test_without_a_margin_it_is_softmax_at_a_temperature_less_a_constant():
    logits, labels = draw(ROW)
    for t in (0.5, 1.0, 10.0):
        found = ldr_kl_loss(logits, labels, temperature=t, margin=0.0)
        softmax = temperature_softmax_loss(logits, labels, temperature=t)
        expected = t * softmax - t * np.log(12)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_at_its_base_the_temperature_costs_nothing():
    logits, labels = draw(ROW)
    found = aldr_kl_loss(logits, labels, temperature=2.0, base=2.0)
    expected = ldr_kl_loss(logits, labels, temperature=2.0)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("logits", "expected"), [(A, 9.99156741834473), (B, 9.98805737746604)]
)
def test_the_temperature_of_normalised_logits(logits, expected):
    """base (1 - KL(softmax(x / base) || 1/4) / (2 log 4)), x = o / mean |o|."""
    with jax.enable_x64(True):
        found = aldr_kl_temperature(
            jnp.array(logits), temperature=10.0, base=10.0, logit_norm="l1"
        )
    x = np.array(logits) / np.abs(logits).mean() / 10
    p = np.exp(x) / np.exp(x).sum()
    by_hand = 10 * (1 - (p * np.log(4 * p)).sum() / (2 * np.log(4)))
    np.testing.assert_allclose([found, by_hand], expected, rtol=1e-12)


def test_a_temperature_stays_where_an_example_does_not_count():
    logits, _ = draw(ROW)
    old = jnp.linspace(0.5, 1.0, 8)
    bad = logits.at[1].set(jnp.nan).at[2].set(-jnp.inf)
    alone = jnp.full(logits.shape, -jnp.inf).at[:, 0].set(1.0)
    bad = bad.at[3].set(alone[3])
    new = aldr_kl_temperature(bad, temperature=old, where=~picked(0))
    stays = picked(0, 1, 2, 3)
    np.testing.assert_array_equal(new[stays], old[stays])
    assert (new[~stays] != old[~stays]).all()
    assert ((new > 0.5) & (new < 1))[~stays].all()
    mask = jnp.arange(12) < 6
    np.testing.assert_allclose(
        aldr_kl_temperature(logits, temperature=1.0, class_mask=mask),
        aldr_kl_temperature(logits[:, :6], temperature=1.0),
        rtol=1e-6,
    )


@pytest.mark.parametrize("logit_norm", ["softplus", "l1"])
class TestNormalisedLogits:
    def test_a_masked_class_has_no_part(self, logit_norm):
        logits, labels = draw(ROW)
        labels %= 6
        mask = jnp.arange(12) < 6
        absent = jnp.where(mask, logits, -jnp.inf)

        def of(logits, **masks):
            return ldr_kl_loss(logits, labels, logit_norm=logit_norm, **masks)

        for found in (of(logits, class_mask=mask), of(absent)):
            np.testing.assert_allclose(found, of(logits[:, :6]), rtol=1e-5)

    def test_is_its_reference_with_a_gradient_through_the_mean(self, logit_norm):
        with jax.enable_x64(True):
            logits, labels = draw(ROW, dtype="float64")
            keywords = {"temperature": jnp.full(8, 3.0), "margin": jnp.full(8, 0.2)}

            def of(function):
                def f(o):
                    return function(o, labels, logit_norm=logit_norm, **keywords).sum()

                return jax.value_and_grad(f)(logits)

            for found, expected in zip(of(ldr_kl_loss), of(ROW.reference), strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)

    def test_logits_of_0_give_finite_gradients(self, logit_norm):
        def f(o):
            return ldr_kl_loss(o, jnp.array([1]), logit_norm=logit_norm).sum()

        assert jnp.isfinite(jax.grad(f)(jnp.zeros((1, 3)))).all()


def test_what_cannot_be_is_refused():
    logits, labels = draw(ROW)
    with pytest.raises(ValueError, match="`logit_norm` must be one of"):
        ldr_kl_loss(logits, labels, logit_norm="l2")
    with pytest.raises(ValueError, match="`alpha` must be above 1"):
        aldr_kl_loss(logits, labels, temperature=1.0, alpha=1.0)
    with pytest.raises(ValueError, match="`alpha` must be above 1"):
        aldr_kl_temperature(logits, temperature=1.0, alpha=1.0)
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        aldr_kl_temperature(logits, temperature=0.0)


def test_no_gradient_flows_through_the_temperature():
    logits, labels = draw(ROW)

    def total(temperature):
        return aldr_kl_loss(logits, labels, temperature=temperature).sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.full(8, 0.7)), 0)

    def of_update(o):
        return aldr_kl_temperature(o, temperature=1.0).sum()

    np.testing.assert_array_equal(jax.grad(of_update)(logits), 0)
