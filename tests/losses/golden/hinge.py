"""Golden values of squared hinge losses."""

from golden.case import A, B, Golden, H, T

GOLDEN = (
    # (1 + 1.2)^2 + 0 + (1 + 1.0)^2 + (1 - 0.35)^2 for A; H is settled
    Golden(
        "squared_hinge",
        {},
        A,
        1,
        9.2625,
        (
            4.4,
            0,
            4,
            1.3,
        ),
    ),
    Golden(
        "squared_hinge",
        {},
        H,
        0,
        0,
        (
            0,
            0,
            0,
            0,
        ),
    ),
    # 0 + (1 + 3.4)^2 + (1 + 0.4)^2 + (1 - 0.3)^2
    Golden(
        "multi_label_squared_hinge",
        {},
        B,
        T,
        21.81,
        (
            0,
            8.8,
            2.8,
            -1.4,
        ),
    ),
)
