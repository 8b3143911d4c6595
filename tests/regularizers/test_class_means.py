"""Means of classes, and the penalty on means that lie close (NBC-Softmax)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracle import assert_is_derivative
from three_examples import FIVE, FIVE_LABELS

from as_softmax_jax.reference._class_means import nbc_penalty as reference
from as_softmax_jax.regularizers import class_means, nbc_penalty


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def penalty(features, labels=FIVE_LABELS, **keywords):
    return nbc_penalty(features, labels, num_classes=4, **keywords)


@pytest.mark.usefixtures("float64")
def test_published_value_and_gradient():
    np.testing.assert_allclose(penalty(FIVE), 0.338180771, rtol=1e-9)
    expected = [
        [0.001599367836, 0.001488803185, 0.0003507549067],
        [0.003747413707, 0.002556376321, -0.0009752420962],
        [-0.0005538300772, 0.00332109804, 0.001244705857],
        [0.001599367836, 0.001488803185, 0.0003507549067],
        [0.004114231382, 0.004202258318, 0.0007800518643],
    ]
    gradient = jax.grad(penalty)(FIVE)
    np.testing.assert_allclose(gradient, expected, rtol=1e-8)
    assert_is_derivative(penalty, FIVE)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("tau", [0.2, 3.0, -1.0])
def test_is_its_reference(tau):
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.normal(size=(20, 5)))
    labels = jnp.asarray(rng.integers(0, 30, 20))
    value, gradient = jax.value_and_grad(
        lambda f: nbc_penalty(f, labels, num_classes=30, tau=tau)
    )(features)
    expected, wanted = jax.value_and_grad(lambda f: reference(f, labels, 30, tau))(
        features
    )
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-9, atol=1e-14)


def test_opposite_means_cost_least():
    opposite = penalty(jnp.array([[1.0, 0.0], [-3.0, 0.0]]), jnp.array([0, 1]))
    same = penalty(jnp.array([[1.0, 0.0], [3.0, 0.0]]), jnp.array([0, 1]))
    np.testing.assert_allclose(opposite, np.log1p(np.exp(-0.2)) / 4, rtol=1e-6)
    np.testing.assert_allclose(same, np.log1p(np.exp(0.2)) / 4, rtol=1e-6)


def test_one_class_none_and_means_of_0():
    features = jnp.asarray(FIVE, jnp.float32)
    both = jax.value_and_grad(penalty)
    for labels, where in ((jnp.full(5, 2), None), (FIVE_LABELS, jnp.zeros(5, bool))):
        value, gradient = both(features, labels, where=where)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)
    # Examples that cancel out: a cosine of 0.
    features = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    value, gradient = both(features, jnp.array([0, 0, 1]))
    np.testing.assert_allclose(value, np.log(2) / 4, rtol=1e-6)
    assert jnp.isfinite(gradient).all()


def test_rows_left_out_may_hold_anything_and_a_bad_label_is_nan():
    features, where = jnp.asarray(FIVE, jnp.float32), jnp.arange(5) != 2
    labels = jnp.asarray(FIVE_LABELS)
    both = jax.value_and_grad(lambda f, t: penalty(f, t, where=where))
    found = both(features.at[2].set(jnp.nan), labels.at[2].set(-1))
    expected = both(features, labels)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert found[1][2].sum() == 0
    for bad in (-1, 4, -100):
        assert jnp.isnan(penalty(features, labels.at[2].set(bad)))
    means, counts = class_means(features, labels.at[2].set(-1), num_classes=4)
    np.testing.assert_array_equal(counts, [1, 1, 2, 0])
    np.testing.assert_allclose(means[2], (features[0] + features[3]) / 2, rtol=1e-6)


def test_devices_come_to_one_penalty_and_its_gradient():
    rng = np.random.default_rng(1)
    features = jnp.asarray(rng.normal(size=(16, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 4, 16))
    where = jnp.arange(16) % 5 != 3
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def on_device(features, labels, where):
        return penalty(features, labels, where=where, axis_name="data")

    spread = jax.shard_map(on_device, mesh=mesh, in_specs=P("data"), out_specs=P())
    found = jax.jit(jax.value_and_grad(spread))(features, labels, where)
    expected = jax.value_and_grad(penalty)(features, labels, where=where)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)


def test_half_precision_is_summed_in_float32():
    features = jnp.asarray(FIVE, jnp.bfloat16)
    value, gradient = jax.value_and_grad(penalty)(features)
    expected = penalty(features.astype(jnp.float32))
    assert (value.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match="`labels` must have the shape of the features"
    ):
        penalty(FIVE, FIVE_LABELS[:2])
    with pytest.raises(TypeError, match="`labels` must be integers"):
        penalty(FIVE, FIVE_LABELS * 1.0)
    with pytest.raises(
        ValueError, match="`num_classes` must be an integer of at least"
    ):
        class_means(FIVE, FIVE_LABELS, num_classes=0)
