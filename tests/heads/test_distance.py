"""Distances in place of logits: the authors' values, and what lies at a distance of 0.

`dismax_loss` and the score, which take them, stand here as well.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracle import assert_is_derivative, assert_no_worse
from three_examples import COSINES, FEATURES, KERNEL, LABELS

from as_softmax_jax.heads import distance_logits
from as_softmax_jax.losses import dismax_loss, softmax_loss
from as_softmax_jax.reference._distance import distance_logits as reference
from as_softmax_jax.scores import max_mean_entropy_score

either_way = pytest.mark.parametrize("exact", [False, True])


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
@either_way
class TestPublishedValues:
    def test_logits(self, exact):
        expected = [
            [-1.767381389, -2.090166591, -1.527870647, -2.052358586],
            [-2.445523077, -1.76972731, -2.496323396, -1.981573936],
            [-1.941087784, -1.422072458, -1.796491041, -1.400120559],
        ]
        found = distance_logits(FEATURES, KERNEL, exact=exact)
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_losses_and_gradients(self, exact):
        def losses(features, kernel):
            return dismax_loss(distance_logits(features, kernel, exact=exact), LABELS)

        expected = [0.09535679089, 0.1151808936, 0.6023307376]
        np.testing.assert_allclose(losses(FEATURES, KERNEL), expected, rtol=1e-9)
        gradient = jax.grad(lambda f: losses(f, KERNEL).sum())(FEATURES)
        expected = [
            [0.06502323973, 0.0364277388, -0.01019757467],
            [-0.02507524647, -0.06854565052, -0.02836546461],
            [0.9678259924, 0.4456663954, -0.4978823551],
        ]
        np.testing.assert_allclose(gradient, expected, rtol=1e-8)
        assert_is_derivative(losses, FEATURES, KERNEL)

    def test_the_score(self, exact):
        logits = distance_logits(FEATURES, KERNEL, exact=exact)
        expected = [-4.746572416, -5.282463369, -4.400070406]
        np.testing.assert_allclose(max_mean_entropy_score(logits), expected, rtol=1e-9)


@pytest.mark.usefixtures("float64")
def test_the_loss_does_not_see_the_mean():
    # Which is that of IsoMax+, the roots of 1 - cos alone.
    loss = dismax_loss(distance_logits(FEATURES, KERNEL), LABELS)
    expected = softmax_loss(-10.0 * np.sqrt(1 - COSINES), LABELS)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


@pytest.mark.usefixtures("float64")
def test_a_gradient_flows_to_the_scale():
    def losses(scale):
        return dismax_loss(
            distance_logits(FEATURES, KERNEL, distance_scale=scale), LABELS
        )

    for scale in (2.0, -0.5):
        assert_is_derivative(losses, np.asarray(scale))
    assert jax.grad(lambda d: losses(d).sum())(0.0) == 0


@either_way
def test_is_no_worse_than_its_reference(exact):
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(6, 5)), rng.normal(size=(5, 7))
    narrow = [jnp.asarray(a, jnp.float32) for a in (features, kernel)]

    def with_gradients(f, arrays):
        value, vjp = jax.vjp(f, *arrays)
        return value, *vjp(jnp.ones_like(value))

    def fast(f, w):
        return distance_logits(f, w, distance_scale=1.5, exact=exact)

    def plain(f, w):
        return reference(f, w, jnp.asarray(1.5, f.dtype))

    found, naive = with_gradients(fast, narrow), with_gradients(plain, narrow)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a), jnp.float64) for a in narrow]
        truth = with_gradients(plain, wide)
        for a, b in zip(with_gradients(fast, wide), truth, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    for a, n, t in zip(found, naive, truth, strict=True):
        assert_no_worse(a, n, t, slack=4e-6)


@either_way
def test_on_a_prototype_and_at_0_there_is_no_gradient(exact):
    kernel = jnp.asarray(KERNEL, jnp.float32).at[:, 3].set(0)
    features = jnp.stack([2 * kernel[:, 0], jnp.zeros(3)])

    def first(features):
        # The distance alone: a logit twice, less the sum of all.
        logits = distance_logits(features, kernel, exact=exact)
        mean = jnp.mean(logits, axis=-1) / 2
        return logits[:, 0] - mean

    distances = first(features)
    np.testing.assert_allclose(distances, [0.0, -1.0], atol=1e-3)
    gradient = jax.grad(lambda f: first(f).sum())(features)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], 0)
    whole = distance_logits(features, kernel, exact=exact)
    np.testing.assert_allclose(whole[1], -2.0, rtol=1e-6)
    by_kernel = jax.grad(lambda w: distance_logits(features, w, exact=exact).sum())(
        kernel
    )
    assert jnp.isfinite(by_kernel).all()
    np.testing.assert_array_equal(by_kernel[:, 3], 0)


def test_close_vectors_keep_their_distance_by_their_difference():
    kernel = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    for distance in (1e-2, 1e-3, 1e-4):
        features = jnp.array([1.0, distance])
        logits = distance_logits(features, kernel, exact=True)
        # The mean of the two distances drops out of this.
        found = (logits[1] - 3 * logits[0]) / 4
        expected = np.sqrt(1 - np.cos(np.arctan(distance)))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=5e-7)
        short = distance_logits(features, kernel)
        assert abs((short[1] - 3 * short[0]) / 4 - expected) < 3e-4


def test_half_precision_and_layouts():
    features, kernel = (jnp.asarray(a, jnp.bfloat16) for a in (FEATURES, KERNEL))
    found = distance_logits(features, kernel)
    wide = distance_logits(features.astype(jnp.float32), kernel.astype(jnp.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, rtol=1e-6)
    turned = distance_logits(features, kernel.T, kernel_layout="cd")
    np.testing.assert_array_equal(found, turned)
    more = distance_logits(features.reshape(3, 1, 3), kernel)
    np.testing.assert_array_equal(more[:, 0], found)


def test_what_does_not_fit_is_refused():
    features, kernel = jnp.ones((2, 3)), jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"`kernel` must be \[D, C\]"):
        distance_logits(features, kernel)
    with pytest.raises(ValueError, match="`distance_scale` must be a scalar"):
        distance_logits(features, jnp.ones((3, 4)), distance_scale=jnp.ones(2))


def test_classes_split_over_devices():
    mesh = jax.make_mesh((4,), ("model",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    x, w, weights = (
        jnp.asarray(rng.normal(size=size), jnp.float32)
        for size in ((6, 5), (5, 8), (6, 8))
    )
    spread = jax.shard_map(
        functools.partial(distance_logits, axis_name="model"),
        mesh=mesh,
        in_specs=(P(), P(None, "model")),
        out_specs=P(None, "model"),
    )

    def both(function):
        def total(x, w):
            logits = function(x, w)
            return jnp.vdot(logits, weights), logits

        return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(x, w)

    for ours, alone in zip(
        jax.tree.leaves(both(spread)),
        jax.tree.leaves(both(distance_logits)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-5)
