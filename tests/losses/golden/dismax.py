"""Golden values of DisMax's loss."""

from golden.case import A, B, Golden

GOLDEN = (
    Golden(
        "dismax",
        {},
        A,
        1,
        0.0549852441204,
        (
            0.471234161127,
            -0.535008857226,
            0.0637746086668,
            8.74323792324e-08,
        ),
    ),
    Golden(
        "dismax",
        {},
        B,
        2,
        30.0001234022,
        (
            0.00123394575986,
            9.99876605424,
            -10,
            3.44205232547e-13,
        ),
    ),
)
