"""MadaCos: what a batch decides, on one device and on several, and what trains on part.

Values were computed in float64 by the authors' code.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from three_examples import COSINES, FEATURES, KERNEL, LABELS

from as_softmax_jax import as_softmax_loss, as_softmax_settled
from as_softmax_jax.heads import cosine_logits
from as_softmax_jax.losses import (
    LOSSES,
    elastic_margins,
    madacos_loss,
    madacos_scale_margin,
    margin_logits,
    margin_softmax_loss,
    softmax_loss,
)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.usefixtures("float64")
class TestPublishedValues:
    def test_scale_and_margin(self):
        found = madacos_scale_margin(COSINES, LABELS)
        np.testing.assert_allclose(found, [51.19133845427288, 0.38681317936434])

    def test_losses_and_gradients(self):
        losses = madacos_loss(COSINES, LABELS)
        expected = [2.302585093, 2.754152829, 18.47293432]
        np.testing.assert_allclose(losses, expected, rtol=1e-9)
        gradient = jax.grad(lambda c: madacos_loss(c, LABELS).sum())(
            jnp.asarray(COSINES)
        )
        expected = [
            [46.07220461, 2.111793168e-13, -46.07220461, 1.752667358e-11],
            [2.713591605e-22, -47.93234785, 2.026456377e-25, 47.93234785],
            [6.688391625e-19, 51.19133797, 3.703172704e-12, -51.19133797],
        ]
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-30)

    def test_is_its_reference(self):
        rng = np.random.default_rng(0)
        cosines = jnp.asarray(np.tanh(rng.normal(size=(9, 6))))
        labels = jnp.asarray(rng.integers(0, 6, 9))
        keywords = {"alpha": jnp.full(9, 0.02), "min_scale": jnp.full(9, 32.0)}

        def of_reference(c):
            return LOSSES["madacos"].reference(c, labels, **keywords)

        def of_library(c):
            return madacos_loss(c, labels, alpha=0.02)

        for c in (cosines, 0.2 * cosines):
            np.testing.assert_allclose(of_library(c), of_reference(c), rtol=1e-11)
            found, expected = (
                jax.grad(lambda c, f=f: f(c).sum())(c)
                for f in (of_library, of_reference)
            )
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_the_sum_of_rivals_stays_a_logarithm():
    # e^(183 * 0.6) is beyond float32; the authors' margin is 0 there.
    cosines = jnp.array([[0.9, 0.6, 0.1, 0.0]])
    scale, margin = madacos_scale_margin(cosines, jnp.array([0]))
    np.testing.assert_allclose(scale, np.log(9999999 * 9) / 0.1, rtol=1e-5)
    expected = 0.9 - 0.6 + np.log(9) / scale
    np.testing.assert_allclose(margin, expected, rtol=1e-5)
    np.testing.assert_allclose(madacos_loss(cosines, jnp.array([0])), np.log(10), 1e-4)


def test_the_median_is_the_lower_of_two_and_leaves_out_rows():
    rows = jnp.array([[0.1, 0.0], [0.3, 0.0], [0.5, 0.0], [0.9, 0.0], [0.7, 0.0]])
    labels = jnp.zeros(5, int)

    def margin_of(cosines, labels, **masks):
        # One rival of cosine 0, and odds of 1: the margin is the median.
        return madacos_scale_margin(cosines, labels, alpha=0.5, **masks)[1]

    np.testing.assert_allclose(margin_of(rows, labels), 0.5)
    np.testing.assert_allclose(margin_of(rows[:4], labels[:4]), 0.3)
    where = jnp.array([True, False, False, True, True])
    bad = rows.at[1].set(jnp.nan)
    np.testing.assert_allclose(margin_of(bad, labels, where=where), 0.7)
    # Rows that are NaN, and a label of probability 0, do not count either.
    bad = bad.at[2, 0].set(-jnp.inf)
    np.testing.assert_allclose(margin_of(bad, labels.at[3].set(9)), 0.1)
    mask = jnp.array([True, False])
    assert margin_of(rows, labels, class_mask=mask) == 0


def test_without_an_example_or_a_rival_there_is_no_margin():
    nothing = jnp.zeros(3, bool)
    found = madacos_scale_margin(
        jnp.asarray(COSINES, jnp.float32), LABELS, where=nothing
    )
    assert found == (32.0, 0.0)
    empty = madacos_scale_margin(jnp.zeros((0, 4)), jnp.zeros(0, int))
    assert empty == (32.0, 0.0)
    one = madacos_loss(jnp.ones((2, 1)), jnp.zeros(2, int))
    np.testing.assert_array_equal(one, 0)


def test_a_median_of_1_has_a_finite_scale():
    scale, _ = madacos_scale_margin(jnp.eye(3), jnp.arange(3))
    np.testing.assert_allclose(scale, np.log(9999999 * 9) / 1e-6, rtol=1e-5)
    assert jnp.isfinite(madacos_loss(jnp.eye(3), jnp.arange(3))).all()


def test_devices_come_to_one_scale_and_margin():
    rng = np.random.default_rng(1)
    cosines = jnp.asarray(np.tanh(rng.normal(size=(16, 5))), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 5, 16))
    where = jnp.arange(16) % 3 != 1
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def on_device(cosines, labels, where):
        keywords = {"where": where, "axis_name": "data"}
        found = madacos_scale_margin(cosines, labels, **keywords)
        return found, madacos_loss(cosines, labels, **keywords)

    spread = jax.shard_map(
        on_device, mesh=mesh, in_specs=P("data"), out_specs=((P(), P()), P("data"))
    )
    found, losses = jax.jit(spread)(cosines, labels, where)
    expected = madacos_scale_margin(cosines, labels, where=where)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    expected = madacos_loss(cosines, labels, where=where)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_what_cannot_be_is_refused():
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match="`alpha` must be above 0 and below 1"):
            madacos_loss(COSINES, LABELS, alpha=alpha)
    with pytest.raises(ValueError, match="`min_scale` must be positive"):
        madacos_loss(COSINES, LABELS, min_scale=0.0)
    losses = jax.jit(lambda a: madacos_loss(COSINES, LABELS, alpha=a))(2.0)
    assert jnp.isnan(losses).all()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["madacos", "elastic"])
def test_what_is_of_the_whole_batch_trains_on_part_of_it(kind):
    """Settled rows left out of a second pass, with the first pass's numbers."""
    rng = np.random.default_rng(2)
    features = jnp.asarray(rng.normal(size=(12, 3)))
    cosines = cosine_logits(features, KERNEL)
    # Two in three are right, so that some are settled.
    right, drawn = jnp.argmax(cosines, axis=1), jnp.asarray(rng.integers(0, 4, 12))
    labels = jnp.where(jnp.arange(12) % 3 == 0, drawn, right)
    if kind == "madacos":
        # The median example has a probability of 0.9, a lead of more than 1.
        decided = madacos_scale_margin(cosines, labels, alpha=0.9)
        scale, margin = (jnp.full(12, number) for number in decided)
    else:
        scale = jnp.full(12, 8.0)
        margin = elastic_margins(jax.random.key(0), (12,), mean=0.05)

    def logits_of(features, rows):
        return margin_logits(
            cosine_logits(features, KERNEL),
            labels[rows],
            scale=scale[rows],
            cosine=margin[rows],
        )

    def total(features, rows):
        logits = logits_of(features, rows)
        return as_softmax_loss(logits, labels[rows], logit_margin=1.0).sum()

    every = jnp.arange(12)
    settled = as_softmax_settled(logits_of(features, every), labels, logit_margin=1.0)
    active = jnp.flatnonzero(~settled)
    assert 0 < len(active) < 12
    whole = jax.grad(total)(features, every)
    part = jax.grad(total)(features[active], active)
    np.testing.assert_allclose(whole[active], part, rtol=1e-12)
    np.testing.assert_array_equal(whole[settled], 0)


def test_it_is_margin_softmax_with_what_the_batch_decides():
    features = jnp.asarray(FEATURES, jnp.float32)
    cosines = cosine_logits(features, jnp.asarray(KERNEL, jnp.float32))
    scale, margin = madacos_scale_margin(cosines, LABELS)
    expected = margin_softmax_loss(cosines, LABELS, scale=scale, cosine=margin)
    np.testing.assert_array_equal(madacos_loss(cosines, LABELS), expected)
    logits = margin_logits(cosines, LABELS, scale=scale, cosine=margin)
    np.testing.assert_allclose(softmax_loss(logits, LABELS), expected, rtol=1e-5)
