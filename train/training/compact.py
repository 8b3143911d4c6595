"""Training on active examples alone: a pass without gradient finds them first.

Parameters do not change while a batch of active examples fills, so who is active is
exact. What is left over when the batch is full waits for the next one: it was looked
at one update ago, and trains on whatever gradient it has by then. Settled examples are
dropped, whose gradient is exactly zero at the time of looking. Looking is without
dropout and augmentation; training has both.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from train.data.examples import Examples
from train.data.pipeline import read_batch
from train.recipe.mesh import put_batch
from train.recipe.recipe import Recipe
from train.training.feed import FeedState, Item, Latest, PlainFeed
from train.training.state import TrainState
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


@dataclasses.dataclass
class CompactState(FeedState):
    """Where a compact feed stands."""

    # Active rows that wait for a batch.
    queue: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    num_pending: int = 0  # examples seen that no batch stands for yet
    num_old: int = 0  # of the queue's first rows, looked at before the last update
    num_active: int = 0  # rows found active in this epoch, the slack's included
    saved_share: float = 0.0  # of the last epoch's rows: what no step is needed for
    compacts: bool = False  # whether this epoch is trained compactly
    decided_epoch: int = 0  # for which that was decided; the first is plain
    active_share: float = 1.0  # of the rows of the last look
    looked_sums: Sums = dataclasses.field(default_factory=Sums)  # of this epoch's looks
    audit: Audit = dataclasses.field(default_factory=Audit)
    # Of each example: how often in a row it was settled, and from when on to look.
    times_settled: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int16)
    )
    look_from: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.int32)
    )

    def saved(self) -> dict[str, Any]:
        """Returns the fields as numbers, lists, dicts and arrays."""
        return super().saved() | {
            "queue": self.queue.tolist(),
            "looked_sums": [float(value) for value in self.looked_sums],
            "audit": dataclasses.asdict(self.audit),
        }

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the state of which `saved` holds the fields."""
        state = super().restored(saved)
        return dataclasses.replace(
            state,
            queue=np.array(state.queue, np.int64),
            looked_sums=Sums(*state.looked_sums),
            audit=Audit(**saved["audit"]),
            times_settled=np.array(state.times_settled),
            look_from=np.array(state.look_from),
        )


class Looked(NamedTuple):
    """What a look at some rows says of each."""

    active: np.ndarray  # shape=(n,), dtype=bool
    lead: np.ndarray  # of the label, in the margin's unit, shape=(n,), dtype=float32


class CompactFeed(PlainFeed):
    """Batches of active examples; plain batches while too few are settled.

    Every decision is by counts over all devices, so that hosts agree and a resumed run
    decides as it would have.
    """

    state: CompactState
    state_type = CompactState

    def first_state(self) -> CompactState:
        """Returns where it stands before the first batch."""
        num_rows = len(self.examples)
        return CompactState(
            times_settled=np.zeros(num_rows, np.int16),
            look_from=np.zeros(num_rows, np.int32),
        )

    @property
    def batch_size(self) -> int:
        """Of the batches of active examples of this epoch."""
        size, least = (
            self.recipe.training.batch_size,
            self.recipe.compact.min_batch_size,
        )
        devices = self.recipe.mesh.shape["data"]
        wanted = size * (1.0 - self.state.saved_share)
        while least and size / 2 >= max(wanted, least) and size % (2 * devices) == 0:
            size //= 2
        return size

    def items(self, latest: Latest) -> Iterator[Item]:
        """Yields what is left of this epoch."""
        if self.state.decided_epoch < self.state.epoch:
            self.state.compacts, self.state.decided_epoch = (
                self._pays(latest),
                self.state.epoch,
            )
        size = self.batch_size
        if not self.state.compacts:
            while len(self.state.queue):  # What a compact epoch before has left.
                yield self._take(latest, size)
            yield from super().items(latest)
            return
        while len(self.state.queue) >= size or self.state.position < self.epoch_end:
            if len(self.state.queue) >= size:
                yield self._take(latest, size)
            else:
                self._look_ahead(latest(), size)
        if self._is_last_epoch or self._saved_so_far() < self.recipe.compact.break_even:
            while len(self.state.queue):
                yield self._take(latest, size)

    def finish_epoch(self, trained: Sums) -> Sums:
        """Goes on to the next epoch; returns the sums that stand for this one."""
        if self.state.compacts:
            sums, self.state.saved_share = self.state.looked_sums, self._saved_so_far()
        else:
            sums, num_active = trained, int(trained.num_active_rows)
            self.state.saved_share = 1 - num_active / len(self.examples)
        self.state.looked_sums, self.state.num_active = Sums(), 0
        return super().finish_epoch(sums)

    def figures(self) -> dict[str, float]:
        """Returns what a record says of the feed."""
        audit = self.state.audit
        return super().figures() | {
            "stale_share": _share(audit.num_stale, self.state.examples_trained),
            "stale_settled_share": _share(
                audit.num_stale_settled, audit.num_stale_checked
            ),
            "skipped_share": _share(audit.num_skipped, self.state.examples_seen),
            "wrongly_skipped_share": _share(
                audit.num_skipped_active, audit.num_skipped_checked
            ),
        }

    @property
    def _is_last_epoch(self) -> bool:
        return self.state.epoch + 1 == self.recipe.training.epochs

    def _pays(self, latest: Latest) -> bool:
        """Whether enough needs no step: of the last epoch, and of a sample now.

        Plain steps do not tell who is within the slack, and see dropout; the sample is
        looked at as a compact epoch would.
        """
        least = self.recipe.compact.break_even
        if self.state.saved_share < least:
            return False
        num_rows, seeds = len(self.examples), (self.seed, self.state.epoch)
        rows = np.flatnonzero(_draw_sample(num_rows, _SAMPLE / num_rows, seeds))
        looked = self.look(latest(), rows, counted=False)
        return 1.0 - float(looked.active.mean()) >= least

    def _saved_so_far(self) -> float:
        """Returns the share of this epoch's rows that need no step."""
        start = self.state.epoch * self.recipe.mini_steps_per_epoch
        num_rows = sum(self._count(k) for k in range(start, self.state.position))
        return 1 - self.state.num_active / max(num_rows, 1)

    def _look_ahead(self, now: TrainState, size: int) -> None:
        """Looks at as many mini-batches as a batch of active examples likely takes."""
        expected = self.recipe.training.batch_size * max(self.state.active_share, 1e-3)
        ahead = math.ceil((size - len(self.state.queue)) / expected)
        stop = min(self.state.position + min(max(ahead, 1), _MAX_AHEAD), self.epoch_end)
        rows = np.concatenate([self.rows[k] for k in range(self.state.position, stop)])
        active = self._active_among(now, rows)
        self.state.position = stop
        self.state.examples_seen += len(rows)
        self.state.num_pending += len(rows)
        self.state.num_active += len(active)
        self.state.active_share = len(active) / len(rows)
        self.state.queue = np.concatenate([self.state.queue, active])

    def _take(self, latest: Latest, size: int) -> Item:
        """Returns the next batch of active examples, the oldest first."""
        rows, self.state.queue = self.state.queue[:size], self.state.queue[size:]
        old = rows[: self.state.num_old]
        self._audit_old(latest, old)
        self.state.num_old = len(self.state.queue)
        self.state.examples_trained += len(rows)
        num_seen, self.state.num_pending = self.state.num_pending, 0
        batch = read_batch(self.examples, rows, batch_size=size)
        return Item(batch, rows, num_seen)

    def _active_among(self, now: TrainState, rows: np.ndarray) -> np.ndarray:
        """Returns the active rows among some; adds up what is seen on the way."""
        due, audited = self._due(rows)
        self.state.audit.num_skipped += int((~due & ~audited).sum())
        looked_at = rows[due | audited]
        audited = audited[due | audited]
        looked = self.look(now, looked_at)
        self.state.audit.num_skipped_checked += int(audited.sum())
        self.state.audit.num_skipped_active += int((audited & looked.active).sum())
        self._remember(looked_at, looked)
        return looked_at[looked.active]

    def _due(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns which rows are to be looked at, and which others are audited."""
        if not self.recipe.compact.max_skipped_epochs or self._is_last_epoch:
            return np.ones(len(rows), bool), np.zeros(len(rows), bool)
        due = self.state.look_from[rows] <= self.state.epoch
        return due, ~due & self._is_audited(rows)

    def _is_audited(self, rows: np.ndarray) -> np.ndarray:
        """Returns which rows are in the sample of this epoch."""
        share, seeds = self.recipe.compact.audit_share, (self.seed, self.state.epoch)
        return _draw_sample(len(self.examples), share, seeds)[rows]

    def _remember(self, rows: np.ndarray, looked: Looked) -> None:
        """Notes until when each row need not be looked at again.

        For round(lead x times) epochs, the lead in probability and `times` being how
        often in a row it was settled.
        """
        times = np.where(looked.active, 0, self.state.times_settled[rows] + 1)
        lead = looked.lead
        if self.recipe.objective.unit == "logits":
            # Over one rival: p_t - p_i of two classes whose logits differ so much.
            lead = np.tanh(lead / 2)
        skipped = np.floor(np.maximum(lead, 0.0) * times + 0.5)
        skipped = np.minimum(skipped, self.recipe.compact.max_skipped_epochs)
        self.state.times_settled[rows] = times
        self.state.look_from[rows] = self.state.epoch + 1 + skipped

    def _audit_old(self, latest: Latest, old: np.ndarray) -> None:
        """Looks again, now and then, at rows that were looked at before an update."""
        self.state.audit.num_stale += len(old)
        if len(old) and self._is_audited(old[:1])[0]:
            looked = self.look(latest(), old, counted=False)
            self.state.audit.num_stale_checked += len(old)
            self.state.audit.num_stale_settled += int((~looked.active).sum())

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
        active, lead = np.empty(len(rows), bool), np.empty(len(rows), np.float32)
        if outputs:
            active[order] = np.concatenate([o.active for o in outputs])[: len(rows)]
            lead[order] = np.concatenate([o.lead for o in outputs])[: len(rows)]
        if counted:
            self.state.examples_filtered += len(rows)
            sums = [output.sums.wide() for output in outputs]
            self.state.looked_sums = functools.reduce(
                Sums.__add__, sums, self.state.looked_sums
            )
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
