"""Time and memory of an output layer with its loss, side by side in one run.

    python benchmarks/heads.py             # writes its tables into docs/benchmarks.md
    python benchmarks/heads.py --dry-run   # prints them

Every contender computes the mean loss and its gradients for features and kernel.
Contenders alternate call by call, and a figure is a ratio of medians.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from losses import alternate
from report import machine, write_section

from as_softmax_jax import as_softmax_loss, linear_as_softmax_loss

DELTA = 0.1
ROWS, WIDTH = 1024, 256
CLASSES = (5_000, 50_000, 200_000, 1_000_000)
SHARES = (0.0, 0.5, 0.9, 0.99)
KINDS = ("hard", "partial")
# A dense contender holds the logits several times over.
LARGEST_DENSE = 2**30


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
    head = functools.partial(linear_as_softmax_loss, delta=DELTA)
    dense = {
        "optax": lambda x, w, t: optax.softmax_cross_entropy_with_integer_labels(
            x @ w, t
        ),
        "dense": lambda x, w, t: as_softmax_loss(x @ w, t, delta=DELTA),
    }
    fits = 4 * ROWS * c <= LARGEST_DENSE
    return (dense if fits else {}) | {"chunked": chunked_softmax, "head": head}


def compiled(loss, arguments, gradient=True):
    """Compiles the mean loss, with its gradients for features and kernel or alone."""

    def mean(x, w, t):
        return loss(x, w, t).mean()

    function = jax.value_and_grad(mean, (0, 1)) if gradient else mean
    return jax.jit(function).lower(*arguments).compile()


def measure(c, kind, share, seconds):
    """Measures one shape and mix; returns a row of the table."""
    arguments = draw(kind, share, ROWS, WIDTH, c)
    functions = {
        name: compiled(loss, arguments) for name, loss in contenders(c).items()
    }
    functions["first pass"] = compiled(contenders(c)["head"], arguments, gradient=False)
    settled = float(np.mean(contenders(c)["head"](*arguments) == 0))
    medians = alternate(functions, arguments, seconds)
    unit = medians.get("optax", medians["chunked"])

    def ratio(name):
        return f"{medians[name] / unit:.2f}" if name in medians else "-"

    memory = functions["head"].memory_analysis().temp_size_in_bytes
    return (
        f"| {c:,} | {kind} | {settled:.0%} | {unit * 1e3:.0f} ms | {ratio('dense')} "
        f"| {ratio('chunked')} | {ratio('head')} | {ratio('first pass')} "
        f"| {medians['head'] / medians['first pass']:.2f} "
        f"| {memory / (4 * ROWS * c):.1%} |"
    )


def main():
    """Measures every shape and mix, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="per row")
    parser.add_argument(
        "--classes",
        type=lambda text: [int(part) for part in text.split(",")],
        default=CLASSES,
    )
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    flags = parser.parse_args()
    start = time.perf_counter()
    lines = [
        "## Output layers: loss and gradients for features and kernel",
        "",
        f"{machine()}. Float32, {ROWS} rows of {WIDTH} features, `delta={DELTA}`; a "
        "share of the rows is settled, the rest all hard or all partial.",
        "",
        "| classes | rest | settled | optax | dense AS-Softmax | chunked softmax "
        "| `linear_as_softmax_loss` | its loss alone | with gradients / alone "
        "| temporary memory |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for c in flags.classes:
        for kind in KINDS:
            for share in SHARES:
                lines.append(measure(c, kind, share, flags.seconds))
                print(lines[-1], f"({time.perf_counter() - start:.0f} s)", flush=True)
    if not flags.dry_run:
        write_section("heads", "\n".join(lines))


if __name__ == "__main__":
    main()
