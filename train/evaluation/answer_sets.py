"""Sets of answers: how many hold the label, when they have K classes on average.

A set is of the classes whose logit, in a second output layer, is a level or more. The
level is found on validation data, and kept with the run's calibration.
"""

import numpy as np

from ..targets.metric import OF_SETS


def set_level(set_logits: np.ndarray, size: float) -> float:
    """Returns the level at which sets have so many classes on average.

    Midway between the last logit that is in and the next one.

    Args:
      set_logits: [n, classes].
      size: of a set, on average.
    """
    ordered = np.sort(set_logits.astype(np.float64), axis=None)[::-1]
    count = round(size * len(set_logits))
    if not 0 < count < len(ordered):
        return float(ordered[-1] if count else np.nextafter(ordered[0], np.inf))
    return float(ordered[count - 1] / 2 + ordered[count] / 2)


def answer_sets(set_logits: np.ndarray, level: float) -> list[list[int]]:
    """Returns the classes of each set, the likeliest first.

    Args:
      set_logits: [n, classes].
      level: of `set_level`, on validation data.
    """
    order = np.argsort(-set_logits, axis=1, kind="stable")
    sizes = (set_logits.astype(np.float64) >= level).sum(axis=1)
    return [row[:size].tolist() for row, size in zip(order, sizes, strict=True)]


def set_figures(
    split: str, set_logits: np.ndarray, labels: np.ndarray, level: float
) -> dict[str, float]:
    """Returns the share of sets that hold the label, and their size.

    Args:
      split: by which they are named.
      set_logits: [n, classes].
      labels: class indices [n].
      level: of `set_level`, on validation data.
    """
    chosen = set_logits.astype(np.float64) >= level
    accuracy, size = OF_SETS
    held = chosen[np.arange(len(labels)), labels]
    return {
        f"{split}_{accuracy.name}": float(held.mean()),
        f"{split}_{size.name}": float(chosen.sum(axis=1).mean()),
    }
