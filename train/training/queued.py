"""Batches of chosen examples: what is chosen waits in a queue until it fills a batch.

How many examples a batch stands for, chosen or not, is what schedules go by.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from ..data.pipeline import Batch, read_batch
from ..recipe.mesh import put_batch
from .feed import FeedState, Item, Latest, PlainFeed
from .state import TrainState
from .steps import filter_step
from .sums import Sums

_filter_step = jax.jit(filter_step)
# Mini-batches that are looked at under one set of parameters, at most, where the next
# batch decides how many.
_MAX_AHEAD = 64
_NO_ROWS = np.empty(0, np.int64)


@dataclasses.dataclass
class QueuedState(FeedState):
    """Where a feed with a queue stands."""

    # Chosen rows that wait for a batch, and those of them that have since the last one.
    queue: np.ndarray = dataclasses.field(default_factory=_NO_ROWS.copy)
    waiting: np.ndarray = dataclasses.field(default_factory=_NO_ROWS.copy)
    num_pending: int = 0  # examples seen that no batch stands for yet
    active_share: float = 1.0  # of the rows that were last chosen from
    looked_sums: Sums = dataclasses.field(default_factory=Sums)  # of this epoch's looks

    def saved(self) -> dict[str, Any]:
        """Returns the fields as numbers, lists, dicts and arrays."""
        return super().saved() | {
            "queue": self.queue.tolist(),
            "waiting": self.waiting.tolist(),
            "looked_sums": [float(value) for value in self.looked_sums],
        }

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the state of which `saved` holds the fields."""
        old = saved["queue"][: saved.get("num_old", 0)]
        state = super().restored({"waiting": old, **saved})
        return dataclasses.replace(
            state,
            queue=np.array(state.queue, np.int64),
            waiting=np.array(state.waiting, np.int64),
            looked_sums=Sums(*state.looked_sums),
        )


class Looked(NamedTuple):
    """What a look at some rows says of each."""

    active: np.ndarray  # shape=(n,), dtype=bool
    lead: np.ndarray  # of the label, in the margin's unit, shape=(n,), dtype=float32
    loss: np.ndarray = np.empty(0, np.float32)  # shape=(n,), dtype=float32


class QueuedFeed(PlainFeed):
    """Batches of the examples that `choose` takes out of the order of plain training.

    Every decision is by counts over all devices, so that hosts agree and a resumed run
    decides as it would have.
    """

    state: QueuedState
    state_type = QueuedState

    def choose(self, latest: Latest, rows: np.ndarray) -> np.ndarray:
        """Returns those of some rows that are to be trained on, in their order."""
        raise NotImplementedError

    @property
    def batch_size(self) -> int:
        """Of the batches of chosen examples of this epoch."""
        return self.recipe.training.batch_size

    @property
    def is_last_epoch(self) -> bool:
        """Whether no other comes."""
        return self.state.epoch + 1 == self.recipe.training.epochs

    @property
    def leaves_nothing(self) -> bool:
        """Whether what waits at the end of this epoch is trained on at once."""
        return self.is_last_epoch

    def items(self, latest: Latest) -> Iterator[Item]:
        """Yields what is left of this epoch."""
        size = self.batch_size
        while len(self.state.queue) >= size or self.state.position < self.epoch_end:
            if len(self.state.queue) >= size:
                yield self._take(latest, size)
            else:
                self._fill(latest, size)
        if self.leaves_nothing:
            yield from self._empty(latest, size)

    def finish_epoch(self, trained: Sums) -> Sums:
        """Goes on to the next epoch; returns the sums that stand for this one."""
        self.state.looked_sums = Sums()
        return super().finish_epoch(trained)

    def _fill(self, latest: Latest, size: int) -> None:
        """Chooses out of the next mini-batches; what is chosen joins the queue."""
        stop = min(self.state.position + self._num_ahead(size), self.epoch_end)
        rows = np.concatenate([self.rows[k] for k in range(self.state.position, stop)])
        chosen = self.choose(latest, rows)
        self.state.position = stop
        self.state.examples_seen += len(rows)
        self.state.num_pending += len(rows)
        self.state.active_share = len(chosen) / len(rows)
        self.state.queue = self._in_groups(
            np.concatenate([self.state.queue, chosen]), size
        )

    def _num_ahead(self, size: int) -> int:
        """Returns how many mini-batches to choose from: what a batch likely takes."""
        per_batch = self.recipe.training.batch_size
        if self.recipe.compact.look_rows:
            return math.ceil(self.recipe.compact.look_rows / per_batch)
        expected = per_batch * max(self.state.active_share, 1e-3)
        ahead = math.ceil((size - len(self.state.queue)) / expected)
        return min(max(ahead, 1), _MAX_AHEAD)

    def _in_groups(self, queue: np.ndarray, size: int) -> np.ndarray:
        """Returns a queue whose whole batches are of about one length each.

        The oldest rows are in whole batches, whose order is random; so nothing waits
        for its length.
        """
        if not self.recipe.training.group_by_length:
            return queue
        whole = len(queue) // size * size
        order = self.examples.order_of(queue[:whole])
        batches = queue[:whole][order].reshape(-1, size)
        seeds = (self.seed, self.state.position)
        batches = np.random.default_rng(seeds).permutation(batches)
        return np.concatenate([batches.reshape(-1), queue[whole:]])

    def _take(self, latest: Latest, size: int) -> Item:
        """Returns the next batch of chosen examples, the oldest first."""
        del latest
        rows, self.state.queue = self.state.queue[:size], self.state.queue[size:]
        self.state.waiting = self.state.queue
        self.state.examples_trained += len(rows)
        num_seen, self.state.num_pending = self.state.num_pending, 0
        return Item(self._read(rows, size), rows, num_seen)

    def _read(self, rows: np.ndarray, size: int) -> Batch:
        return read_batch(self.examples, rows, batch_size=size)

    def _empty(self, latest: Latest, size: int) -> Iterator[Item]:
        """Yields batches until nothing waits; the last may be partial."""
        while len(self.state.queue):
            yield self._take(latest, size)

    def look(
        self, now: TrainState, rows: np.ndarray, *, counted: bool = True
    ) -> Looked:
        """Passes rows forward, in the order that has least padding.

        Args:
          now: the training state; its parameters and held inputs are used.
          rows: of the training split.
          counted: whether the epoch's sums and counts take note of it.
        """
        recipe = self.recipe
        size = recipe.compact.batch_size or recipe.training.batch_size
        order = self.examples.order_of(rows)
        outputs = []
        for start in range(0, len(rows), size):
            chunk = rows[order[start : start + size]]
            read = read_batch(self.examples, chunk, batch_size=size)
            batch = put_batch(recipe.mesh, read)
            # Of an epoch's examples each stands where plain training would see it: the
            # margin may move on while a look goes far ahead.
            seen = np.int32(self.state.examples_seen + (start if counted else 0))
            outputs.append(_filter_step(recipe, now.params, batch, seen, now.held))
        outputs = jax.device_get(outputs)
        looked = Looked(
            np.empty(len(rows), bool),
            np.empty(len(rows), np.float32),
            np.empty(len(rows), np.float32),
        )
        if outputs:
            for part, name in zip(looked, Looked._fields, strict=True):
                found = np.concatenate([getattr(o, name) for o in outputs])
                part[order] = found[: len(rows)]
        if counted:
            self.state.examples_filtered += len(rows)
            sums = [output.sums.wide() for output in outputs]
            self.state.looked_sums = functools.reduce(
                Sums.__add__, sums, self.state.looked_sums
            )
        return looked


@functools.lru_cache(maxsize=1)
def draw_sample(size: int, share: float, seeds: tuple[int, ...]) -> np.ndarray:
    """Returns a mask of a share of the examples, the same in a resumed run."""
    return np.random.default_rng(seeds).random(size) < share
