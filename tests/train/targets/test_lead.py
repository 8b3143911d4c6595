"""The label's lead under jit is the margin that the host computes, in either unit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.examples import NO_LABEL
from train.targets.multi_label import MultiLabel
from train.targets.one_class import OneClass
from train.targets.tags import Tags

RNG = np.random.default_rng(0)
UNITS = pytest.mark.parametrize("unit", ["probability", "logits"])


def lead(target, logits, labels, unit):
    function = jax.jit(functools.partial(target.lead, unit=unit))
    return np.asarray(function(jnp.float32(logits), jnp.asarray(labels)))


@UNITS
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_of_one_class(classes, unit):
    logits = RNG.normal(size=(20, classes))
    labels = RNG.integers(0, classes, 20).astype(np.int32)
    result = lead(OneClass(), logits, labels, unit)
    expected = OneClass().margins(logits, labels, unit=unit)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@UNITS
def test_of_several_classes(unit):
    logits = RNG.normal(size=(20, 4))
    labels = RNG.random((20, 4)) < 0.4
    labels[0], labels[1] = True, False
    result = lead(MultiLabel(), logits, labels, unit)
    expected = MultiLabel().margins(logits, labels, unit=unit)
    np.testing.assert_allclose(result, expected, atol=1e-6)


@UNITS
def test_of_tags_each_word_has_one(unit):
    logits = RNG.normal(size=(6, 5, 3))
    labels = RNG.integers(0, 3, (6, 5)).astype(np.int32)
    labels[RNG.random((6, 5)) < 0.3] = NO_LABEL
    labels[5] = NO_LABEL
    result = lead(Tags(), logits, labels, unit)
    assert result.shape == labels.shape
    words = Tags().margins(logits, labels, unit=unit)
    np.testing.assert_allclose(result[labels != NO_LABEL], words, atol=1e-6)
