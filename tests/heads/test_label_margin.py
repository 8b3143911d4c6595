"""L-Softmax and Noisy Softmax: published values, references, the ends of the circle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import assert_is_derivative, assert_no_worse
from three_examples import FEATURES, KERNEL, LABELS

from as_softmax_jax import as_softmax_loss
from as_softmax_jax.heads import (
    l_softmax_logits,
    l_softmax_loss,
    noisy_softmax_logits,
    noisy_softmax_loss,
)
from as_softmax_jax.losses import softmax_loss
from as_softmax_jax.reference import _label_margin as reference

NOISE = np.array([0.3, -1.2, 0.8])


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
class TestPublishedValues:
    """L-Softmax of pytorch-metric-learning; noisy softmax of the paper's equations."""

    def test_l_softmax(self):
        def losses(features, kernel, **keywords):
            return l_softmax_loss(features, kernel, LABELS, **keywords)

        expected = [3.086027348, 8.058567792, 5.835672268]
        np.testing.assert_allclose(losses(FEATURES, KERNEL), expected, rtol=1e-9)
        gradient = jax.grad(lambda f: losses(f, KERNEL).sum())(FEATURES)
        expected = [
            [-0.464679561, 1.374789333, 0.2004626381],
            [2.434216447, -2.479493801, -3.519526583],
            [0.2591702401, 3.844602704, 1.660175396],
        ]
        np.testing.assert_allclose(gradient, expected, rtol=1e-8)
        assert_is_derivative(losses, FEATURES, KERNEL)
        blended = losses(FEATURES, KERNEL, margin=2, blend=5.0)
        expected = [0.8027136532, 0.4957970201, 0.6791453273]
        np.testing.assert_allclose(blended, expected, rtol=1e-9)

    def test_noisy_softmax(self):
        def losses(features, kernel):
            return noisy_softmax_loss(features, kernel, LABELS, noise=NOISE)

        expected = [0.6840109003, 0.3258429604, 0.5062122181]
        np.testing.assert_allclose(losses(FEATURES, KERNEL), expected, rtol=1e-9)
        gradient = jax.grad(lambda f: losses(f, KERNEL).sum())(FEATURES)
        expected = [
            [-0.06066874799, -0.2597651608, 0.179042805],
            [-0.1557842532, -0.1030963525, 0.2324797181],
            [0.001969938291, 0.1878792398, -0.6016571686],
        ]
        np.testing.assert_allclose(gradient, expected, rtol=1e-8)
        assert_is_derivative(losses, FEATURES, KERNEL)


def drawn(dtype, num_rows=8, width=5, num_classes=7):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(num_rows, width))
    kernel = rng.normal(size=(width, num_classes))
    labels = jnp.asarray(rng.integers(0, num_classes, num_rows))
    return jnp.asarray(features, dtype), jnp.asarray(kernel, dtype), labels


@pytest.mark.parametrize("name", ["l_softmax", "noisy_softmax"])
def test_is_no_worse_than_its_reference(name):
    def with_gradients(f, features, kernel):
        value, vjp = jax.vjp(f, features, kernel)
        return value, *vjp(jnp.ones_like(value))

    def pair(labels, dtype):
        numbers = jnp.linspace(0.1, 2.0, len(labels), dtype=dtype)
        if name == "l_softmax":
            return (
                lambda f, w: l_softmax_loss(f, w, labels, margin=3, blend=numbers),
                lambda f, w: reference.l_softmax_loss(f, w, labels, numbers, 3),
            )
        return (
            lambda f, w: noisy_softmax_loss(f, w, labels, noise=numbers, alpha=0.3),
            lambda f, w: reference.noisy_softmax_loss(f, w, labels, numbers, 0.3),
        )

    *arrays, labels = drawn(jnp.float32)
    fast, plain = (with_gradients(f, *arrays) for f in pair(labels, jnp.float32))
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a), jnp.float64) for a in arrays]
        found, truth = (with_gradients(f, *wide) for f in pair(labels, jnp.float64))
        for a, b in zip(found, truth, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
    for a, n, t in zip(fast, plain, truth, strict=True):
        assert_no_worse(a, n, t, slack=4e-6)


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
@pytest.mark.usefixtures("float64")
def test_psi_falls_without_a_jump_from_1_to_1_minus_2m(margin):
    angles = np.linspace(0, np.pi, 1001)
    features = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    kernel, labels = np.array([[1.0], [0.0]]), np.zeros(1001, int)
    psi = l_softmax_logits(features, kernel, labels, margin=margin)[:, 0]
    np.testing.assert_allclose(psi[:2], np.cos(margin * angles[:2]), rtol=1e-12)
    assert psi[0] == pytest.approx(1)
    assert psi[-1] == pytest.approx(1 - 2 * margin)
    assert (np.diff(psi) < 0).all()
    assert np.abs(np.diff(psi)).max() < 1.1 * margin * np.pi / 1000


def test_without_a_margin_or_noise_both_are_softmax():
    features, kernel, labels = drawn(jnp.float32)
    expected = softmax_loss(features @ kernel, labels)
    same = l_softmax_loss(features, kernel, labels, margin=1)
    np.testing.assert_allclose(same, expected, rtol=1e-5, atol=1e-6)
    same = l_softmax_loss(features, kernel, labels, margin=4, blend=1e9)
    np.testing.assert_allclose(same, expected, rtol=1e-5, atol=1e-6)
    noise = jnp.ones(8)
    same = noisy_softmax_loss(features, kernel, labels, noise=noise, alpha=0.0)
    np.testing.assert_array_equal(same, expected)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_ends_of_the_circle_have_a_finite_gradient(sign):
    kernel = jnp.asarray(KERNEL, jnp.float32)
    features = jnp.stack([sign * kernel[:, 0], jnp.zeros(3)])
    kernel = kernel.at[:, 1].set(0)
    labels = jnp.array([0, 1])
    for f in (
        lambda x, w: l_softmax_loss(x, w, labels),
        lambda x, w: noisy_softmax_loss(x, w, labels, noise=jnp.ones(2)),
    ):
        gradients = jax.grad(lambda x, w, f=f: f(x, w).sum(), (0, 1))(features, kernel)
        assert all(jnp.isfinite(g).all() for g in gradients)
    # Features and weights of 0: every logit is 0.
    np.testing.assert_allclose(f(features, kernel)[1], np.log(4), rtol=1e-6)


@pytest.mark.parametrize("loss", [l_softmax_loss, noisy_softmax_loss])
def test_rows_left_out_may_hold_anything(loss):
    features, kernel, labels = drawn(jnp.float32)
    where = jnp.arange(8) != 2
    numbers = jnp.full(8, 0.5)
    own = {"noise": numbers} if loss is noisy_softmax_loss else {"blend": numbers}
    bad = {name: value.at[2].set(jnp.nan) for name, value in own.items()}

    def with_gradients(features, labels, own):
        def total(f, w):
            return loss(f, w, labels, where=where, **own).sum()

        return jax.value_and_grad(total, (0, 1))(features, kernel)

    found = with_gradients(features.at[2].set(jnp.nan), labels.at[2].set(-100), bad)
    expected = with_gradients(features, labels, own)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    # In a row that counts, each of these makes that row NaN and no other.
    for arrays in ((features, labels.at[2].set(9), own), (features, labels, bad)):
        losses = loss(arrays[0], kernel, arrays[1], **arrays[2])
        np.testing.assert_array_equal(jnp.isnan(losses), ~where)


def test_masked_classes_have_no_part():
    features, kernel, labels = drawn(jnp.float32)
    labels %= 4
    mask = jnp.arange(7) < 4
    found = l_softmax_loss(features, kernel, labels, class_mask=mask)
    expected = l_softmax_loss(features, kernel[:, :4], labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_half_precision_layouts_and_axes():
    features, kernel, labels = drawn(jnp.bfloat16)
    found = l_softmax_loss(features, kernel, labels)
    wide = l_softmax_loss(
        features.astype(jnp.float32), kernel.astype(jnp.float32), labels
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, rtol=1e-5, atol=1e-5)
    turned = l_softmax_loss(features, kernel.T, labels, kernel_layout="cd")
    np.testing.assert_array_equal(found, turned)
    more = l_softmax_loss(features.reshape(2, 4, 5), kernel, labels.reshape(2, 4))
    np.testing.assert_array_equal(more.reshape(-1), found)


def test_noise_is_drawn_by_the_key_and_takes_no_gradient():
    features, kernel, labels = drawn(jnp.float32)
    one, same, other = (
        noisy_softmax_loss(features, kernel, labels, key=jax.random.key(seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()

    def total(noise):
        return noisy_softmax_loss(features, kernel, labels, noise=noise).sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones(8)), 0)


@pytest.mark.usefixtures("float64")
def test_as_softmax_on_top():
    logits = l_softmax_logits(FEATURES, KERNEL, LABELS, margin=2)
    loss = as_softmax_loss(logits, LABELS, logit_margin=np.inf)
    np.testing.assert_allclose(loss, l_softmax_loss(FEATURES, KERNEL, LABELS, margin=2))
    logits = noisy_softmax_logits(FEATURES, KERNEL, LABELS, noise=NOISE)
    loss = as_softmax_loss(logits, LABELS, logit_margin=np.inf)
    expected = noisy_softmax_loss(FEATURES, KERNEL, LABELS, noise=NOISE)
    np.testing.assert_allclose(loss, expected)


def test_what_cannot_be_is_refused():
    arrays = drawn(jnp.float32)
    with pytest.raises(ValueError, match=r"Exactly one of `key` and `noise`.*got none"):
        noisy_softmax_loss(*arrays)
    with pytest.raises(ValueError, match=r"Exactly one of `key` and `noise`.*got both"):
        noisy_softmax_logits(*arrays, key=jax.random.key(0), noise=1.0)
    with pytest.raises(ValueError, match="`margin` must be an integer of at least 1"):
        l_softmax_loss(*arrays, margin=0)
    with pytest.raises(ValueError, match="`blend` must be at least 0"):
        l_softmax_loss(*arrays, blend=-1.0)
    with pytest.raises(ValueError, match=r"`kernel` must be \[D, C\]"):
        l_softmax_logits(arrays[0], arrays[1].T, arrays[2])
