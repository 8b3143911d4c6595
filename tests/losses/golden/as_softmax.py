"""Golden values of AS-Softmax."""

from golden.case import A, E, Golden

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
)
