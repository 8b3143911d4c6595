"""Quality class by class, against scikit-learn and counts by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from train.targets import Calibration, quality
from train.targets.multi_label import MultiLabel
from train.targets.one_class import OneClass
from train.targets.tags import Tags

CALIBRATION = Calibration(temperature=2.0, threshold=0.0)


@pytest.mark.parametrize("several", [False, True])
def test_figures_are_those_of_scikit_learn(several):
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 4)).astype(np.float32)
    logits[:, 3] -= 9.0  # never predicted
    labels = random.integers(0, 4, 200)
    target, answers = OneClass(), logits.argmax(axis=1)
    if several:
        labels, answers = random.random((200, 4)) < 0.3, logits > 0
        target = MultiLabel()
    found = target.quality(logits, labels, ("a", "b", "c", "d"), CALIBRATION)
    expected = precision_recall_fscore_support(
        labels, answers, labels=range(4), zero_division=0.0
    )
    got = (found.precision, found.recall, found.f1, found.examples)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert sum(n for n, _, _ in found.bins) == (800 if several else 200)
    right = labels.sum() if several else (answers == labels).sum()
    assert sum(hits for _, _, hits in found.bins) == right


def test_pairs_are_confused_as_often_as_they_are():
    labels = np.array([0, 0, 0, 1, 1, 2])
    answers = np.array([0, 1, 1, 1, 2, 2])
    logits = np.eye(3, dtype=np.float32)[answers]
    found = OneClass().quality(logits, labels, ("a", "b", "c"), CALIBRATION)
    assert found.confused == [["a", "b", 2], ["b", "c", 1]]
    # exp(1 / 2) against two of exp(0), each in the fifth bin.
    p = np.exp(0.5) / (np.exp(0.5) + 2)
    assert found.bins[4] == [6, pytest.approx(p), 3]


def test_tags_count_the_words_that_were_read():
    logits = np.zeros((1, 2, 2), np.float32)
    logits[0, 0, 1] = logits[0, 1, 0] = 1.0
    labels = np.array([[1, -1, 1]])  # the third word was cut off
    found = Tags().quality(logits, labels, ("B-x", "O"), CALIBRATION)
    assert found.examples == [0, 1]
    assert found.f1 == [0.0, 1.0]


def test_of_very_many_classes_there_is_none():
    size = quality.MOST_CLASSES + 1
    labels = np.arange(size)
    logits = np.eye(size, dtype=np.float32)
    assert OneClass().quality(logits, labels, tuple(labels), CALIBRATION) is None
