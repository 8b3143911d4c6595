"""Golden values of losses of ordered classes."""

from golden.case import D, Golden

GOLDEN = (
    Golden(
        "ordinal_cross_entropy",
        {},
        D,
        0,
        5.99863578018,
        (
            0.982013790038,
            0.622459331202,
            0.26894142137,
            0.5,
        ),
    ),
    Golden(
        "ordinal_cross_entropy",
        {},
        D,
        2,
        1.49863578018,
        (
            -0.0179862099621,
            -0.377540668798,
            0.26894142137,
            0.5,
        ),
    ),
    Golden(
        "ordinal_cross_entropy",
        {},
        D,
        4,
        2.49863578018,
        (
            -0.0179862099621,
            -0.377540668798,
            -0.73105857863,
            -0.5,
        ),
    ),
)
