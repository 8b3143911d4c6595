"""Time and memory of the losses against optax, side by side in one run.

    python benchmarks/losses.py             # writes its table into docs/benchmarks.md
    python benchmarks/losses.py --dry-run   # prints it
    python benchmarks/losses.py --losses poly,entmax --shapes 1024x5000   # any, printed

Every contender computes the loss of each row and the gradient for a cotangent of
1 / N. Contenders alternate call by call, each into its memory of the call before, and a
figure is a ratio of medians.
"""

import argparse
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from report import machine, write_section
from roofline import measure_ceilings
from timing import IntoUsedMemory, alternate

import as_softmax_jax
from as_softmax_jax.losses import LOSSES

SHAPES = ((4096, 150), (1024, 5000), (512, 32000), (256, 128256))
KINDS = ("hard", "partial", "settled")
# The margins of AS-Softmax; the first one's memory and roofline are shown.
MARGINS = {"logit_margin": 2.0, "delta": 0.1}
# A kernel is a contender on its device, up to so many classes.
KERNELS = {"gpu": ("mosaic_gpu", 49_152), "tpu": ("mosaic_tpu", 32_768)}


def mostly(kind, n, c, seed=0):
    """Draws logits [n, c] and labels; nine rows in ten are of `kind`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, c)).astype(np.float32)
    labels = rng.integers(0, c, n)
    rows = np.arange(n)
    first, second = (other for other in KINDS if other != kind)
    kinds = np.select([rows % 20 == 0, rows % 20 == 10], [first, second], kind)
    rest = np.log(np.exp(logits).sum(-1))
    rival = (labels + 1 + rng.integers(0, c - 1, n)) % c
    logits[rows, rival] = np.where(kinds == "partial", rest + 2.95, logits[rows, rival])
    logits[rows, labels] = np.select(
        [kinds == "partial", kinds == "settled"],
        [rest + 3, rest + 6],
        logits.min(-1),  # every class is kept, whatever the margin's unit
    )
    return jnp.asarray(logits), jnp.asarray(labels, jnp.int32)


def contenders(c):
    """The losses to compare, optax first."""
    kernel, most = KERNELS.get(jax.default_backend(), ("", 0))
    found = {
        "optax": optax.softmax_cross_entropy_with_integer_labels,
        "softmax_loss": as_softmax_jax.losses.softmax_loss,
    }
    for keyword, margin in MARGINS.items():
        loss = functools.partial(as_softmax_jax.as_softmax_loss, **{keyword: margin})
        found[keyword] = loss
        if c <= most:
            by_kernel = functools.partial(loss, implementation=kernel)
            found[f"{keyword} by kernel"] = by_kernel
    return found


def contenders_named(names, c):
    """Losses of the table, each at the keywords of its row, optax first."""
    found = {"optax": optax.softmax_cross_entropy_with_integer_labels}
    for name in names:
        row = LOSSES[name]
        if row.extras:
            raise SystemExit(f"`{name}` needs {', '.join(row.extras)}, not drawn here.")
        loss = functools.partial(row.function, **row.loss_keywords)
        found[name] = of_one_hot(loss, c) if row.target == "multi_hot" else loss
    return found


def of_one_hot(loss, c):
    """A loss of several labels on one, whose multi-hot form is made for it."""
    return lambda logits, labels: loss(logits, jax.nn.one_hot(labels, c, dtype=bool))


def measure_named(names, shapes, seconds):
    """Prints the time of each loss of the table, as a multiple of optax's."""
    columns = " | ".join(f"`{name}`" for name in names)
    print(f"| logits | rows mostly | optax | {columns} |")
    print(f"|---|---|---:{'|---:' * len(names)}|")
    for n, c in shapes:
        for kind in KINDS:
            arguments = mostly(kind, n, c)
            functions = {
                name: IntoUsedMemory(functools.partial(value_and_grad, f), *arguments)
                for name, f in contenders_named(names, c).items()
            }
            medians = alternate(functions, arguments, seconds)
            base = medians.pop("optax")
            ratios = " | ".join(f"{own / base:.2f}" for own in medians.values())
            print(
                f"| [{n}, {c}] | {kind} | {base * 1e3:.2f} ms | {ratios} |", flush=True
            )


def value_and_grad(loss, logits, labels):
    """Returns the loss of each row, and the gradient of their mean."""
    value, vjp = jax.vjp(lambda o: loss(o, labels), logits)
    return value, vjp(jnp.full_like(value, 1 / len(labels)))[0]


class Figures(NamedTuple):
    """Of one shape and mix of rows."""

    rows: int
    classes: int
    kind: str
    seconds: dict[str, float]
    memory: float  # of the first margin's loss, as a share of the logits
    roofline: float  # the least time over that loss's


def measure(n, c, kind, ceilings, seconds):
    """Measures one shape and mix."""
    arguments = mostly(kind, n, c)
    functions = {
        name: IntoUsedMemory(functools.partial(value_and_grad, loss), *arguments)
        for name, loss in contenders(c).items()
    }
    medians, shown = alternate(functions, arguments, seconds), next(iter(MARGINS))
    # The logits are read once and the gradient written once.
    least = ceilings.seconds(0, 8 * n * c)
    memory = functions[shown].temporary / (4 * n * c)
    return Figures(n, c, kind, medians, memory, least / medians[shown])


def row(figures):
    """A line of the table."""
    seconds, base = figures.seconds, figures.seconds["optax"]

    def ratio(name):
        return f"{seconds[name] / base:.2f}" if name in seconds else "-"

    by_margin = (f"| {ratio(m)} | {ratio(f'{m} by kernel')} " for m in MARGINS)
    return (
        f"| [{figures.rows}, {figures.classes}] | {figures.kind} "
        f"| {base * 1e3:.2f} ms | {ratio('softmax_loss')} {''.join(by_margin)}"
        f"| {figures.roofline:.0%} | {figures.memory:.1%} |"
    )


def table(figures):
    """The lines of the table."""
    columns = (f"| `{name}={margin}` | kernel " for name, margin in MARGINS.items())
    return [
        f"| logits | rows mostly | optax | softmax_loss {''.join(columns)}"
        "| roofline | memory |",
        f"|---|---|---:|---:{'|---:|---:' * len(MARGINS)}|---:|---:|",
        *map(row, figures),
    ]


def names(text):
    """Returns names of losses, those that there are."""
    found = text.split(",")
    unknown = {*found} - {*LOSSES}
    if unknown:
        raise argparse.ArgumentTypeError(f"no {unknown}; there are {', '.join(LOSSES)}")
    return found


def shapes(text):
    """Returns numbers of rows and classes."""
    return [tuple(map(int, shape.split("x"))) for shape in text.split(",")]


def main():
    """Measures every shape and mix, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="per row")
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    parser.add_argument(
        "--losses", type=names, help="of the table, by comma: print them"
    )
    parser.add_argument("--shapes", type=shapes, default=SHAPES, help="as 64x10,8x5000")
    flags = parser.parse_args()
    if flags.losses:
        measure_named(flags.losses, flags.shapes, flags.seconds)
        return
    ceilings, figures = measure_ceilings(), []
    for n, c in flags.shapes:
        for kind in KINDS:
            figures.append(measure(n, c, kind, ceilings, flags.seconds))
            print(row(figures[-1]), flush=True)
    lines = [
        "Forward and backward in float32, as a multiple of the time of",
        "`optax.softmax_cross_entropy_with_integer_labels`; nine rows in ten of the",
        "kind named. Two margins of `as_softmax_loss`, each also by its kernel.",
        "Memory: the buffers of the first beside its inputs and outputs, as a share of",
        "the logits. Roofline: the time to read the logits once and write the gradient",
        "once, over that of the first one, at the speed of a copy; a maximum, a sum",
        "and a scaling are passes of their own.",
        "`python benchmarks/losses.py`",
        "",
        f"{machine()}; {ceilings}",
        "",
        *table(figures),
    ]
    if not flags.dry_run:
        write_section("losses", "\n".join(lines))


if __name__ == "__main__":
    main()
