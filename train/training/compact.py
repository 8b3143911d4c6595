"""Training on active examples alone: a pass without gradient finds them first.

Parameters do not change while a batch of active examples fills, so who is active is
exact. What is left over when the batch is full waits for the next one: it was looked
at one update ago, and trains on whatever gradient it has by then. Settled examples are
dropped, whose gradient is exactly zero at the moment of looking. Looking is without
dropout and augmentation; training has both.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data.examples import Examples
from train.data.pipeline import read_batch
from train.recipe.mesh import put_batch
from train.recipe.recipe import Recipe
from train.training.feed import Item, Params, PlainFeed
from train.training.steps import filter_step
from train.training.sums import Sums

_filter_step = jax.jit(filter_step, static_argnums=0)
# Mini-batches that are looked at under one set of parameters, at most.
_MAX_AHEAD = 64
# About so many rows decide, at the beginning of an epoch, whether it is compact.
_SAMPLE = 512


@dataclasses.dataclass
class Audit:
    """Counts of what is approximate, since the run began."""

    num_stale: int = 0  # trained, though looked at before the last update
    num_stale_checked: int = 0  # of those, looked at again
    num_stale_settled: int = 0  # of those again, settled by then
    num_skipped: int = 0  # not looked at in an epoch
    num_skipped_checked: int = 0  # of those that were to be skipped, looked at
    num_skipped_active: int = 0  # of those again, active


class Looked(NamedTuple):
    """What a look at some rows says of each."""

    active: np.ndarray  # shape=(n,), dtype=bool
    lead: np.ndarray  # of the label, in probability, shape=(n,), dtype=float32


class CompactFeed(PlainFeed):
    """Batches of active examples; plain batches while too few are settled.

    Every decision is by counts over all devices, so that hosts agree and a resumed run
    decides as it would have.
    """

    def __init__(self, recipe: Recipe, examples: Examples, *, seed: int):
        super().__init__(recipe, examples, seed=seed)
        self.queue = np.empty(0, np.int64)  # active rows that wait for a batch
        self.num_pending = 0  # examples seen that no batch stands for yet
        self.num_old = 0  # of the queue's first rows, looked at before the last update
        self.num_active = 0  # rows found active in this epoch, the slack's included
        self.saved_share = 0.0  # of the last epoch's rows: what no step is needed for
        self.compacts = False  # whether this epoch is trained compactly
        self.decided_epoch = 0  # for which that was decided; the first is plain
        self.active_share = 1.0  # of the rows of the last look
        self.looked_sums = Sums()  # of this epoch's looks
        self.audit = Audit()
        # Of each example: how often in a row it was settled, and from when on to look.
        self.times_settled = np.zeros(len(examples), np.int16)
        self.look_from = np.zeros(len(examples), np.int32)

    @property
    def batch_size(self) -> int:
        """Of the batches of active examples of this epoch."""
        size, least = (
            self.recipe.training.batch_size,
            self.recipe.compact.min_batch_size,
        )
        devices = self.recipe.mesh.shape["data"]
        wanted = size * (1.0 - self.saved_share)
        while least and size / 2 >= max(wanted, least) and size % (2 * devices) == 0:
            size //= 2
        return size

    def items(self, params: Params) -> Iterator[Item]:
        """Yields what is left of this epoch."""
        if self.decided_epoch < self.epoch:
            self.compacts, self.decided_epoch = self._pays(params), self.epoch
        size = self.batch_size
        if not self.compacts:
            while len(self.queue):  # What a compact epoch before has left.
                yield self._take(params, size)
            yield from super().items(params)
            return
        while len(self.queue) >= size or self.position < self.epoch_end:
            if len(self.queue) >= size:
                yield self._take(params, size)
            else:
                self._look_ahead(params(), size)
        if self._is_last_epoch or self._saved_so_far() < self.recipe.compact.break_even:
            while len(self.queue):
                yield self._take(params, size)

    def finish_epoch(self, trained: Sums) -> Sums:
        """Goes on to the next epoch; returns the sums that stand for this one."""
        if self.compacts:
            sums, self.saved_share = self.looked_sums, self._saved_so_far()
        else:
            sums, num_active = trained, int(trained.num_active_rows)
            self.saved_share = 1 - num_active / len(self.examples)
        self.looked_sums, self.num_active = Sums(), 0
        return super().finish_epoch(sums)

    def figures(self) -> dict[str, float]:
        """Returns what a record says of the feed."""
        audit = self.audit
        return super().figures() | {
            "stale_share": _share(audit.num_stale, self.examples_trained),
            "stale_settled_share": _share(
                audit.num_stale_settled, audit.num_stale_checked
            ),
            "skipped_share": _share(audit.num_skipped, self.examples_seen),
            "wrongly_skipped_share": _share(
                audit.num_skipped_active, audit.num_skipped_checked
            ),
        }

    def get_state(self) -> dict[str, Any]:
        """Returns where the feed stands, for a checkpoint: numbers, lists, arrays."""
        counts = ("num_pending", "num_old", "num_active", "active_share")
        decided = ("saved_share", "compacts", "decided_epoch")
        plain = {name: getattr(self, name) for name in (*counts, *decided)}
        return (
            super().get_state()
            | plain
            | {
                "queue": self.queue.tolist(),
                "looked_sums": [float(value) for value in self.looked_sums],
                "audit": dataclasses.asdict(self.audit),
                "times_settled": self.times_settled,
                "look_from": self.look_from,
            }
        )

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from where `get_state` was asked."""
        super().set_state(
            state
            | {
                "queue": np.array(state["queue"], np.int64),
                "looked_sums": Sums(*state["looked_sums"]),
                "audit": Audit(**state["audit"]),
                "times_settled": np.array(state["times_settled"]),
                "look_from": np.array(state["look_from"]),
            }
        )

    @property
    def _is_last_epoch(self) -> bool:
        return self.epoch + 1 == self.recipe.training.epochs

    def _pays(self, params: Params) -> bool:
        """Whether enough needs no step: of the last epoch, and of a sample now.

        Plain steps do not tell who is within the slack, and see dropout; the sample is
        looked at as a compact epoch would.
        """
        least = self.recipe.compact.break_even
        if self.saved_share < least:
            return False
        num_rows, seeds = len(self.examples), (self.seed, self.epoch)
        rows = np.flatnonzero(_draw_sample(num_rows, _SAMPLE / num_rows, seeds))
        looked = self.look(params(), rows, counted=False)
        return 1.0 - float(looked.active.mean()) >= least

    def _saved_so_far(self) -> float:
        """Returns the share of this epoch's rows that need no step."""
        start = self.epoch * self.recipe.mini_steps_per_epoch
        num_rows = sum(self._count(k) for k in range(start, self.position))
        return 1 - self.num_active / max(num_rows, 1)

    def _look_ahead(self, params: Any, size: int) -> None:
        """Looks at as many mini-batches as a batch of active examples likely takes."""
        expected = self.recipe.training.batch_size * max(self.active_share, 1e-3)
        ahead = math.ceil((size - len(self.queue)) / expected)
        stop = min(self.position + min(max(ahead, 1), _MAX_AHEAD), self.epoch_end)
        rows = np.concatenate([self.rows[k] for k in range(self.position, stop)])
        active = self._active_among(params, rows)
        self.position = stop
        self.examples_seen += len(rows)
        self.num_pending += len(rows)
        self.num_active += len(active)
        self.active_share = len(active) / len(rows)
        self.queue = np.concatenate([self.queue, active])

    def _take(self, params: Params, size: int) -> Item:
        """Returns the next batch of active examples, the oldest first."""
        rows, self.queue = self.queue[:size], self.queue[size:]
        old = rows[: self.num_old]
        self._audit_old(params, old)
        self.num_old = len(self.queue)
        self.examples_trained += len(rows)
        num_seen, self.num_pending = self.num_pending, 0
        batch = read_batch(self.examples, rows, batch_size=size)
        return Item(batch, rows, num_seen)

    def _active_among(self, params: Any, rows: np.ndarray) -> np.ndarray:
        """Returns the active rows among some; adds up what is seen on the way."""
        due, audited = self._due(rows)
        self.audit.num_skipped += int((~due & ~audited).sum())
        looked_at = rows[due | audited]
        audited = audited[due | audited]
        looked = self.look(params, looked_at)
        self.audit.num_skipped_checked += int(audited.sum())
        self.audit.num_skipped_active += int((audited & looked.active).sum())
        self._remember(looked_at, looked)
        return looked_at[looked.active]

    def _due(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns which rows are to be looked at, and which others are audited."""
        if not self.recipe.compact.max_skipped_epochs or self._is_last_epoch:
            return np.ones(len(rows), bool), np.zeros(len(rows), bool)
        due = self.look_from[rows] <= self.epoch
        return due, ~due & self._is_audited(rows)

    def _is_audited(self, rows: np.ndarray) -> np.ndarray:
        """Returns which rows are in the sample of this epoch."""
        share, seeds = self.recipe.compact.audit_share, (self.seed, self.epoch)
        return _draw_sample(len(self.examples), share, seeds)[rows]

    def _remember(self, rows: np.ndarray, looked: Looked) -> None:
        """Notes until when each row need not be looked at again.

        For round(lead x times) epochs, `times` being how often in a row it was settled.
        """
        times = np.where(looked.active, 0, self.times_settled[rows] + 1)
        skipped = np.floor(np.maximum(looked.lead, 0.0) * times + 0.5)
        skipped = np.minimum(skipped, self.recipe.compact.max_skipped_epochs)
        self.times_settled[rows] = times
        self.look_from[rows] = self.epoch + 1 + skipped

    def _audit_old(self, params: Params, old: np.ndarray) -> None:
        """Looks again, now and then, at rows that were looked at before an update."""
        self.audit.num_stale += len(old)
        if len(old) and self._is_audited(old[:1])[0]:
            looked = self.look(params(), old, counted=False)
            self.audit.num_stale_checked += len(old)
            self.audit.num_stale_settled += int((~looked.active).sum())

    def look(self, params: Any, rows: np.ndarray, *, counted: bool = True) -> Looked:
        """Passes rows forward, in the order that has least padding.

        Args:
          params: of the network.
          rows: of the training split.
          counted: whether the epoch's sums and counts take note of it.
        """
        recipe = self.recipe
        size = recipe.compact.batch_size or recipe.training.batch_size
        order = self.examples.order_of(rows)
        seen = np.int32(self.examples_seen)
        outputs = []
        for start in range(0, len(rows), size):
            chunk = rows[order[start : start + size]]
            read = read_batch(self.examples, chunk, batch_size=size)
            batch = put_batch(recipe.mesh, read)
            outputs.append(_filter_step(recipe, params, batch, seen))
        outputs = jax.device_get(outputs)
        active, lead = np.empty(len(rows), bool), np.empty(len(rows), np.float32)
        if outputs:
            active[order] = np.concatenate([o.active for o in outputs])[: len(rows)]
            lead[order] = np.concatenate([o.lead for o in outputs])[: len(rows)]
        if counted:
            self.examples_filtered += len(rows)
            sums = [output.sums.wide() for output in outputs]
            self.looked_sums = functools.reduce(Sums.__add__, sums, self.looked_sums)
        return Looked(active, lead)


def make_feed(recipe: Recipe, examples: Examples, *, seed: int) -> PlainFeed:
    """Returns what the recipe's mode trains on.

    Args:
      recipe: of the run.
      examples: the training split.
      seed: of the order.
    """
    compact = recipe.training.mode == "compact"
    return (CompactFeed if compact else PlainFeed)(recipe, examples, seed=seed)


@functools.lru_cache(maxsize=1)
def _draw_sample(size: int, share: float, seeds: tuple[int, int]) -> np.ndarray:
    """Returns a mask of a share of the examples, the same in a resumed run."""
    return np.random.default_rng(seeds).random(size) < share


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
