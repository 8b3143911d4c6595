"""Golden values of one against rest."""

from golden.case import A, Golden, X

GOLDEN = (
    # log(1 + e^1.2) + log(1 + e^-1.5) + log(1 + e^1.0) + log(1 + e^-0.35)
    Golden(
        "one_vs_rest",
        {},
        A,
        1,
        3.51133958826,
        (
            0.768524783499,
            -0.182425523806,
            0.73105857863,
            0.413382421083,
        ),
    ),
    Golden(
        "one_vs_rest",
        {},
        X,
        1,
        1003.74173453,
        (
            1,
            -0.5,
            0,
            0.952574126822,
        ),
    ),
)
