"""Draws docs/cosine_margins.svg: what a margin of angle or cosine asks of the label.

python docs/cosine_margins.py
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib
import numpy as np

from as_softmax_jax.losses import ldam_margins, margin_logits

PICTURE = Path(__file__).with_suffix(".svg")
# LDAM's margins are larger for rarer classes, up to half.
RARE, COMMON = np.asarray(ldam_margins(jnp.array([10.0, 5000.0])))
MARGINS = {
    "none: softmax of cosines": {},
    "AM-Softmax, cosine 0.35": {"cosine": 0.35},
    "ArcFace, angle 0.5": {"angle": 0.5},
    "LDAM, a class of 10 examples": {"cosine": float(RARE)},
    "LDAM, a class of 5,000": {"cosine": float(COMMON)},
}
COLORS = ("0.5", "#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2")
DEGREES = np.linspace(0.0, 180.0, 181, dtype=np.float32)


def lowered(degrees, **margin):
    """Returns the label's logit over the scale, at each angle to its weights."""
    cosines = jnp.cos(jnp.deg2rad(degrees))[:, None]
    label = jnp.zeros(len(degrees), jnp.int32)
    return np.asarray(margin_logits(cosines, label, scale=1.0, **margin))[:, 0]


def draw():
    """Draws the label's logit over its angle, and where it ties with a rival."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams |= {
        "svg.hashsalt": "the same each time",
        "svg.fonttype": "none",  # text stays text
    }
    figure, (logits, ties) = pyplot.subplots(
        1, 2, figsize=(9.5, 4.2), layout="constrained"
    )
    for (name, margin), color in zip(MARGINS.items(), COLORS, strict=True):
        value = lowered(DEGREES, **margin)
        logits.plot(DEGREES, value, color=color, label=name)
        # The rival's logit has no margin: it ties at the angle of that cosine.
        reached = value >= -1
        rival = np.rad2deg(np.arccos(value[reached]))
        ties.plot(rival, DEGREES[reached], color=color)
    logits.set(xlabel="angle to the label's weights (degrees)", ylabel="logit / scale")
    logits.legend(frameon=False, fontsize=8)
    ties.set(
        xlabel="angle to a rival's weights (degrees)",
        ylabel="angle to the label's, below which it leads",
        xlim=(0, 180),
        ylim=(0, 180),
    )
    for axes in (logits, ties):
        axes.grid(alpha=0.25)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
