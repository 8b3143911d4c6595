"""What is told of examples of classes that training does not have."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from train.evaluation.outside import retrieval, separation, unit_rows

rng = np.random.default_rng(0)


def test_separation_is_the_share_of_pairs_in_order():
    known, outside = rng.integers(0, 6, 40) / 6, rng.integers(0, 5, 30) / 6
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(known, outside)]
    area, taken_in = separation(known, outside)
    assert area == pytest.approx(np.mean(pairs))
    # 38 of 40 known examples are at the threshold or above it, and not one level more.
    level = max(t for t in known if (known >= t).mean() >= 0.95)
    assert taken_in == (outside >= level).mean()


@pytest.mark.parametrize(
    ("known", "outside", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2, 0.3], (1.0, 0.0)),
        ([0.1], [0.9, 0.9], (0.0, 1.0)),
        ([0.5, 0.5], [0.5], (0.5, 1.0)),
    ],
)
def test_separation_of_extremes(known, outside, expected):
    assert separation(np.array(known), np.array(outside)) == expected


def test_retrieval_is_scikit_learns_average_precision():
    features, labels = rng.normal(size=(60, 5)), rng.integers(0, 4, 60)
    labels[-1] = 9  # alone in its class: it asks nothing, and is in every answer
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    precisions, first = [], []
    for row in range(59):
        others = np.arange(60) != row
        similar, same = rows[others] @ rows[row], labels[others] == labels[row]
        precisions.append(average_precision_score(same, similar))
        first.append(same[similar.argmax()])
    found = retrieval(features * rng.uniform(0.1, 10, (60, 1)), labels)
    np.testing.assert_allclose(found, [np.mean(first), np.mean(precisions)])


def test_retrieval_of_classes_with_one_example_has_no_figures():
    assert retrieval(np.eye(3), np.arange(3)) is None


def test_rows_are_of_length_1_and_zeros_stay_zeros():
    found = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0]])
