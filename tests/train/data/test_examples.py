"""The digest of a split: what changes it, and what does not."""

import numpy as np
import pytest

from train.data.examples import Examples, Sequences

INPUTS, LABELS = np.arange(12.0).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2], np.int32)
EXAMPLES = Examples(INPUTS, LABELS)


def test_equal_rows_have_one_digest_however_they_lie():
    other = Examples(np.asfortranarray(INPUTS), LABELS.copy())
    assert other.digest() == EXAMPLES.digest()


@pytest.mark.parametrize(
    "other",
    [
        Examples(INPUTS, LABELS[::-1]),
        Examples(INPUTS[::-1], LABELS[::-1]),
        Examples(INPUTS + np.eye(6, 2), LABELS),
        Examples(INPUTS[:5], LABELS[:5]),
        Examples(INPUTS.reshape(6, 2, 1), LABELS),
        Examples(INPUTS.astype(np.float32), LABELS),
        Sequences(INPUTS, LABELS, np.full(6, 2)),
    ],
    ids=["labels", "order", "a value", "fewer", "shape", "type", "kind"],
)
def test_another_split_has_another(other):
    assert other.digest() != EXAMPLES.digest()


def test_lengths_count():
    two, one = (Sequences(INPUTS, LABELS, np.full(6, n)) for n in (2, 1))
    assert two.digest() != one.digest()


def test_labels_may_be_unknown():
    unknown = Examples(INPUTS, np.empty((6, 0)))
    assert unknown.digest() != EXAMPLES.digest()
