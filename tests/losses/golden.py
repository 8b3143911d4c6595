"""Golden values: a case or more of each loss, worked out by hand or in float64.

Each was computed in float64 NumPy from the loss's formula, apart from the package and
its references, and its gradient held to central differences. The comment says the loss
as arithmetic, with p the softmax of the logits where it names one.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Golden(NamedTuple):
    """One row of logits, its label or multi-hot targets, and what must come out."""

    name: str
    keywords: Mapping[str, float]
    logits: Sequence[float]
    target: int | Sequence[int]
    loss: float
    gradient: Sequence[float]


A = (1.2, 1.5, 1.0, -0.35)  # p = (0.296, 0.399, 0.242, 0.063)
E = (2.5, 1.5, 0.0, -1.0)  # p = (0.676, 0.249, 0.055, 0.020)

GOLDEN = (
    # log(1 + e^-0.3): of the rivals only the first is within 0.15 of 0.40
    Golden(
        "as_softmax",
        {"delta": 0.15},
        A,
        1,
        0.5543552445,
        (0.4255574832, -0.4255574832, 0, 0),
    ),
    # log(1 + e^-0.3 + e^-0.5): the last is 1.85 below
    Golden(
        "as_softmax",
        {"logit_margin": 1.0},
        A,
        1,
        0.8532865553,
        (0.3155978333, -0.5739874851, 0.2583896517, 0),
    ),
    # settled: the rivals are 1.0 and more below
    Golden("as_softmax", {"logit_margin": 0.9}, E, 0, 0, (0, 0, 0, 0)),
    # settled: the rivals are 0.43 and more below 0.68
    Golden("as_softmax", {"delta": 0.1}, E, 0, 0, (0, 0, 0, 0)),
    # log(1 + e^(4 * -0.15) + e^(4 * -0.75))
    Golden(
        "am_softmax",
        {"margin": 0.35, "scale": 4.0},
        (0.9, 0.4, -0.2),
        0,
        0.4691274358,
        (-1.497808556, 1.37323178, 0.1245767765),
    ),
    # log(e^1.2 + e^1.0 + e^1.0 + e^-0.35) - 1.0
    Golden(
        "soft_margin_softmax",
        {"margin": 0.5},
        A,
        1,
        1.247217052,
        (0.3509129639, -0.7126967648, 0.2873032352, 0.07448056559),
    ),
    # log(1 + e^1.5) + log(1 + e^0): 2.5 is above 0.5, and -1.0 below -0.5
    Golden(
        "multi_label_as_softmax",
        {"logit_margin": 0.5},
        E,
        (1, 0, 1, 0),
        2.394560459,
        (0, 0.8175744762, -0.5, 0),
    ),
    # log(1 + e^1.5 + e^1.0) + log(1 + e^-1.2): the last is 0.23 below
    Golden(
        "multi_label_as_softmax",
        {"delta": 0.1},
        A,
        (1, 0, 0, 0),
        2.367413073,
        (-0.2314752165, 0.5465493873, 0.3314989604, 0),
    ),
    # log(1 + e^1.5 + e^1.0) + log(1 + e^-1.2 + e^0.35)
    Golden(
        "multi_label_softmax",
        {},
        A,
        (1, 0, 0, 1),
        3.104858716,
        (-0.1107225107, 0.5465493873, 0.3314989604, -0.5216658078),
    ),
    # log(1 + e^1.5) + log(1 + e^-1.2 + e^0.35)
    Golden(
        "multi_label_sparse_softmax",
        {"k": 1},
        A,
        (1, 0, 0, 1),
        2.702141389,
        (-0.1107225107, 0.8175744762, 0, -0.5216658078),
    ),
    # log(1 + e^-1.2) + log(1 + e^1.5) + log(1 + e^1.0) + log(1 + e^0.35)
    Golden(
        "multi_label_sigmoid",
        {},
        A,
        (1, 0, 0, 1),
        4.161339588,
        (-0.2314752165, 0.8175744762, 0.7310585786, -0.5866175789),
    ),
    # log(e^1.2 + e^1.5 + e^1.0 + e^-0.35) - 1.5
    Golden(
        "softmax",
        {},
        A,
        1,
        0.9181234701,
        (0.2957846953, -0.6007324239, 0.2421680263, 0.06277970227),
    ),
    # log(e^0.6 + e^0.75 + e^0.5 + e^-0.175) - 0.75
    Golden(
        "temperature_softmax",
        {"temperature": 2.0},
        A,
        1,
        1.110554093,
        (0.1417484496, -0.3353117974, 0.1282593011, 0.06530404668),
    ),
    # softmax's, + 0.1 * (1.5 - (1.2 + 1.5 + 1.0 - 0.35) / 4)
    Golden(
        "label_smoothing",
        {"smoothing": 0.1},
        A,
        1,
        0.9843734701,
        (0.2707846953, -0.5257324239, 0.2171680263, 0.03777970227),
    ),
    # (1 - p)^2 -log p with p = e^-(softmax's)
    Golden(
        "focal",
        {"gamma": 2.0},
        A,
        1,
        0.3313318884,
        (0.2370148625, -0.4813721438, 0.1940513569, 0.05030592434),
    ),
    # log(e^1.2 + e^1.5 + e^-0.35) + 0.35
    Golden(
        "sparse_softmax",
        {"k": 2},
        A,
        3,
        2.490829882,
        (0.390303795, 0.5268550153, 0, -0.9171588103),
    ),
    # p = (0.3, 0.6, 0.1, 0): (1 - 0.36 - 0.09 - 0.01) / 2 - 0.3 * 0.3 - 0.1 * 0.5
    Golden("sparsemax", {}, A, 1, 0.13, (0.3, -0.4, 0.1, 0)),
    # p = (o / 2 - t)^2 with the t at which they sum to 1
    Golden(
        "entmax",
        {"alpha": 1.5},
        A,
        1,
        0.3336593201,
        (0.3041177105, -0.507941684, 0.2038239735, 0),
    ),
)
