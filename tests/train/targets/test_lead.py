"""The label's lead under jit is the margin that the host computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.examples import NO_LABEL
from train.targets.multi_label import MultiLabel
from train.targets.one_class import OneClass
from train.targets.tags import Tags

RNG = np.random.default_rng(0)


def lead(target, logits, labels, where):
    function = jax.jit(target.lead)
    return np.asarray(function(jnp.float32(logits), jnp.asarray(labels), where))


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_of_one_class(classes):
    logits = RNG.normal(size=(20, classes))
    labels = RNG.integers(0, classes, 20).astype(np.int32)
    where = np.arange(20) < 18
    result = lead(OneClass(), logits, labels, where)
    expected = OneClass().margins(logits, labels)
    np.testing.assert_allclose(result[:18], expected[:18], atol=1e-6)
    np.testing.assert_array_equal(result[18:], 1.0)


def test_of_several_classes():
    logits = RNG.normal(size=(20, 4))
    labels = RNG.random((20, 4)) < 0.4
    labels[0], labels[1] = True, False
    result = lead(MultiLabel(), logits, labels, np.ones(20, bool))
    np.testing.assert_allclose(result, MultiLabel().margins(logits, labels), atol=1e-6)


def test_of_tags_it_is_the_least_of_the_words():
    logits = RNG.normal(size=(6, 5, 3))
    labels = RNG.integers(0, 3, (6, 5)).astype(np.int32)
    labels[RNG.random((6, 5)) < 0.3] = NO_LABEL
    labels[5] = NO_LABEL
    result = lead(Tags(), logits, labels, labels != NO_LABEL)
    for row in range(5):
        words = Tags().margins(logits[row : row + 1], labels[row : row + 1])
        assert result[row] == pytest.approx(words.min(), abs=1e-6)
    assert result[5] == 1.0
