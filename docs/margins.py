"""Draws docs/margins.svg: both margins of AS-Softmax over the gap to equal rivals.

python docs/margins.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from as_softmax_jax import as_softmax_loss
from as_softmax_jax.losses import softmax_loss

PICTURE = Path(__file__).with_suffix(".svg")
CLASSES = (2, 10, 150)
COLORS = ("#1b6ca8", "#c8553d", "#3a7d44")
COLUMNS = {
    "logit_margin = 2": {"logit_margin": 2.0},
    "delta = 0.1, the paper's": {"delta": 0.1},
}
GAPS = np.linspace(-1.0, 5.0, 1201, dtype=np.float32)


def curves(loss, num_classes, **margin):
    """Returns the loss, and how hard it pulls the label up, at each gap.

    Args:
      loss: of the library.
      num_classes: the label, and rivals of one logit, 0.
      **margin: of the loss.
    """
    logits = jnp.zeros((len(GAPS), num_classes)).at[:, 0].set(GAPS)
    labels = jnp.zeros(len(GAPS), jnp.int32)
    value, vjp = jax.vjp(lambda o: loss(o, labels, **margin), logits)
    return value, -vjp(jnp.ones_like(value))[0][:, 0]


def draw():
    """Draws loss and gradient, a row each, and the margins, a column each."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "the same each time"
    figure, panels = pyplot.subplots(
        2, 2, figsize=(9, 5.5), sharex=True, sharey="row", layout="constrained"
    )
    for column, (title, margin) in enumerate(COLUMNS.items()):
        for num_classes, color in zip(CLASSES, COLORS, strict=True):
            plain = curves(softmax_loss, num_classes)
            ours = curves(as_softmax_loss, num_classes, **margin)
            for axes, soft, own in zip(panels[:, column], plain, ours, strict=True):
                axes.plot(GAPS, soft, color=color, alpha=0.45, linestyle=":")
                axes.plot(GAPS, own, color=color, label=f"{num_classes} classes")
        panels[0, column].set_title(title)
        panels[1, column].set_xlabel("gap: label's logit less each rival's")
    panels[0, 0].set_ylabel("loss")
    panels[1, 0].set_ylabel("pull on the label's logit")
    panels[0, 1].plot([], [], color="0.4", linestyle=":", label="softmax")
    panels[0, 1].legend(frameon=False)
    for axes in panels.flat:
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.25)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
