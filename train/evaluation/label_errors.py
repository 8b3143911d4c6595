"""What of a run deserves a second look: rows, labels, and a share that is too good.

A network that learned the rest of its training data and still contradicts a label, by a
wide margin, is more often right than the label is.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..command.notices import notice
from ..data.examples import Classes, Examples
from ..targets import Target, Unit

# Settled already in the first epoch: nothing is left to learn.
_SETTLED_FROM_THE_START = 0.999
# Below this accuracy on training data, labels are missed for want of training.
_LEARNED = 0.8
# Labels that a notice names.
_NAMED = 8


@dataclasses.dataclass
class Suspicion:
    """What the finished network says against its training labels.

    Attributes:
      rows: the most contradicted, the worst first: `row` in the source, from 1 on,
        `margin` in the loss's unit, `label` and `predicted`, as JSON can hold it.
      inputs: what each of these holds, in words; none where nobody knows.
      never_learned: classes that training has, and never with the label ahead.
    """

    rows: list[dict[str, Any]]
    never_learned: list[str | int]
    inputs: list[str] = dataclasses.field(default_factory=list)


def find_suspicion(
    target: Target,
    examples: Examples,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    classes: Classes,
    *,
    unit: Unit,
    count: int,
) -> Suspicion:
    """Returns the training labels that the network's outputs contradict.

    Args:
      target: the kind of answer.
      examples: the training split.
      batches: pairs of rows [n] of `examples`, and what the target kept of them.
      classes: by number.
      unit: of the margins by which rows are compared.
      count: of rows, at most.
    """
    found: list[tuple[float, int, dict[str, Any]]] = []
    present, learned = (np.zeros(len(classes), bool) for _ in range(2))
    for rows, outputs in batches:
        labels = examples.labels[rows]
        margins, there, ahead = target.evidence(
            outputs, labels, len(classes), unit=unit
        )
        present |= there
        learned |= ahead
        for k in np.argsort(margins, kind="stable")[:count]:
            if margins[k] < 0:
                said = target.contradiction(outputs[k], labels[k], classes, unit=unit)
                found.append((float(margins[k]), int(rows[k]), said))
        found = sorted(found, key=lambda entry: entry[:2])[:count]
    numbers = examples.row_numbers(np.array([row for _, row, _ in found], np.int64))
    return Suspicion(
        [
            {"row": int(number), "margin": round(margin, 4)} | said
            for number, (margin, _, said) in zip(numbers, found, strict=True)
        ],
        [classes[k] for k in np.flatnonzero(present & ~learned)],
        [examples.describe(k) for _, k, _ in found] if examples.describe else [],
    )


def note_settled_from_the_start(settled_share: float, margin: str | None) -> None:
    """Says so where the first epoch found next to nothing to learn.

    Args:
      settled_share: of the first epoch.
      margin: the key of the loss's margin; None: it has none.
    """
    if settled_share > _SETTLED_FROM_THE_START:
        small = f", or `loss.{margin}` is too small to ask for more" if margin else ""
        notice(
            f"{settled_share:.2%} of the examples were settled in the first epoch, and "
            f"nothing is learned from those: the network knew the task already{small}"
        )


def note_never_learned(
    names: list[str | int], *, num_classes: int, accuracy: float, steps: int
) -> None:
    """Names the labels that no training example has ahead in the end, and why.

    Args:
      names: of the labels.
      num_classes: that there are.
      accuracy: on the training data, in the last epoch.
      steps: gradient steps that were made.
    """
    if not names:
        return
    listed = ", ".join(map(str, names[:_NAMED]))
    more = ", ..." if len(names) > _NAMED else ""
    # A network that gives everything the most frequent label has learned none.
    if accuracy < _LEARNED or len(names) >= num_classes - 1:
        reason = (
            f"after {steps} gradient step(s) {accuracy:.0%} of the training labels are "
            "right, so the network needs more (training.epochs), or larger ones "
            "(optimizer.learning_rate)"
        )
    else:
        reason = "they have few examples, or wrong ones"
    notice(
        f"{len(names)} of {num_classes} labels were never learned, not even on "
        f"training data: {listed}{more}; {reason}"
    )
