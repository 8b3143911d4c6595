"""GOL: its published values inside the clip, and what holds in its place outside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import assert_is_derivative
from three_examples import LABELS, LOGITS

from as_softmax_jax.losses import gumbel_loss, gumbel_probs, multi_label_gumbel_loss


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
class TestPublishedValues:
    """Of the authors' code, whose clip of [-4, 10] the third row goes beyond."""

    def test_losses(self):
        losses = gumbel_loss(LOGITS, LABELS)
        np.testing.assert_allclose(losses[:2], [1.589493534, 3.79574641], rtol=1e-9)
        # Their third is 11.1945761, with -log(1 - e^-e^-10) for a logit of 11.
        inside = -np.log(-np.expm1(-np.exp(-10.0)))
        beyond = -np.log(-np.expm1(-np.exp(-11.0)))
        expected = 11.1945761 - inside + beyond
        np.testing.assert_allclose(losses[2], expected, rtol=1e-8)

    def test_gradients(self):
        gradient = jax.grad(lambda o: gumbel_loss(o, LABELS).sum())(jnp.asarray(LOGITS))
        expected = [
            [0.6458803553, 0.1920468748, -0.2231301601, 0.7020066121],
            [0.6749122596, -0.904837418, 0.3514246163, 0.9338581959],
        ]
        np.testing.assert_allclose(gradient[:2], expected, rtol=1e-8)
        # Theirs are 0 at -4.5 and at 11.
        a = np.exp([4.5, -11.0])
        outside = a / np.expm1(a)
        expected = [outside[0], 0.727204956, outside[1], -0.4065696597]
        np.testing.assert_allclose(gradient[2], expected, rtol=1e-8)

    def test_gradients_are_finite_differences(self):
        assert_is_derivative(lambda o: gumbel_loss(o, LABELS), LOGITS)


@pytest.mark.usefixtures("float64")
def test_a_negative_class_over_the_range_of_logits():
    """-log(1 - e^-a), a / (e^a - 1) and its derivative, in float32 by float64."""
    logits = np.concatenate([np.linspace(-9, 20, 400), [50, 100, 1e3, 1e30]])
    logits = logits.astype(np.float32)
    exact = logits.astype(np.float64)
    a = np.exp(-exact)
    with np.errstate(all="ignore"):
        loss = np.where(exact < 0, -np.log1p(-np.exp(-a)), -np.log(-np.expm1(-a)))
        loss = np.where(exact > 30, exact, loss)
        slope = np.where(exact > 30, 1, a * np.exp(-a) / -np.expm1(-a))

    def of(logit):
        # One label, which costs nothing here, and one other class.
        row = jnp.stack([jnp.full((), 110.0, logit.dtype), logit])
        return gumbel_loss(row, jnp.array(0))

    np.testing.assert_allclose(jax.vmap(of)(logits), loss, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(of))(logits), slope, rtol=1e-6, atol=1e-12
    )
    second = jax.vmap(jax.grad(jax.grad(of)))
    inside = np.abs(exact) < 8
    found, truth = second(logits), second(exact)
    assert jnp.isfinite(found).all()
    np.testing.assert_allclose(found[inside], truth[inside], rtol=1e-4, atol=1e-6)


def test_far_below_the_label_is_pulled_along_a_line():
    logits = jnp.array([[-4.0, -9.0], [-5.0, -9.0], [-1e4, -9.0], [-3e38, -9.0]])

    def total(o):
        return gumbel_loss(o, jnp.zeros(4, int))

    edge = np.exp(4.0)
    expected = [edge, 2 * edge, edge * (1e4 - 3), np.inf]
    np.testing.assert_allclose(total(logits), expected, rtol=1e-6)
    gradient = jax.grad(lambda o: total(o)[:3].sum())(logits)
    np.testing.assert_allclose(gradient[:3, 0], -edge, rtol=1e-6)


def test_probabilities():
    logits = jnp.array([[-1e4, -2.0, 0.0, 50.0, -jnp.inf]])
    expected = np.exp(-np.exp(-np.array([[-6.5, -2.0, 0.0, 50.0, -99.0]])))
    np.testing.assert_allclose(gumbel_probs(logits), expected, rtol=1e-6, atol=1e-30)
    gradient = jax.grad(lambda o: gumbel_probs(o).sum())(logits)
    assert jnp.isfinite(gradient).all()
    with jax.enable_x64(True):
        assert gumbel_probs(np.array([[0.0, -np.inf]]))[0, 1] == 0
    masked = gumbel_probs(logits, class_mask=jnp.array([True, True, True, False, True]))
    assert masked[0, 3] == 0


@pytest.mark.usefixtures("float64")
def test_the_loss_is_the_binary_cross_entropy_of_the_probabilities():
    targets = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]])
    logits = np.clip(LOGITS, -4, 4)
    p = np.asarray(gumbel_probs(logits))
    expected = -np.where(targets == 1, np.log(p), np.log1p(-p)).sum(-1)
    np.testing.assert_allclose(
        multi_label_gumbel_loss(logits, targets), expected, rtol=1e-10
    )
    onehot = np.eye(4, dtype=int)[LABELS]
    np.testing.assert_array_equal(
        multi_label_gumbel_loss(LOGITS, onehot), gumbel_loss(LOGITS, LABELS)
    )
