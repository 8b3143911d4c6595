"""Golden values of softmax over the active classes."""

from golden.case import A, B, Golden

GOLDEN = (
    Golden(
        "masked_softmax",
        {"active": (False, True, True, False), "mask_value": 0.0},
        A,
        1,
        0.719200320876,
        (
            0,
            -0.512858342745,
            0.295466350748,
            0,
        ),
    ),
    Golden(
        "masked_softmax",
        {"active": (False, True, True, False), "mask_value": 0.0},
        B,
        2,
        3.11022889331,
        (
            0,
            0.895629108319,
            -0.955409252352,
            0,
        ),
    ),
    Golden(
        "masked_softmax",
        {"active": (False, True, True, False)},
        A,
        1,
        0.47407698418,
        (
            0,
            -0.377540668798,
            0.377540668798,
            0,
        ),
    ),
    Golden(
        "masked_softmax",
        {"active": (False, True, True, False)},
        B,
        2,
        3.04858735157,
        (
            0,
            0.952574126822,
            -0.952574126822,
            0,
        ),
    ),
)
