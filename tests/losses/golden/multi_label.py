"""Golden values of losses for several labels an example."""

from golden.case import A, E, Golden

GOLDEN = (
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
)
