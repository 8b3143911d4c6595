"""Draws docs/losses.svg: every loss, and its pull on the label, over the label's lead.

python docs/loss_pictures.py

A panel a family of the table of losses, at the keywords of its rows. The label is g / 2
and nine rivals are -g / 2, so that losses which look at each class by itself see both
sides of 0. With several labels, the first class is the only one; of ordered classes,
the first threshold is the only one passed.
"""

import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from as_softmax_jax.losses import (
    LOSSES,
    ActiveClasses,
    ClassCounts,
    Learned,
    OtherLogits,
    PerExample,
    PerRun,
    StepKey,
    softmax_loss,
)

PICTURE = Path(__file__).with_name("losses.svg")
CLASSES = 10
COLUMNS = 4
LEADS = np.linspace(-4.0, 8.0, 49, dtype=np.float32)
COLORS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#4a4e69")


def families():
    """Returns the rows of each family, one for each margin of a loss."""
    found = {}
    for row in LOSSES.values():
        rows = row.by_margin.values() or (row,)
        found.setdefault(row.family, []).extend(rows)
    return found


def label_of(row):
    """Returns what stands for a row in the legend."""
    if not row.margins:
        return row.name
    return f"{row.name}, {row.margin}={row.keywords[row.margin]:g}"


def extras_of(row, logits, target):
    """Returns the extra inputs of a loss, with as little in them as there can be."""
    found = {}
    for keyword, extra in row.extras.items():
        if isinstance(extra, ClassCounts):
            found[keyword] = jnp.ones(CLASSES)
        elif isinstance(extra, StepKey):
            found[keyword] = jax.random.key(0)
        elif isinstance(extra, OtherLogits):
            found[keyword] = logits
        elif isinstance(extra, PerExample):
            found[keyword] = jnp.full(len(logits), extra.first(row.keywords))
        elif isinstance(extra, PerRun):
            found[keyword] = extra.initial()
        elif isinstance(extra, Learned):
            found[keyword] = extra.first(CLASSES, row.keywords)
        elif isinstance(extra, ActiveClasses):
            found[keyword] = jnp.ones(CLASSES, bool)
        else:
            found[keyword] = extra.compute(logits, target, **row.keywords)
    return found


def curves(function, leads, **keywords):
    """Returns the loss, and how hard it pulls the label up, at each lead."""
    first = jnp.arange(CLASSES) == 0
    logits = jnp.where(first, leads[:, None] / 2, -leads[:, None] / 2)
    loss, vjp = jax.vjp(lambda o: function(o, **keywords), logits)
    return loss, -vjp(jnp.ones_like(loss))[0][:, 0]


def curves_of(row):
    """Returns leads, loss and pull of a row; cosines only where there are any."""
    leads = LEADS[np.abs(LEADS) <= 2] if row.input == "cosines" else LEADS
    # Of thresholds the first is passed, so that its logit is the label's.
    first = int(row.input == "thresholds")
    target = jnp.full(len(leads), first, jnp.int32)
    if row.target == "multi_hot":
        target = jax.nn.one_hot(target, CLASSES, dtype=bool)
    logits = jnp.zeros((len(leads), CLASSES))
    keywords = dict(row.loss_keywords) | extras_of(row, logits, target)
    return leads, *curves(lambda o: row.function(o, target, **keywords), leads)


def draw():
    """Draws the loss of each family, and its pull below."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams |= {
        "svg.hashsalt": "the same each time",
        "svg.fonttype": "none",  # text stays text, which is a third of the size
        "font.size": 7,
    }
    shown = families()
    rows = -(-len(shown) // COLUMNS)
    figure = pyplot.figure(figsize=(3.1 * COLUMNS, 3.6 * rows), layout="constrained")
    blocks = figure.subfigures(rows, COLUMNS, squeeze=False).flat
    label = jnp.zeros(len(LEADS), jnp.int32)
    softmax = curves(lambda o: softmax_loss(o, label), LEADS)
    for block, (title, members) in zip(blocks, shown.items(), strict=False):
        panels = block.subplots(2, 1, sharex=True)
        short = title.partition(":")[0].partition("(")[0].strip(" .")
        block.suptitle(textwrap.fill(short, 36))
        for axes, curve in zip(panels, softmax, strict=True):
            axes.plot(LEADS, curve, color="0.6", linestyle=":", linewidth=1)
        for row, color in zip(members, COLORS * 2, strict=False):
            leads, *found = curves_of(row)
            for axes, curve in zip(panels, found, strict=True):
                axes.plot(leads, curve, color=color, linewidth=1, label=label_of(row))
        panels[0].legend(frameon=False, fontsize=5.5)
        panels[0].set(ylim=(-1.0, 8.0), yticks=(0, 4, 8), ylabel="loss")
        panels[1].set(ylim=(-0.1, 2.0), yticks=(0, 1, 2), ylabel="pull on the label")
        panels[1].set(xticks=(-4, 0, 4, 8))
        for axes in panels:
            axes.grid(alpha=0.25)
    figure.supxlabel("lead of the label over nine equal rivals; dotted: softmax")
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
