"""Sets of answers: the level at which they are as large as asked for."""

import numpy as np
import pytest

from train.evaluation.answer_sets import answer_sets, set_figures, set_level

LOGITS = np.array([[3.0, 1.0, -2.0], [0.5, 0.0, -1.0]], np.float32)


@pytest.mark.parametrize(
    ("size", "level"),
    [
        (0.5, (3.0 + 1.0) / 2),
        (1.0, (1.0 + 0.5) / 2),
        (2.0, (0.0 - 1.0) / 2),
        (3.0, -2.0),
    ],
)
def test_the_level_is_midway_between_two_logits(size, level):
    assert set_level(LOGITS, size) == level
    found = set_figures("test", LOGITS, np.array([0, 0]), level)
    assert found["test_set_size"] == size


def test_sets_of_less_than_half_a_class_are_empty():
    level = set_level(LOGITS, 0.2)
    found = set_figures("test", LOGITS, np.array([0, 0]), level)
    assert found == {"test_set_accuracy": 0.0, "test_set_size": 0.0}


def test_a_set_has_its_likeliest_class_first():
    assert answer_sets(np.array([[0.0, 2.0, 1.0], [-1.0, -2.0, 0.5]]), 0.5) == [
        [1, 2],
        [2],
    ]


def test_the_share_of_labels_that_are_in_their_set():
    found = set_figures("test", LOGITS, np.array([1, 2]), 0.5)
    assert found == {"test_set_accuracy": 0.5, "test_set_size": 1.5}
