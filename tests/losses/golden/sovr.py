"""Golden values of SOVR: the first is above the threshold, the second below."""

from golden.case import A, B, Golden

GOLDEN = (
    Golden(
        "sovr",
        {"threshold": -3.0, "weight": 0.4},
        A,
        1,
        0.918123470066,
        (
            0.295784695301,
            -0.600732423901,
            0.242168026333,
            0.0627797022667,
        ),
    ),
    Golden(
        "sovr",
        {"threshold": -3.0, "weight": 0.4},
        B,
        2,
        2.95163548063,
        (
            0.369656727992,
            0.387081814121,
            -0.160524935955,
            0.229777006725,
        ),
    ),
)
