"""Golden values of two heads, the second of which answers with sets."""

from golden.case import A, B, D, Golden

GOLDEN = (
    Golden(
        "two_head_average_k",
        {"set_logits": A, "threshold": 0.256480327874265, "weight": 0.5},
        B,
        2,
        4.56207175026,
        (
            0.270792629415,
            0.666042393789,
            -0.966839701805,
            0.0300046786005,
        ),
    ),
    Golden(
        "two_head_average_k",
        {"set_logits": D, "threshold": 0.256480327874265},
        A,
        1,
        2.41675925024,
        (
            0.295784695301,
            -0.600732423901,
            0.242168026333,
            0.0627797022667,
        ),
    ),
)
