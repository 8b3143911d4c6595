"""Grain pipelines: batches in a seeded order, padded and masked, nothing dropped.

A batch is a dict of arrays with one leading axis: `inputs`, `labels` and `where`,
which is False for the rows that only pad the last batch of an epoch.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import grain  # type: ignore[import-untyped]  # it ships no type information
import jax
import numpy as np

from train.data.examples import Examples

Batch = dict[str, np.ndarray]


def training_rows(
    examples: Examples, *, batch_size: int, epochs: int, seed: int
) -> grain.MapDataset[np.ndarray]:
    """Returns the rows of every mini-batch of all epochs, each in an order of its own.

    Entry i is drawn without those before it, so a position is one number.

    Args:
      examples: the training split.
      batch_size: of the global batch.
      epochs: how often each example comes.
      seed: decides the order.
    """
    order = grain.MapDataset.range(len(examples)).seed(seed).shuffle()
    return order.batch(batch_size, batch_fn=np.asarray).repeat(epochs)


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
    return {**examples.batch(padded, local), "where": where[local]}


def _reader(examples: Examples, batch_size: int) -> Callable[[np.ndarray], Batch]:
    return functools.partial(read_batch, examples, batch_size=batch_size)


def _iterate(dataset: grain.MapDataset[Batch]) -> grain.DatasetIterator[Any]:
    # The arrays are in memory: one thread reads ahead, more would only compete.
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4)
    return iter(dataset.to_iter_dataset(options))
