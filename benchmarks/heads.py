"""Time, memory and error of an output layer with its loss, side by side in one run.

    python benchmarks/heads.py             # table and plot into docs/benchmarks.md
    python benchmarks/heads.py --dry-run   # prints the tables

Every contender computes the mean loss and its gradients for features and kernel.
Contenders alternate call by call, and a figure is a ratio of medians.
"""

import argparse
import functools
import re
import resource
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from report import PAGE, machine, write_section
from roofline import measure_ceilings
from timing import alternate

from as_softmax_jax import as_softmax_loss, linear_as_softmax_loss

# The margins of AS-Softmax; the first one's memory, error and roofline are shown.
MARGINS = {"logit_margin": 2.0, "delta": 0.1}
ROWS, WIDTH = 1024, 256
# Settled shares of the rows, by the number of classes and the kind of the others.
SHARES = {
    (5_000, "hard"): (0.0, 0.9),
    (5_000, "partial"): (0.0, 0.9),
    (50_000, "hard"): (0.0, 0.5, 0.9, 0.99),
    (50_000, "partial"): (0.0, 0.5, 0.9, 0.99),
    (200_000, "hard"): (0.9,),
    (200_000, "partial"): (0.9,),
    (1_000_000, "hard"): (0.9,),
}
PLOTTED = 50_000
# A dense contender holds the logits several times over.
LARGEST_DENSE = 2**30
# Rows whose error is measured.
CHECKED = 16


class Figures(NamedTuple):
    """Of one number of classes and one mix of rows."""

    classes: int
    kind: str
    settled: float
    seconds: dict[str, float]
    memory: float  # of the head, as a share of the logits
    errors: dict[str, float]
    roofline: float  # the least time over the head's


def draw(kind, share, n, d, c, seed=0):
    """Draws features [n, d], a kernel [d, c] and labels: a share of them settled.

    A row's features are noise, plus what lifts its label, and in a partial row a rival
    just below, over the log of the sum of all others.
    """
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((d, c), np.float32) / np.float32(np.sqrt(d))
    x = rng.standard_normal((n, d), np.float32)
    t = rng.integers(0, c, n)
    rival = (t + 1 + rng.integers(0, c - 1, n)) % c
    settled = rng.permutation(n) < round(share * n)
    w_t, w_r = w[:, t].T, w[:, rival].T
    noise = x.copy()
    for _ in range(20):
        rest = np.log(c) + (x**2).sum(1) / d / 2
        # The label stands 6 above the others where settled, 3 in a partial row.
        push = np.where(settled, rest + 6, rest + 3) - (x * w_t).sum(1)
        x = x + (push / (w_t**2).sum(1))[:, None] * w_t
        if kind == "partial":
            goal = np.where(settled, -np.inf, rest + 2.95)
            push = np.maximum(goal - (x * w_r).sum(1), 0)
            x = x + (push / (w_r**2).sum(1))[:, None] * w_r
    if kind == "hard":
        x = np.where(settled[:, None], x, noise)
    return jnp.asarray(x), jnp.asarray(w), jnp.asarray(t, jnp.int32)


def chunked_softmax(x, w, t, rows=128):
    """Softmax of some rows at a time, computed again in the backward pass."""

    @jax.checkpoint
    def part(x, t):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w, t)

    parts = x.reshape(-1, rows, x.shape[1]), t.reshape(-1, rows)
    return jax.lax.map(lambda pair: part(*pair), parts).reshape(-1)


def contenders(c):
    """The losses to compare, as functions of features, kernel and labels."""
    dense, heads = {}, {}
    dense["optax"] = lambda x, w, t: optax.softmax_cross_entropy_with_integer_labels(
        x @ w, t
    )
    for name, margin in MARGINS.items():
        own = {name: margin}
        dense[f"dense {name}"] = functools.partial(dense_loss, **own)
        heads[f"head {name}"] = functools.partial(linear_as_softmax_loss, **own)
    fits = 4 * ROWS * c <= LARGEST_DENSE
    return (dense if fits else {}) | {"chunked": chunked_softmax} | heads


def dense_loss(x, w, t, **margin):
    """AS-Softmax on the logits of all classes."""
    return as_softmax_loss(x @ w, t, **margin)


def compiled(loss, arguments, gradient=True):
    """Compiles the mean loss, with its gradients for features and kernel or alone."""

    def mean(x, w, t):
        return loss(x, w, t).mean()

    function = jax.value_and_grad(mean, (0, 1)) if gradient else mean
    return jax.jit(function).lower(*arguments).compile()


def measure(c, kind, share, ceilings, seconds):
    """Measures one shape and mix."""
    arguments = draw(kind, share, ROWS, WIDTH, c)
    functions = {
        name: compiled(loss, arguments) for name, loss in contenders(c).items()
    }
    truth = true_gradient(*arguments)
    shown = next(iter(MARGINS))
    errors = {
        name: relative_error(functions[name](*arguments)[1][0], truth)
        for name in (f"dense {shown}", f"head {shown}")
        if name in functions
    }
    for name in MARGINS:
        loss = contenders(c)[f"head {name}"]
        functions[f"pass {name}"] = compiled(loss, arguments, gradient=False)
    head = f"head {shown}"
    settled = float(np.mean(contenders(c)[head](*arguments) == 0))
    medians = alternate(functions, arguments, seconds, least=3)
    memory = functions[head].memory_analysis().temp_size_in_bytes
    # One product forward, and for hard rows two backward; the kernel is read, and its
    # gradient written.
    num_hard = ROWS * (1 - settled) if kind == "hard" else 0
    operations = 2 * WIDTH * c * (ROWS + 2 * num_hard)
    least = ceilings.seconds(operations, 8 * WIDTH * c)
    return Figures(
        classes=c,
        kind=kind,
        settled=settled,
        seconds=medians,
        memory=memory / (4 * ROWS * c),
        errors=errors,
        roofline=least / medians[head],
    )


def true_gradient(x, w, t):
    """The gradient for some rows' features, in float64."""
    x, t = np.asarray(x[:CHECKED], np.float64), np.asarray(t[:CHECKED])
    w = np.asarray(w)
    rows = np.arange(len(x))
    # Kernels of a million classes are not widened at once.
    spans = [slice(k, k + 50_000) for k in range(0, w.shape[1], 50_000)]
    o = np.concatenate([x @ w[:, span].astype(np.float64) for span in spans], axis=1)
    p = np.exp(o - o.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    kept = o[rows, t][:, None] - o <= MARGINS["logit_margin"]
    kept[rows, t] = True
    g = np.where(kept, p, 0)
    g /= g.sum(1, keepdims=True)
    g[rows, t] -= 1
    return sum(g[:, span] @ w[:, span].T.astype(np.float64) for span in spans) / ROWS


def relative_error(gradient, truth):
    """The largest error of some rows' gradient, over its largest entry."""
    error = np.abs(np.asarray(gradient[:CHECKED], np.float64) - truth).max()
    return float(error / max(np.abs(truth).max(), 1e-300))


def row(figures):
    """A line of the table."""
    seconds = figures.seconds
    unit = seconds.get("optax", seconds["chunked"])

    def ratio(name):
        return f"{seconds[name] / unit:.2f}" if name in seconds else "-"

    shown = next(iter(MARGINS))
    errors = (
        f"{figures.errors.get(f'{form} {shown}', np.nan):.0e}"
        for form in ("dense", "head")
    )
    by_margin = (
        f"| {ratio(f'dense {m}')} | {ratio(f'head {m}')} | {ratio(f'pass {m}')} "
        f"| {seconds[f'head {m}'] / seconds[f'pass {m}']:.2f} "
        for m in MARGINS
    )
    return (
        f"| {figures.classes:,} | {figures.kind} | {figures.settled:.0%} "
        f"| {unit * 1e3:.0f} ms | {ratio('chunked')} {''.join(by_margin)}"
        f"| {figures.memory:.1%} | {figures.roofline:.0%} "
        f"| {' / '.join(errors).replace('nan', '-')} |"
    )


def draw_plot(figures, file):
    """Time against the settled share at one number of classes, optax = 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "the same each time"

    chart, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    titles = {
        "optax": "optax on x @ w",
        "chunked": "softmax, some rows at a time",
    }
    for name, margin in MARGINS.items():
        titles[f"head {name}"] = f"linear_as_softmax_loss, {name}={margin}"
    for name, title in titles.items():
        for kind, style in (("hard", "-"), ("partial", "--")):
            if name in ("optax", "chunked") and kind == "partial":
                continue  # they do not see the kind
            mine = [f for f in figures if (f.classes, f.kind) == (PLOTTED, kind)]
            times = [f.seconds[name] / f.seconds["optax"] for f in mine]
            label = f"{title}, rest {kind}" if name.startswith("head") else title
            shares = [100 * f.settled for f in mine]
            axes.plot(shares, times, style, marker="o", label=label)
    axes.set_xlabel("settled rows (%)")
    axes.set_ylabel("time, optax = 1")
    axes.set_ylim(0)
    axes.set_title(f"Loss and gradients, {PLOTTED:,} classes")
    axes.grid(alpha=0.3)
    chart.legend(fontsize="small", loc="outside right upper")
    chart.savefig(file, metadata={"Date": None})
    pyplot.close(chart)


def train_some_steps(c, steps=3):
    """Takes steps of SGD in this process; prints the most memory that it held."""
    x, w, t = draw("hard", 0.5, ROWS, WIDTH, c)

    @functools.partial(jax.jit, donate_argnums=0)
    def step(w, x, t):
        loss = functools.partial(linear_as_softmax_loss, logit_margin=2.0)
        value, gradient = jax.value_and_grad(lambda w: loss(x, w, t).mean())(w)
        return w - 0.1 * gradient, value

    values = []
    for _ in range(steps):
        w, value = step(w, x, t)
        values.append(float(value))
    # Of the device, where it counts; a CPU's is the process's.
    device = jax.devices()[0].memory_stats()
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = device["peak_bytes_in_use"] if device else host
    print(f"loss {values[0]:.4f} -> {values[-1]:.4f}, peak {peak / 2**30:.2f} GiB")


def million():
    """What training a million classes takes, in a sentence, by a process of its own."""
    command = [sys.executable, __file__, "--train", "1000000"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first, last, peak = re.findall(r"\d+\.\d+", printed)
    return (
        f"Three steps of SGD on 1,000,000 classes, half of the rows settled: the loss "
        f"falls from {first} to {last}, and {peak} GiB are held at most, two "
        f"of them the kernel and its gradient."
    )


def table(figures):
    """The lines of the table."""
    columns = "".join(
        f"| `{name}={margin}`: dense | `linear_as_softmax_loss` | alone | head / alone "
        for name, margin in MARGINS.items()
    )
    return [
        f"| classes | rest | settled | optax | chunked softmax {columns}"
        "| temporary memory | roofline | error, dense / head |",
        f"|---:|---|---:|---:|---:{'|---:' * 4 * len(MARGINS)}|---:|---:|---|",
        *map(row, figures),
    ]


def main():
    """Measures every shape and mix, and writes table and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="per row")
    parser.add_argument("--train", type=int, help="classes; only train some steps")
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    flags = parser.parse_args()
    if flags.train:
        train_some_steps(flags.train)
        return
    start, ceilings = time.perf_counter(), measure_ceilings()
    figures = []
    for (c, kind), shares in SHARES.items():
        for share in shares:
            figures.append(measure(c, kind, share, ceilings, flags.seconds))
            seconds = time.perf_counter() - start
            print(row(figures[-1]), f"({seconds:.0f} s)", flush=True)
    lines = [
        "## Output layers: loss and gradients for features and kernel",
        "",
        f"{machine()}. Float32, {ROWS} rows of {WIDTH} features; a "
        "share of the rows is settled, the rest all hard or all partial. Times are "
        "multiples of optax's on `x @ w`, or of the chunked softmax's where the logits "
        "do not fit. *Roofline*: the least time for operations that must be done (a "
        "product forward, two more for hard rows) and for bytes that must move, over "
        f"the head's, with the measured ceilings: {ceilings}. *Error*: of the "
        "features' gradient against float64, over its largest entry. Memory, roofline "
        "and error are of the first margin; *alone* is the loss without gradients. "
        "`python benchmarks/heads.py`",
        "",
        *table(figures),
        "",
        million(),
        "",
        "![Time against the settled share](benchmarks-heads.svg)",
    ]
    print("\n".join(lines))
    if not flags.dry_run:
        draw_plot(figures, PAGE.with_name("benchmarks-heads.svg"))
        write_section("heads", "\n".join(lines))


if __name__ == "__main__":
    main()
