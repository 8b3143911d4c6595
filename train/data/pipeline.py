"""Grain pipelines: batches in a seeded order, padded and masked, nothing dropped.

A batch is a dict of arrays with one leading axis: `inputs`, `labels`, `rows`, their
places in the split, and `where`, which is False for the rows that only pad the last
batch of an epoch.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import grain  # type: ignore[import-untyped]  # it ships no type information
import jax
import numpy as np

from .buckets import worthwhile_buckets
from .examples import Examples, Sequences

Batch = dict[str, np.ndarray]
# So many mini-batches tell how long the others are.
_LOOKED_AT = 1000
# Mini-batches whose examples are sorted together, where they are grouped by length.
_GROUPED = 50


def training_rows(
    examples: Examples,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    group_by_length: bool = False,
    shares: np.ndarray | None = None,
    arrivals: np.ndarray | None = None,
) -> grain.MapDataset[np.ndarray]:
    """Returns the rows of every mini-batch of all epochs, each in an order of its own.

    Entry i is drawn without those before it, so a position is one number.

    Args:
      examples: the training split.
      batch_size: of the global batch.
      epochs: how often each example comes.
      seed: decides the order.
      group_by_length: whether the examples of a batch are of about one length.
      shares: of each example in what an epoch draws, with replacement; None: each comes
        once.
      arrivals: the epoch from which on each example is there; the others come so much
        more often, that every epoch is as long. None: all are there from the start.
    """
    if group_by_length or shares is not None or arrivals is not None:

        def arrange(epoch: int, generator: np.random.Generator) -> list[np.ndarray]:
            there = None if arrivals is None else np.flatnonzero(arrivals <= epoch)
            rows = _epoch_rows(len(examples), shares, there, generator)
            if group_by_length:
                return _group(examples, rows, batch_size, generator)
            return np.split(rows, range(batch_size, len(rows), batch_size))

        per_epoch = batches_per_epoch(examples, batch_size)
        return _arranged_rows(arrange, per_epoch, epochs, seed)
    order = grain.MapDataset.range(len(examples)).seed(seed).shuffle()
    return order.batch(batch_size, batch_fn=np.asarray).repeat(epochs)


def _arranged_rows(
    arrange: Callable[[int, np.random.Generator], list[np.ndarray]],
    per_epoch: int,
    epochs: int,
    seed: int,
) -> grain.MapDataset[np.ndarray]:
    """Returns the rows of every mini-batch, an epoch's at a time."""

    @functools.lru_cache(maxsize=1)
    def epoch_rows(epoch: int) -> list[np.ndarray]:
        return arrange(epoch, np.random.default_rng((seed, epoch)))

    positions = grain.MapDataset.range(epochs * per_epoch)
    return positions.map(lambda i: epoch_rows(i // per_epoch)[i % per_epoch])


def _epoch_rows(
    size: int,
    shares: np.ndarray | None,
    there: np.ndarray | None,
    generator: np.random.Generator,
) -> np.ndarray:
    """Returns an epoch's rows in random order, of those that are there."""
    if shares is not None:
        if there is None:
            return generator.choice(size, size, p=shares)
        return generator.choice(there, size, p=shares[there] / shares[there].sum())
    if there is None:
        return generator.permutation(size)
    rounds = [generator.permutation(there) for _ in range(-(-size // len(there)))]
    return np.concatenate(rounds)[:size]


def _group(
    examples: Examples,
    rows: np.ndarray,
    batch_size: int,
    generator: np.random.Generator,
) -> list[np.ndarray]:
    """Returns the rows of an epoch's mini-batches; the last may be partial.

    Sorted by length within so many batches, and these batches in random order.
    """
    full, rest = np.split(rows, [len(rows) // batch_size * batch_size])
    batches: list[np.ndarray] = []
    for start in range(0, len(full), _GROUPED * batch_size):
        part = full[start : start + _GROUPED * batch_size]
        batches += np.split(part[examples.order_of(part)], len(part) // batch_size)
    ordered = [batches[k] for k in generator.permutation(len(batches))]
    return [*ordered, rest] if len(rest) else ordered


def fit_buckets(
    splits: dict[str, Examples],
    *,
    batch_size: int,
    epochs: int,
    group_by_length: bool = False,
) -> dict[str, Examples]:
    """Returns splits of sequences whose batches are cut to few lengths.

    Args:
      splits: with `train` and `validation`.
      batch_size: of the global batch.
      epochs: how often each example is trained on, and the validation split evaluated.
      group_by_length: as for `training_rows`.
    """
    found = {k: s for k, s in splits.items() if isinstance(s, Sequences)}
    if not found:
        return splits
    train, held_out = found["train"], found["validation"]
    rows = training_rows(
        train,
        batch_size=batch_size,
        epochs=1,
        seed=0,
        group_by_length=group_by_length,
    )
    order, looked_at = held_out.order, min(len(rows), _LOOKED_AT)
    lengths = [train.lengths[rows[k]].max() for k in range(looked_at)]
    positions = [batch_size * epochs * len(rows) / looked_at] * looked_at
    for start in range(0, len(order), batch_size):
        lengths.append(held_out.lengths[order[start : start + batch_size]].max())
        positions.append(batch_size * epochs)
    longest = train.inputs.shape[1]
    buckets = worthwhile_buckets(np.array(lengths), np.array(positions), longest)
    return {k: dataclasses.replace(s, buckets=buckets) for k, s in found.items()}


def training_batches(
    examples: Examples, rows: grain.MapDataset[np.ndarray], *, batch_size: int
) -> grain.DatasetIterator[Batch]:
    """Returns an iterator over the mini-batches of `rows`, read ahead.

    Args:
      examples: the training split.
      rows: as `training_rows` gives them, or a slice of that.
      batch_size: of the global batch; each process reads its part.
    """
    return _iterate(rows.map(_reader(examples, batch_size)))


def evaluation_batches(
    examples: Examples, *, batch_size: int
) -> grain.DatasetIterator[Batch]:
    """Returns an iterator over every example once, in `examples.order`."""
    order = grain.MapDataset.source(examples.order)
    batches = order.batch(batch_size, batch_fn=np.asarray)
    return _iterate(batches.map(_reader(examples, batch_size)))


def batches_per_epoch(examples: Examples, batch_size: int) -> int:
    """Returns how many batches hold every example once."""
    return math.ceil(len(examples) / batch_size)


def read_batch(examples: Examples, rows: np.ndarray, *, batch_size: int) -> Batch:
    """Returns this process's part of a global batch.

    Args:
      examples: the split.
      rows: of the global batch, at least one and at most `batch_size`.
      batch_size: what it is padded to.
    """
    local_size = batch_size // jax.process_count()
    start = jax.process_index() * local_size
    local = slice(start, start + local_size)
    # Padding repeats a row; `where` keeps it out of every sum.
    padded = np.full(batch_size, rows[0], np.int64)
    padded[: len(rows)] = rows
    where = np.arange(batch_size) < len(rows)
    held = {"where": where[local], "rows": padded[local].astype(np.int32)}
    return examples.batch(padded, local) | held


def _reader(examples: Examples, batch_size: int) -> Callable[[np.ndarray], Batch]:
    return functools.partial(read_batch, examples, batch_size=batch_size)


def _iterate(dataset: grain.MapDataset[Batch]) -> grain.DatasetIterator[Any]:
    # The arrays are in memory: one thread reads ahead, more would only compete.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(dataset.to_iter_dataset(options))
