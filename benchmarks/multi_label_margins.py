"""Margins of several labels: what each costs, and what it settles.

    AS_SOFTMAX_DATA=FOLDER python benchmarks/multi_label_margins.py --encoder ENCODER
    ... --dry-run     # prints the table in place of writing it into docs/losses.md

A small network learns GoEmotions (28 classes, 8,000 examples) on the frozen features
of an encoder, a folder as for `model.pretrained`. A margin in logits may differ for
classes that are labels and those that are not: a pair (m of labels, m of others).
Nothing is timed, so other work may run beside.
"""

import argparse
import functools
import math
import os
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow.parquet as parquet
from flax import nnx
from report import LOSSES_PAGE, machine, write_section
from tokenizers import Tokenizer

from as_softmax_jax import multi_label_as_softmax_loss
from train.config import ModelConfig
from train.models.bert import Bert
from train.models.pretrained import load_weights, read_encoder_config

TRAIN, LENGTH, HIDDEN, CLASSES = 8_000, 48, 256, 28
EPOCHS, BATCH_SIZE, RATE, DROPOUT = 8, 32, 1e-3, 0.3
SEEDS = (0, 1, 2)
INF = math.inf


class Rule(NamedTuple):
    """A margin in probability, or one in logits for labels and one for others."""

    labels: float = INF
    others: float = INF
    delta: float | None = None

    def __str__(self):
        if self.delta is not None:
            return f"delta = {self.delta}"
        if self.labels == self.others:
            return "softmax" if self.labels == INF else f"m = {self.labels:g}"
        return f"m = ({self.labels:g}, {self.others:g})"


RULES = (
    Rule(),
    Rule(delta=0.1),
    Rule(delta=0.5),
    *(Rule(m, m) for m in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)),
    *(Rule(INF, m) for m in (0.0, 1.0, 2.0)),
    *(Rule(m, INF) for m in (0.0, 1.0, 2.0)),
    *(Rule(1.0, 0.0), Rule(2.0, 0.0), Rule(2.0, 1.0), Rule(3.0, 1.0), Rule(0.0, 1.0)),
)


def features(folder, texts):
    """The mean of an encoder's last hidden states, [n, width]."""
    shape = read_encoder_config(folder)
    encoder = Bert(shape, ModelConfig(dropout=0.0), rngs=nnx.Rngs(0))
    state = nnx.state(encoder)
    params = jax.tree.map(jnp.asarray, load_weights(folder, shape).params)
    nnx.replace_by_pure_dict(state, params)
    nnx.update(encoder, state)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LENGTH)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]

    @nnx.jit
    def embed(encoder, tokens):
        mask = (tokens >= 0)[..., None]
        return jnp.sum(encoder(tokens) * mask, 1) / jnp.maximum(jnp.sum(mask, 1), 1)

    order = np.argsort([len(i) for i in ids])
    found = np.zeros((len(ids), shape.width), np.float32)
    for rows in np.array_split(order, -(-len(ids) // 64)):
        length = -(-max(len(ids[r]) for r in rows) // 8) * 8
        tokens = np.full((64, length), -1, np.int32)
        for k, row in enumerate(rows):
            tokens[k, : len(ids[row])] = ids[row]
        found[rows] = np.asarray(embed(encoder, tokens))[: len(rows)]
    return found


def read(folder, encoder):
    """Features and multi-hot targets of each split."""
    tables = {
        split: parquet.read_table(folder / f"{split}.parquet")
        for split in ("train", "validation", "test")
    }
    tables["train"] = tables["train"].slice(0, TRAIN)
    names = sorted({n for row in tables["train"]["labels"].to_pylist() for n in row})
    data = {}
    for split, table in tables.items():
        targets = [
            [name in row for name in names] for row in table["labels"].to_pylist()
        ]
        data[split] = features(encoder, table["text"].to_pylist()), np.array(targets)
    x = data["train"][0]
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-3
    return {split: ((x - mean) / deviation, y) for split, (x, y) in data.items()}


def losses(rule, logits, targets):
    """The loss of each row; with a pair of margins, what is beyond them is masked."""
    if rule.delta is not None:
        return multi_label_as_softmax_loss(logits, targets, delta=rule.delta)
    if rule.labels == rule.others:
        return multi_label_as_softmax_loss(logits, targets, logit_margin=rule.labels)
    margin = jnp.where(targets, rule.labels, rule.others)
    near = jnp.where(targets, logits, -logits) <= margin
    return multi_label_as_softmax_loss(
        logits, targets, logit_margin=INF, class_mask=near
    )


def active_entries(rule, logits, targets):
    """Which entries have a gradient."""
    total = jax.grad(lambda logits: losses(rule, logits, targets).sum())
    return np.asarray(total(jnp.asarray(logits))) != 0


def forward(params, x, key=None):
    """The logits of a network with one hidden layer."""
    hidden = jax.nn.gelu(x @ params["in"] + params["in_bias"])
    if key is not None:
        kept = jax.random.bernoulli(key, 1 - DROPOUT, hidden.shape)
        hidden = hidden * kept / (1 - DROPOUT)
    return hidden @ params["out"] + params["out_bias"]


def train(rule, x, y, seed):
    """Returns the parameters after all epochs."""
    keys = jax.random.split(jax.random.key(seed), 3)
    scale = x.shape[1] ** -0.5
    params = {
        "in": scale * jax.random.normal(keys[0], (x.shape[1], HIDDEN)),
        "in_bias": jnp.zeros(HIDDEN),
        "out": 0.01 * jax.random.normal(keys[1], (HIDDEN, CLASSES)),
        "out_bias": jnp.zeros(CLASSES),
    }
    steps = EPOCHS * (len(x) // BATCH_SIZE)
    optimizer = optax.adamw(optax.cosine_decay_schedule(RATE, steps), weight_decay=0.01)

    def mean_loss(params, x, y, key):
        return losses(rule, forward(params, x, key), y).mean()

    @jax.jit
    def epoch(params, state, x, y, key):
        def step(carry, batch):
            params, state, key = carry
            key, own = jax.random.split(key)
            grads = jax.grad(mean_loss)(params, *batch, own)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state, key), None

        return jax.lax.scan(step, (params, state, key), (x, y))[0]

    state, key = optimizer.init(params), keys[2]
    generator = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = generator.permutation(len(x))[: len(x) // BATCH_SIZE * BATCH_SIZE]
        order = order.reshape(-1, BATCH_SIZE)
        params, state, key = epoch(params, state, x[order], y[order], key)
    return params


def f1(logits, targets, threshold):
    """Micro and macro F1 in percent."""
    predicted = logits > threshold
    both = (predicted & targets).sum(axis=0)
    either = predicted.sum(axis=0) + targets.sum(axis=0)
    micro, macro = 2 * both.sum() / either.sum(), (2 * both / np.maximum(either, 1))
    return 100 * micro, 100 * macro.mean()


def score(rule, data, seed):
    """F1 at 0 and at the best threshold of validation, and what is settled."""
    x, y = data["train"]
    params = train(rule, x, y, seed)
    logits = {split: np.asarray(forward(params, x)) for split, (x, _) in data.items()}
    of = functools.partial(f1, logits["validation"], data["validation"][1])
    thresholds = np.linspace(-4, 4, 81)
    best = [max(thresholds, key=lambda t: of(t)[k]) for k in (0, 1)]
    test = functools.partial(f1, logits["test"], data["test"][1])
    active = active_entries(rule, logits["train"], y)
    return (
        *(test(0.0)[0], test(best[0])[0], test(0.0)[1], test(best[1])[1]),
        *(100 * (1 - active.mean()), 100 * (1 - active.any(axis=1).mean())),
    )


def main():
    """Measures, and writes or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    data = read(Path(os.environ["AS_SOFTMAX_DATA"]) / "goemotions", args.encoder)
    lines = [
        "| margin | micro F1 (%) | tuned | macro F1 (%) | tuned | settled entries (%) "
        "| settled rows (%) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rule in RULES:
        scores = np.array([score(rule, data, seed) for seed in SEEDS])
        mean, spread = scores.mean(axis=0), scores.std(axis=0, ddof=1)
        f1s = [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean[:4], spread[:4], strict=True)]
        shares = [f"{m:.1f}" for m in mean[4:]]
        lines.append(f"| {rule} | {' | '.join([*f1s, *shares])} |")
        print(lines[-1], flush=True)
    text = "\n".join([*lines, "", f"{len(SEEDS)} seeds. {machine()}."])
    if args.dry_run:
        print(text)
    else:
        write_section("multi_label_margins", text, LOSSES_PAGE)


if __name__ == "__main__":
    main()
