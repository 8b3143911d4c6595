"""What of a run deserves a second look: rows, labels, and a share that is too good.

A network that learned the rest of its training data and still contradicts a label, by a
wide margin, is more often right than the label is.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from train.command.notices import notice
from train.data.examples import NO_LABEL, Classes, Examples
from train.targets import Target

# Settled already in the first epoch: nothing is left to learn.
_SETTLED_FROM_THE_START = 0.999
# Labels that a notice names.
_NAMED = 8


@dataclasses.dataclass
class Suspicion:
    """What the finished network says against its training labels.

    Attributes:
      rows: the most contradicted, the worst first: `row` in the source, from 1 on,
        `margin`, `label` and `predicted`, as JSON can hold it.
      never_learned: classes that training has, and never with the label ahead.
    """

    rows: list[dict[str, Any]]
    never_learned: list[str | int]


def find_suspicion(
    target: Target,
    examples: Examples,
    readings: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: Classes,
    *,
    count: int,
) -> Suspicion:
    """Returns what the training data's readings contradict.

    Args:
      target: the kind of answer.
      examples: the training split.
      readings: pairs of rows [n] of `examples`, and what the target read of them.
      classes: by number.
      count: of rows, at most.
    """
    found: list[tuple[float, int, dict[str, Any]]] = []
    present, learned = (np.zeros(len(classes), bool) for _ in range(2))
    for rows, reading in readings:
        labels = examples.labels[rows]
        if _is_tagged(target, labels):
            labels = labels[:, : reading.shape[1]]
        margins, there, right = _margins(target, reading, labels, len(classes))
        present |= there
        learned |= right
        for k in np.argsort(margins, kind="stable")[:count]:
            if margins[k] < 0:
                said = target.contradiction(reading[k], labels[k], classes)
                found.append((float(margins[k]), int(rows[k]), said))
        found = sorted(found, key=lambda entry: entry[:2])[:count]
    numbers = examples.row_numbers(np.array([row for _, row, _ in found], np.int64))
    return Suspicion(
        [
            {"row": int(number), "margin": round(margin, 4)} | said
            for number, (margin, _, said) in zip(numbers, found, strict=True)
        ],
        [classes[k] for k in np.flatnonzero(present & ~learned)],
    )


def note_settled_from_the_start(settled_share: float) -> None:
    """Says so where the first epoch found next to nothing to learn.

    Args:
      settled_share: of the first epoch.
    """
    if settled_share > _SETTLED_FROM_THE_START:
        notice(
            f"{settled_share:.2%} of the examples were settled in the first epoch, and "
            "nothing is learned from those: the network knew the task already, or "
            "`loss.delta` is too small to ask for more"
        )


def note_never_learned(names: list[str | int]) -> None:
    """Names the labels that no training example has ahead in the end."""
    if names:
        listed = ", ".join(map(str, names[:_NAMED]))
        more = ", ..." if len(names) > _NAMED else ""
        notice(
            f"{len(names)} label(s) were never learned, not even on training data: "
            f"{listed}{more}; they have few examples, or wrong ones"
        )


def _margins(
    target: Target, reading: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns each example's least margin, and which classes there are and ahead."""
    margins = target.margins(reading, labels)
    there, right = (np.zeros(num_classes, bool) for _ in range(2))
    if target.loss_target == "multi_hot":
        others = np.max(reading, axis=-1, initial=-np.inf, where=~labels)
        ahead = labels & (reading > others[:, None])
        there |= labels.any(axis=0)
        right |= ahead.any(axis=0)
        return margins, there, right
    flat = labels[labels != NO_LABEL]
    there[flat] = True
    right[flat[margins > 0]] = True
    if not _is_tagged(target, labels):
        return margins, there, right
    least = np.full(labels.shape, np.inf)
    least[labels != NO_LABEL] = margins
    return least.min(axis=1), there, right


def _is_tagged(target: Target, labels: np.ndarray) -> bool:
    """Whether labels are one a token."""
    return target.loss_target == "labels" and labels.ndim == 2
