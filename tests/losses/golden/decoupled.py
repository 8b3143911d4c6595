"""Golden values of decoupled softmax and soft top-k."""

from golden.case import A, B, Golden, T, X

GOLDEN = (
    Golden(
        "multi_label_decoupled_softmax",
        {},
        A,
        T,
        1.78536944318,
        (
            -0.342201083344,
            0.496490281064,
            0.301136577715,
            -0.455425775436,
        ),
    ),
    Golden(
        "multi_label_decoupled_softmax",
        {},
        B,
        T,
        2.2332713765,
        (
            -0.360415497147,
            0.800011768255,
            0.0398302406012,
            -0.479426511709,
        ),
    ),
    Golden(
        "multi_label_decoupled_softmax",
        {},
        X,
        T,
        0.0242936757869,
        (
            0,
            0.0237129365888,
            0,
            -0.0237129365888,
        ),
    ),
    Golden(
        "multi_label_soft_top_k",
        {"k": 2},
        A,
        T,
        1.54343971947,
        (
            0.0445175660454,
            0.324350088567,
            0.440512953602,
            -0.809380608215,
        ),
    ),
    Golden(
        "multi_label_soft_top_k",
        {"k": 2},
        B,
        T,
        1.38245655192,
        (
            0.29477505375,
            0.0902984293882,
            0.293766328897,
            -0.678839812035,
        ),
    ),
)
