"""Golden values of softmax losses with a margin."""

from golden.case import A, B, Golden

GOLDEN = (
    # log(1 + e^(4 * -0.15) + e^(4 * -0.75))
    Golden(
        "am_softmax",
        {"margin": 0.35, "scale": 4.0},
        (0.9, 0.4, -0.2),
        0,
        0.4691274358,
        (-1.497808556, 1.37323178, 0.1245767765),
    ),
    # log(e^1.2 + e^1.0 + e^1.0 + e^-0.35) - 1.0
    Golden(
        "soft_margin_softmax",
        {"margin": 0.5},
        A,
        1,
        1.247217052,
        (0.3509129639, -0.7126967648, 0.2873032352, 0.07448056559),
    ),
    # log(e^1.2 + e^1.2 + e^1.0 + e^-0.35) - 1.2 for A
    Golden(
        "soft_margin_softmax",
        {"margin": 0.3},
        A,
        1,
        1.10888557954,
        (
            0.329926433044,
            -0.670073566956,
            0.270120916986,
            0.0700262169255,
        ),
    ),
    Golden(
        "soft_margin_softmax",
        {"margin": 0.3},
        B,
        2,
        3.69777026495,
        (
            0.273140144705,
            0.671816349698,
            -0.975221285111,
            0.0302647907088,
        ),
    ),
)
