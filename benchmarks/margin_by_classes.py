"""How a margin between logits should grow with the number of classes.

    python benchmarks/margin_by_classes.py                # writes docs/losses.md
    python benchmarks/margin_by_classes.py --dry-run      # prints the tables
    python benchmarks/margin_by_classes.py --classes 1000 # some of them

A linear layer learns two kinds of data for which it can be perfect, and whose least
error is known since the distribution is:

- `apart`: a point around the centre of its class. Few examples are hard;
- `flat`: a class drawn from a softmax over all classes. Most examples are hard, and a
  label has many rivals of its own strength, as the next word of a text has.

Each rule has the same data, batches, rate and steps, and is told by what it does on
fresh examples: accuracy, and perplexity with one temperature fitted on others. Nothing
is timed, so other work may run beside.
"""

import argparse
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from report import LOSSES_PAGE, machine, write_section
from scipy.optimize import minimize_scalar

from as_softmax_jax import as_softmax_loss, as_softmax_settled

WIDTH, BATCH_SIZE, RATE, HELD_OUT = 32, 256, 0.02, 4096
SEEDS = (0, 1, 2)


class Data(NamedTuple):
    """One kind of data with a number of classes."""

    kind: str
    classes: int
    spread: float  # of a class around its centre, or of the true logits
    train: int
    epochs: int
    seeds: tuple[int, ...] = SEEDS


DATA = (
    Data("apart", 10, 2.5, 2_000, 20),
    Data("apart", 150, 1.4, 6_000, 20),
    Data("apart", 1_000, 1.15, 40_000, 10),
    Data("apart", 100_000, 0.7, 100_000, 2, (0,)),
    Data("flat", 10, 0.35, 4_000, 10),
    Data("flat", 150, 0.35, 40_000, 10),
    Data("flat", 1_000, 0.35, 40_000, 8),
    Data("flat", 10_000, 0.35, 200_000, 2, (0,)),
)


class Rule(NamedTuple):
    """A margin: a number and what it adds with C, and a floor on p_t."""

    name: str
    margin: float
    log_rivals: float = 0.0
    floor: float = 0.0

    def of(self, classes):
        """The margin with that many classes."""
        return self.margin + self.log_rivals * math.log(classes - 1)


RULES = (
    Rule("softmax", math.inf),
    Rule("m = 1", 1.0),
    Rule("m = 2", 2.0),
    Rule("m = 3", 3.0),
    Rule("m = 5", 5.0),
    Rule("m = log(C - 1)", 0.0, 1.0),
    Rule("m = 2 + log(C - 1)", 2.0, 1.0),
    Rule("m = 2, p_t > 1/2", 2.0, floor=0.5),
)
# What more than a thousand classes leave time for.
FEW = ("softmax", "m = 2", "m = log(C - 1)", "m = 2, p_t > 1/2")


class Examples(NamedTuple):
    """Features [n, WIDTH], labels [n], and the true log-probabilities' maximiser."""

    x: np.ndarray
    y: np.ndarray
    best: np.ndarray  # the class that the true distribution puts first; 0 if not asked


def draw(data, seed, count, stream, *, with_best=True):
    """Draws examples; the classes depend on the seed alone."""
    centres = np.random.default_rng(seed).normal(size=(data.classes, WIDTH))
    rng = np.random.default_rng((seed, stream))
    x = rng.normal(size=(count, WIDTH))
    y = rng.integers(data.classes, size=count)
    if data.kind == "apart":
        x = centres[y] + data.spread * x
    best = np.zeros(count, int)
    if not with_best and data.kind == "apart":
        return Examples(x.astype(np.float32), y.astype(np.int32), best)
    for start in range(0, count, 512):
        rows = slice(start, start + 512)
        logits = _true_logits(data, centres, x[rows])
        best[rows] = logits.argmax(axis=1)
        if data.kind == "flat":
            y[rows] = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return Examples(x.astype(np.float32), y.astype(np.int32), best)


def _true_logits(data, centres, x):
    if data.kind == "flat":
        return data.spread * x @ centres.T
    return (x @ centres.T - (centres**2).sum(axis=1) / 2) / data.spread**2


def margins(rule, logits, labels):
    """The margin of each row; softmax's where the label's probability is low."""
    margin = rule.of(logits.shape[-1])
    if not rule.floor:
        return jnp.full(labels.shape, margin)
    log_probs = jax.nn.log_softmax(jax.lax.stop_gradient(logits))
    label = jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]
    return jnp.where(label > math.log(rule.floor), margin, jnp.inf)


def train(data, rule, seed, examples):
    """Returns the layer's parameters after all epochs."""
    steps = data.epochs * (len(examples.y) // BATCH_SIZE)
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps))
    params = {
        "kernel": jnp.zeros((WIDTH, data.classes)),
        "bias": jnp.zeros(data.classes),
    }

    def loss(params, x, y):
        logits = x @ params["kernel"] + params["bias"]
        margin = margins(rule, logits, y)
        return as_softmax_loss(logits, y, logit_margin=margin).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, x, y):
        updates, state = optimizer.update(jax.grad(loss)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    state, rng = optimizer.init(params), np.random.default_rng(seed)
    for _ in range(data.epochs):
        order = rng.permutation(len(examples.y))
        for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            params, state = step(params, state, examples.x[rows], examples.y[rows])
    return params


class Scores(NamedTuple):
    """What one run comes to; shares in percent."""

    accuracy: float
    perplexity: float
    settled: float  # of the training examples
    label_prob: float  # the median p_t of those


def score(rule, params, training, tuning, fresh):
    """Scores a trained layer."""

    def logits_of(x):
        return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])

    def log_loss(examples, temperature):
        logits = logits_of(examples.x) / temperature
        logits -= logits.max(axis=1, keepdims=True)
        label = logits[np.arange(len(logits)), examples.y]
        return float((np.log(np.exp(logits).sum(axis=1)) - label).mean())

    fitted = minimize_scalar(
        lambda power: log_loss(tuning, math.exp(power)),
        bounds=(-3, 3),
        method="bounded",
        options={"xatol": 1e-2},
    )
    right = logits_of(fresh.x).argmax(axis=1) == fresh.y
    logits, labels = jnp.asarray(logits_of(training.x)), jnp.asarray(training.y)
    margin = margins(rule, logits, labels)
    settled = np.asarray(as_softmax_settled(logits, labels, logit_margin=margin))
    log_probs = jax.nn.log_softmax(logits)
    label = np.exp(np.asarray(log_probs)[np.arange(len(labels)), labels])
    return Scores(
        100 * right.mean(),
        math.exp(log_loss(fresh, math.exp(fitted.x))),
        100 * settled.mean(),
        float(np.median(label[settled])) if settled.any() else math.nan,
    )


def measure(data, rules):
    """Returns the least error in percent, and the scores of each rule and seed."""
    errors, found = [], {rule.name: [] for rule in rules}
    held_out = min(HELD_OUT, 1024 if data.classes > 10_000 else HELD_OUT)
    for seed in data.seeds:
        training = draw(data, seed, data.train, 0, with_best=False)
        tuning, fresh = (draw(data, seed, held_out, stream) for stream in (1, 2))
        errors.append(100 * (fresh.best != fresh.y).mean())
        seen = Examples(*(part[:held_out] for part in training))
        for rule in rules:
            params = train(data, rule, seed, training)
            scores = score(rule, params, seen, tuning, fresh)
            found[rule.name].append(scores)
            print(data.kind, data.classes, seed, rule.name, *scores, flush=True)
    return float(np.mean(errors)), found


def table(data, rules):
    """A table of one kind of data, a row a rule."""
    error, found = measure(data, rules)
    lines = [
        f"`{data.kind}`, {data.classes:,} classes, {len(data.seeds)} seed"
        f"{'s' if len(data.seeds) > 1 else ''}; the most that can be right is "
        f"{100 - error:.1f} %.",
        "",
        "| rule | m | accuracy (%) | perplexity | settled (%) | their median p_t |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rule in rules:
        scores = np.array(found[rule.name])
        mean, deviation = scores.mean(axis=0), scores.std(axis=0)
        spread = f" ± {deviation[0]:.2f}" if len(scores) > 1 else ""
        prob = "-" if math.isnan(mean[3]) else f"{mean[3]:.3f}"
        lines.append(
            f"| {rule.name} | {rule.of(data.classes):.1f} | {mean[0]:.2f}{spread} | "
            f"{mean[1]:.3g} | {mean[2]:.1f} | {prob} |"
        )
    return "\n".join(lines)


def main():
    """Measures and writes, or prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--classes", type=int, nargs="*", help="default: all")
    args = parser.parse_args()
    tables = [
        table(data, [r for r in RULES if data.classes <= 1_000 or r.name in FEW])
        for data in DATA
        if not args.classes or data.classes in args.classes
    ]
    text = "\n\n".join([*tables, f"By `{__file__.rpartition('/')[2]}` on {machine()}."])
    print(text)
    if not args.dry_run:
        write_section("margin_by_classes", text, LOSSES_PAGE)


if __name__ == "__main__":
    main()
