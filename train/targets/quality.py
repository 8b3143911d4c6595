"""How good answers are: class by class, whom they confuse, what probabilities say."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# With more classes a list of all is no longer read, and the file is large.
MOST_CLASSES = 1000
_CONFUSED = 20
_NUM_BINS = 10


class Quality(NamedTuple):
    """Of one split, under a checkpoint; plain lists, as JSON has them."""

    classes: list[Any]
    examples: list[int]  # of each class
    precision: list[float]
    recall: list[float]
    f1: list[float]
    # Label, prediction and how often, the most frequent first; of one label an example.
    confused: list[list[Any]]
    # In bins of the calibrated probability: how many, its mean, and how many are right.
    bins: list[list[float]]


def quality(
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[Any],
    *,
    confidence: np.ndarray,
    right: np.ndarray,
) -> Quality | None:
    """Returns the quality of predictions; None for very many classes.

    Args:
      labels: bool [n, classes], or class indices [n].
      predictions: alike.
      classes: by number.
      confidence: calibrated probabilities, of any shape.
      right: whether what each is for is so, of that shape.
    """
    size = len(classes)
    if size > MOST_CLASSES:
        return None
    confused: list[list[Any]] = []
    if labels.ndim == 1:
        counts = np.zeros((size, size), np.int64)
        np.add.at(counts, (labels, predictions), 1)
        hits, of_label, of_answer = counts.diagonal(), counts.sum(1), counts.sum(0)
        confused = _confused(counts, classes)
    else:
        hits = (labels & predictions).sum(0)
        of_label, of_answer = labels.sum(0), predictions.sum(0)
    return Quality(
        classes=list(classes),
        examples=of_label.tolist(),
        precision=(hits / np.maximum(of_answer, 1)).tolist(),
        recall=(hits / np.maximum(of_label, 1)).tolist(),
        f1=(2 * hits / np.maximum(of_label + of_answer, 1)).tolist(),
        confused=confused,
        bins=_bins(confidence.ravel(), right.ravel()),
    )


def _confused(counts: np.ndarray, classes: Sequence[Any]) -> list[list[Any]]:
    """Returns the pairs that are confused most, of counts [label, prediction]."""
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSED]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [[classes[t], classes[i], int(wrong[t, i])] for t, i in pairs if wrong[t, i]]


def _bins(confidence: np.ndarray, right: np.ndarray) -> list[list[float]]:
    known = np.isfinite(confidence)
    p, right = confidence[known].astype(np.float64), right[known]
    place = np.minimum((p * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    counts = np.bincount(place, minlength=_NUM_BINS)
    means = np.bincount(place, p, _NUM_BINS) / np.maximum(counts, 1)
    hits = np.bincount(place, right, _NUM_BINS).astype(np.int64)
    columns = (counts.tolist(), means.tolist(), hits.tolist())
    return [list(row) for row in zip(*columns, strict=True)]
