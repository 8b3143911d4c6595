"""What a golden value is, and the inputs that many of them share."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Golden(NamedTuple):
    """One row of logits, its target, and what must come out."""

    name: str
    keywords: Mapping[str, Any]
    logits: Sequence[float]
    target: int | Sequence[float]  # a label, multi-hot targets, or a distribution
    loss: float
    gradient: Sequence[float]


A = (1.2, 1.5, 1.0, -0.35)  # p = (0.296, 0.399, 0.242, 0.063)
B = (2.5, 3.4, 0.4, 0.3)  # p = (0.271, 0.666, 0.033, 0.030)
D = (4.0, 0.5, -1.0, 0.0)  # p = (0.947, 0.029, 0.006, 0.017)
E = (2.5, 1.5, 0.0, -1.0)  # p = (0.676, 0.249, 0.055, 0.020)
H = (2.0, -1.0, -1.5, -3.0)  # each on its side of 1 and -1, one at the edge
FAR = (0.5, -1.0, 2.0, -5.5)  # a label far below 0
X = (1000.0, 0.0, -1000.0, 3.0)  # extreme
C1, C2 = (0.3, -0.35, 0.64, -0.26), (-0.26, 0.64, 0.05, 0.66)  # cosines
# Cosines of a batch's pairs, and those that are kept.
PAIRS = (
    ((1.0, 0.2, 0.6), (0.2, 1.0, -0.1), (0.6, -0.1, 1.0)),
    ((False, True, True), (False, False, False), (False, False, False)),
)
COUNTS = (100, 20, 5, 1)  # examples of each class
ONE, TWO = (0.7,), (3.0, -1.0)  # one class, two classes
T = (1, 0, 0, 1)  # multi-hot targets
Q = (0.7, 0.1, 0.2, 0.0)  # a distribution
