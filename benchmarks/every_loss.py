"""The time of every loss of the library, as a multiple of softmax's, in one table.

    python benchmarks/every_loss.py                     # writes docs/benchmarks.md
    python benchmarks/every_loss.py --dry-run           # prints it
    python benchmarks/every_loss.py --losses poly,sovr  # some of them, printed

Each alternates with `optax.softmax_cross_entropy_with_integer_labels`, call by call,
each into its memory of the call before; a figure is a ratio of medians of loss and
gradient. Logits are normal and labels random: classes are dropped by chance alone.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from losses import SHAPES, names, shapes, value_and_grad
from report import machine, write_section
from timing import IntoUsedMemory, alternate

from as_softmax_jax.losses import (
    LOSSES,
    ActiveClasses,
    ClassCounts,
    FromFeatures,
    Learned,
    OtherLogits,
    PerExample,
    PerRun,
    StepKey,
)

# As many times softmax's time as a loss of one pass over the logits may take.
AIM = 1.3
# Of the features that some losses look at, too.
WIDTH = 128
# Why a loss takes longer.
REASONS = {
    "sorts each row": ("multi_label_soft_top_k",),
    "searches the threshold of each row": (
        *("sparse_softmax", "sparsemax", "multi_label_sparse_softmax"),
        "entmax",
    ),
    "logarithms and exponentials of each class": (
        *("multi_label_sigmoid", "one_vs_rest", "ordinal_cross_entropy", "sovr"),
        *("multi_label_asymmetric", "gumbel", "multi_label_gumbel", "sphereface2"),
        *("asymmetric_single_label", "normalized_focal", "two_head_average_k"),
        *("multi_label_decoupled_softmax", "multi_label_softmax"),
        "multi_label_as_softmax",
    ),
    "a second sum over the logits": (
        *("label_smoothing", "maxsup", "squentropy", "normalized_cross_entropy"),
        *("active_passive", "softmax_squared_error", "spherical_z", "ldr_kl"),
        *("aldr_kl", "balanced_softmax"),
    ),
    "each logit changes first, and is looked through for NaN": (
        *("circle", "real_am_softmax", "stablemax", "masked_softmax"),
        *("squared_hinge", "multi_label_squared_hinge"),
    ),
    "the batch's median": ("madacos",),
    "random margins, and their order": ("elastic_arcface", "elastic_cosface"),
    "all pairs of the batch": ("unpg",),
    "the label leaves the maximum, by a select": (
        *("adaface", "margin_softmax", "am_softmax", "arcface", "dismax", "ldam"),
        *("poly", "comp_sum", "focal", "soft_margin_softmax", "temperature_softmax"),
        *("reverse_cross_entropy", "mean_absolute_error"),
    ),
}


def drawn(n, c, *, cosines, seed=0):
    """Draws logits [n, c], or cosines, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, c)).astype(np.float32)
    logits = np.tanh(logits) if cosines else logits
    return jnp.asarray(logits), jnp.asarray(rng.integers(0, c, n), jnp.int32)


def extras_of(row, logits, target):
    """Returns the extra inputs of a loss, as a training step has them at hand."""
    n, c = logits.shape
    found = {}
    for keyword, extra in row.extras.items():
        match extra:
            case ClassCounts():
                found[keyword] = jnp.arange(1.0, c + 1.0)
            case StepKey():
                found[keyword] = jax.random.key(0)
            case OtherLogits():
                found[keyword] = logits
            case PerExample():
                found[keyword] = jnp.full(n, extra.first(row.keywords))
            case FromFeatures():
                features = logits[:, :WIDTH]
                found[keyword] = extra.compute(features, target, **row.keywords)
            case PerRun():
                found[keyword] = extra.initial()
            case Learned():
                found[keyword] = jnp.float32(extra.first(c, row.keywords))
            case ActiveClasses():
                found[keyword] = jnp.ones(c, bool)
            case _:
                found[keyword] = extra.compute(logits, target, **row.keywords)
    return found


def contender(row, extras):
    """Returns loss and gradient of a row, of logits, target and extra inputs."""

    def loss(logits, target, values):
        keywords = dict(row.loss_keywords) | dict(zip(extras, values, strict=True))
        return value_and_grad(
            lambda o, t: row.function(o, t, **keywords), logits, target
        )

    return loss


def measure(row, n, c, seconds):
    """Returns the time of a loss over optax's."""
    logits, labels = drawn(n, row.num_logits(c), cosines=row.input == "cosines")
    target = labels
    if row.target == "multi_hot":
        target = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    extras = extras_of(row, logits, target)
    # As arguments: XLA folds constants of this size, for seconds.
    arguments = logits, target, [*extras.values()]
    softmax = functools.partial(
        value_and_grad, optax.softmax_cross_entropy_with_integer_labels
    )
    softmax = IntoUsedMemory(softmax, logits, labels)
    functions = {
        "optax": lambda *_: softmax(logits, labels),
        "ours": IntoUsedMemory(contender(row, [*extras]), *arguments),
    }
    medians = alternate(functions, arguments, seconds)
    return medians["ours"] / medians["optax"]


def line(row, figures):
    """A line of the table; what is within the aim is bold."""
    cells = (f"**{r:.2f}**" if r <= AIM else f"{r:.2f}" for r in figures)
    why = [reason for reason, names in REASONS.items() if row.name in names]
    why = why if max(figures) > AIM else []
    return f"| `{row.name}_loss` | {' | '.join(cells)} | {' '.join(why)} |"


def section(lines, shapes):
    """The text of the page's section."""
    columns = " | ".join(f"[{n}, {c}]" for n, c in shapes)
    text = [
        "## Every loss",
        "",
        "Loss and gradient in float32, as a multiple of the time of",
        "`optax.softmax_cross_entropy_with_integer_labels` on the same logits, each at",
        f"the keywords of its row; {AIM} and less is bold. On a CPU, XLA writes an",
        "array for each step that a sum does not take in, such as a select by class.",
        "`python benchmarks/every_loss.py`",
        "",
        machine(),
        "",
        f"| loss | {columns} | why more |",
        f"|---|{'---:|' * len(shapes)}---|",
        *lines,
    ]
    return "\n".join(text)


def main():
    """Measures every loss at every shape, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure")
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    parser.add_argument("--losses", type=names, help="of the table, by comma: print")
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="as 64x10,8x5000")
    flags = parser.parse_args()
    wanted, lines = flags.losses or [*LOSSES], []
    for name in wanted:
        row = LOSSES[name]
        figures = [measure(row, n, c, flags.seconds) for n, c in flags.shapes]
        lines.append(line(row, figures))
        print(lines[-1], flush=True)
        jax.clear_caches()
    if flags.losses or flags.dry_run:
        return
    write_section("every_loss", section(lines, flags.shapes))


if __name__ == "__main__":
    main()
