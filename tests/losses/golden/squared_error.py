"""Golden values of the squared error of probabilities."""

from golden.case import A, B, Golden, Q, X

GOLDEN = (
    # half the sum of (p - q)^2
    Golden(
        "softmax_squared_error",
        {},
        A,
        Q,
        0.129335264059,
        (
            -0.123725401809,
            0.11386608129,
            0.00680197886605,
            0.00305734165247,
        ),
    ),
    Golden(
        "softmax_squared_error",
        {},
        B,
        Q,
        0.266679362683,
        (
            -0.185589687906,
            0.206401561708,
            -0.014026460168,
            -0.00678541363421,
        ),
    ),
    Golden(
        "softmax_squared_error",
        {},
        X,
        Q,
        0.07,
        (
            0,
            0,
            0,
            0,
        ),
    ),
    Golden(
        "softmax_squared_error",
        {},
        A,
        1,
        0.255477337548,
        (
            0.11404347005,
            -0.204007634622,
            0.080386653215,
            0.00957751135689,
        ),
    ),
)
