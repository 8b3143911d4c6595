"""UNPG: the pairs of a batch, which of them are kept, and what they add to a row.

Values were computed in float64 by the authors' code.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import assert_is_derivative
from three_examples import FIVE, FIVE_LABELS, KERNEL

from as_softmax_jax.heads import cosine_logits
from as_softmax_jax.losses import (
    am_softmax_loss,
    margin_softmax_loss,
    negative_pairs,
    unpg_loss,
)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def loss_of_features(features, kernel, **keywords):
    pairs = negative_pairs(features, FIVE_LABELS)
    cosines = cosine_logits(features, kernel)
    return unpg_loss(cosines, FIVE_LABELS, pairs=pairs, cosine=0.35, **keywords)


@pytest.mark.usefixtures("float64")
class TestPublishedValues:
    def test_losses(self):
        assert int(negative_pairs(FIVE, FIVE_LABELS).kept.sum()) == 6
        losses = loss_of_features(FIVE, KERNEL)
        expected = [109.0829588, 42.33233991, 50.15228357, 103.9600782, 27.81422814]
        np.testing.assert_allclose(losses, expected, rtol=1e-9)

    def test_gradients(self):
        gradient = jax.grad(lambda f: loss_of_features(f, KERNEL).sum())(FIVE)
        expected = [
            [29.12829977, 16.92833602, -3.278592539],
            [-71.11657561, -2.776481407, -46.83115199],
            [0.3278521307, -1.151287236, -0.1257981333],
            [34.30255035, 22.94511036, 3.499324148],
            [0.2766838859, 19.78046789, 7.142591253],
        ]
        np.testing.assert_allclose(gradient, expected, rtol=1e-8)

    def test_gradients_are_finite_differences(self):
        def losses(features, kernel):
            return loss_of_features(features, kernel, scale=2.0)

        assert_is_derivative(losses, FIVE, KERNEL)


class TestPairs:
    def test_each_pair_of_other_classes_once(self):
        pairs = negative_pairs(FIVE, FIVE_LABELS, whisker=jnp.inf)
        different = FIVE_LABELS[:, None] != FIVE_LABELS[None]
        expected = np.triu(different, k=1)
        np.testing.assert_array_equal(pairs.kept, expected)
        unit = FIVE / np.linalg.norm(FIVE, axis=1, keepdims=True)
        np.testing.assert_allclose(pairs.cosines, unit @ unit.T, atol=1e-6)

    def test_whiskers_are_of_the_quartiles(self):
        rng = np.random.default_rng(0)
        features = jnp.asarray(rng.normal(size=(20, 4)), jnp.float32)
        labels = jnp.asarray(rng.integers(0, 5, 20))
        every = negative_pairs(features, labels, whisker=jnp.inf)
        cosines = np.sort(every.cosines[every.kept])
        low, high = (cosines[int(q * len(cosines))] for q in (0.25, 0.75))
        for whisker in (0.0, 0.3):
            reach = whisker * (high - low)
            kept = negative_pairs(features, labels, whisker=whisker).kept
            inside = (every.cosines >= low - reach) & (every.cosines <= high + reach)
            np.testing.assert_array_equal(kept, every.kept & inside)

    def test_rows_left_out_may_hold_anything(self):
        where = jnp.array([True, True, False, True, True])
        features = jnp.asarray(FIVE, jnp.float32)
        bad = features.at[2].set(jnp.nan)
        labels = jnp.asarray(FIVE_LABELS).at[2].set(-100)

        def total(features):
            pairs = negative_pairs(features, labels, where=where)
            cosines = jnp.concatenate([features, features[:, :1]], axis=1)
            return unpg_loss(cosines, labels, pairs=pairs, where=where).sum()

        value, gradient = jax.value_and_grad(total)(bad)
        expected, wanted = jax.value_and_grad(total)(features)
        assert value == expected
        np.testing.assert_array_equal(gradient[where], wanted[where])
        np.testing.assert_array_equal(gradient[2], 0)

    def test_without_a_pair_it_is_the_margin_softmax(self):
        features = jnp.asarray(FIVE, jnp.float32)
        labels = jnp.full(5, 2)
        cosines = cosine_logits(features, jnp.asarray(KERNEL, jnp.float32))

        def losses(features, cosines=cosines):
            pairs = negative_pairs(features, labels)
            return unpg_loss(cosines, labels, pairs=pairs, cosine=0.2, angle=0.3)

        expected = margin_softmax_loss(cosines, labels, cosine=0.2, angle=0.3)
        np.testing.assert_array_equal(losses(features), expected)
        gradient = jax.grad(lambda f: losses(f).sum())(features)
        np.testing.assert_array_equal(gradient, 0)
        none = negative_pairs(features[:0], labels[:0])
        loss = unpg_loss(cosines, labels, pairs=none, cosine=0.2)
        expected = am_softmax_loss(cosines, labels, margin=0.2, scale=64.0)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)

    def test_equal_pairs_are_all_kept(self):
        features = jnp.eye(3)
        for whisker in (0.0, 1.5, jnp.inf):
            kept = negative_pairs(features, jnp.arange(3), whisker=whisker).kept
            assert int(kept.sum()) == 3

    def test_half_precision_is_summed_in_float32(self):
        features = jnp.asarray(FIVE, jnp.bfloat16)
        found = negative_pairs(features, FIVE_LABELS)
        expected = negative_pairs(features.astype(jnp.float32), FIVE_LABELS)
        assert found.cosines.dtype == jnp.float32
        np.testing.assert_allclose(found.cosines, expected.cosines, rtol=1e-6)

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(
            ValueError, match="`labels` must have the shape of the feat"
        ):
            negative_pairs(FIVE, FIVE_LABELS[:3])
        with pytest.raises(TypeError, match="`labels` must be integers"):
            negative_pairs(FIVE, FIVE_LABELS * 1.0)


def test_a_scale_of_each_row():
    features = jnp.asarray(FIVE, jnp.float32)
    kernel = jnp.asarray(KERNEL, jnp.float32)
    scales = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
    found = loss_of_features(features, kernel, scale=scales)
    for i, scale in enumerate(scales):
        expected = loss_of_features(features, kernel, scale=scale)[i]
        np.testing.assert_allclose(found[i], expected, rtol=1e-6)
