"""Training on active examples alone: a pass without gradient finds them first.

Parameters do not change while a batch of active examples fills, so who is active is
exact. What is left over when the batch is full waits for the next one: it was looked
at one update ago, and trains on whatever gradient it has by then. Settled examples are
dropped, whose gradient is exactly zero at the time of looking. Looking is without
dropout and augmentation; training has both.

With `compact.look_rows` a look goes further, and more is trained that was looked at
before an update: less padding for a selection that is less fresh.
"""

import dataclasses
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np

from .feed import Item, Latest
from .gain import Gain
from .leads import Leads
from .queued import Looked, QueuedFeed, QueuedState, draw_sample
from .state import TrainState
from .sums import Sums

# About so many rows decide whether training becomes compact.
_SAMPLE = 512
# Of the skipped examples that are looked at anyway, so many may be active.
_WRONGLY_SKIPPED = 0.02


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
class CompactState(QueuedState):
    """Where a compact feed stands."""

    num_active: int = 0  # rows found active in this epoch, the slack's included
    saved_share: float = 0.0  # of the last epoch's rows: what no step is needed for
    compacts: bool = False  # whether it looks and trains on active examples now
    decided_epoch: int = 0  # for which that was decided as it began
    compact_from: int = 0  # the position from which on this epoch is compact
    decided_at: int = 0  # the position at which it was last decided within an epoch
    decided_active: int = 0  # the epoch's active rows by then
    audit: Audit = dataclasses.field(default_factory=Audit)
    gain: Gain = dataclasses.field(default_factory=Gain)
    leads: Leads = dataclasses.field(default_factory=lambda: Leads.unknown(0))
    skips: bool = True  # whether the audit found no reason to look at all

    def saved(self) -> dict[str, Any]:
        """Returns the fields as numbers, lists, dicts and arrays."""
        fields = super().saved()
        leads = fields.pop("leads")
        return fields | {
            "audit": dataclasses.asdict(self.audit),
            "gain": dataclasses.asdict(self.gain),
            "fall": leads.fall,
            "lead": leads.lead,
            "lead_epoch": leads.epoch,
            "look_from": leads.look_from,
        }

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the state of which `saved` holds the fields.

        A field that came later is as before the first batch.
        """
        first = cls(leads=Leads.unknown(len(saved["look_from"]))).saved()
        del first["waiting"]
        saved = {**first, **saved}
        lead, epoch, look_from = (
            np.array(saved[name]) for name in ("lead", "lead_epoch", "look_from")
        )
        leads = Leads(lead, epoch, look_from, saved["fall"])
        state = super().restored({**saved, "leads": leads})
        return dataclasses.replace(
            state, audit=Audit(**saved["audit"]), gain=Gain(**saved["gain"])
        )


class CompactFeed(QueuedFeed):
    """Batches of active examples; plain batches while too few are settled."""

    state: CompactState
    state_type = CompactState

    def first_state(self) -> CompactState:
        """Returns where it stands before the first batch."""
        return CompactState(leads=Leads.unknown(len(self.examples)))

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

    @property
    def leaves_nothing(self) -> bool:
        """Whether what waits at the end of this epoch is trained on at once."""
        return (
            self.is_last_epoch or self._saved_so_far() < self.recipe.compact.break_even
        )

    def items(self, latest: Latest) -> Iterator[Item]:
        """Yields what is left of this epoch."""
        if self.state.decided_epoch < self.state.epoch:
            compacts, self.state.decided_epoch = self._pays(latest), self.state.epoch
            self.state.compacts = False
            if compacts:
                self._begin(latest, self.state.epoch - 1)
        if not self.state.compacts:
            # What a compact epoch before has left.
            yield from self._empty(latest, self.batch_size)
            yield from self._plainly(latest)
        if self.state.compacts:
            start, looks = time.perf_counter(), self.state.gain.look_seconds
            yield from super().items(latest)
            jax.block_until_ready(latest().params)
            looked = self.state.gain.look_seconds - looks
            self.state.gain.step_seconds += time.perf_counter() - start - looked

    def _plainly(self, latest: Latest) -> Iterator[Item]:
        """Yields plain mini-batches until the epoch ends or it pays to look."""
        every = self.recipe.compact.decide_every
        span = math.ceil(every / self.recipe.training.batch_size) or self.epoch_end
        while self.state.position < self.epoch_end and not self.state.compacts:
            start, seen = time.perf_counter(), self.state.examples_seen
            begin = self.state.epoch * self.recipe.mini_steps_per_epoch
            stop = begin + ((self.state.position - begin) // span + 1) * span
            yield from self.plain_items(min(stop, self.epoch_end))
            jax.block_until_ready(latest().params)
            seconds = time.perf_counter() - start
            self.state.gain.add_plain(seconds, self.state.examples_seen - seen)
            if every and self.state.position < self.epoch_end:
                self._decide_within(latest)

    def finish_epoch(self, trained: Sums) -> Sums:
        """Goes on to the next epoch; returns the sums that stand for this one."""
        if self.state.compacts:
            trained, self.state.saved_share = (
                self.state.looked_sums,
                self._saved_so_far(),
            )
        else:
            num_active = int(trained.num_active_rows)
            self.state.saved_share = 1 - num_active / len(self.examples)
        self.state.num_active = self.state.decided_active = 0
        self.state.decided_at = self.state.position
        return super().finish_epoch(trained)

    def figures(self) -> dict[str, float]:
        """Returns what a record says of the feed."""
        audit = self.state.audit
        return {
            **super().figures(),
            "stale_share": _share(audit.num_stale, self.state.examples_trained),
            "stale_settled_share": _share(
                audit.num_stale_settled, audit.num_stale_checked
            ),
            "skipped_share": _share(audit.num_skipped, self.state.examples_seen),
            "wrongly_skipped_share": _share(
                audit.num_skipped_active, audit.num_skipped_checked
            ),
            **self.state.gain.figures(self.state.examples_seen),
        }

    def _pays(self, latest: Latest) -> bool:
        """Whether enough needs no step: of the last epoch, and of a sample now."""
        least = self.recipe.compact.break_even
        return self.state.saved_share >= least and self._sample_saves(latest)

    def _sample_saves(self, latest: Latest) -> bool:
        """Whether enough of a sample needs no step now.

        Plain steps do not tell who is within the slack, and see dropout; the sample is
        looked at as a compact epoch would.
        """
        num_rows, seeds = len(self.examples), (self.seed, self.state.epoch)
        rows = np.flatnonzero(draw_sample(num_rows, _SAMPLE / num_rows, seeds))
        looked = self.look(latest(), rows, counted=False)
        return 1.0 - float(looked.active.mean()) >= self.recipe.compact.break_even

    def _decide_within(self, latest: Latest) -> None:
        """Becomes compact where enough of the last plain batches needed no step."""
        sums = jax.device_get(latest().sums).wide()
        num_rows = sum(
            self._count(k) for k in range(self.state.decided_at, self.state.position)
        )
        num_active = int(sums.num_active_rows) - self.state.decided_active
        self.state.decided_at = self.state.position
        self.state.decided_active = int(sums.num_active_rows)
        settled = 1.0 - num_active / max(num_rows, 1)
        if settled >= self.recipe.compact.break_even and self._sample_saves(latest):
            # The epoch's figures are of both parts.
            self.state.looked_sums = sums
            self._begin(latest, self.state.epoch)

    def _begin(self, latest: Latest, epoch: int) -> None:
        """Becomes compact from here on; what steps saw of leads is of that epoch."""
        self.state.compacts, self.state.compact_from = True, self.state.position
        seen = latest().seen
        if seen is not None and "lead" in seen:
            self.state.leads.begin(np.asarray(jax.device_get(seen["lead"])), epoch)

    def _saved_so_far(self) -> float:
        """Returns the share of the rows looked at in this epoch that need no step."""
        start = self.state.epoch * self.recipe.mini_steps_per_epoch
        start = max(start, self.state.compact_from)
        num_rows = sum(self._count(k) for k in range(start, self.state.position))
        return 1 - self.state.num_active / max(num_rows, 1)

    def choose(self, latest: Latest, rows: np.ndarray) -> np.ndarray:
        """Returns the active rows among some; adds up what is seen on the way."""
        due, audited = self._due(rows)
        self.state.audit.num_skipped += int((~due & ~audited).sum())
        looked_at = rows[due | audited]
        audited = audited[due | audited]
        looked = self.look(latest(), looked_at)
        self._judge_skipping(looked.active[audited])
        self._remember(looked_at, looked)
        self.state.num_active += int(looked.active.sum())
        return looked_at[looked.active]

    def _judge_skipping(self, active: np.ndarray) -> None:
        """Counts who was to be skipped and is active; too many end the skipping."""
        audit = self.state.audit
        audit.num_skipped_checked += len(active)
        audit.num_skipped_active += int(active.sum())
        # Only when this many could not have come by chance.
        allowed = _WRONGLY_SKIPPED * audit.num_skipped_checked
        if audit.num_skipped_active > allowed + 2 * math.sqrt(allowed):
            self.state.skips = False

    def _due(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns which rows are to be looked at, and which others are audited."""
        most, skips = self.recipe.compact.max_skipped_epochs, self.state.skips
        if not most or not skips or self.is_last_epoch:
            return np.ones(len(rows), bool), np.zeros(len(rows), bool)
        due = self.state.leads.look_from[rows] <= self.state.epoch
        return due, ~due & self._is_audited(rows)

    def _is_audited(self, rows: np.ndarray) -> np.ndarray:
        """Returns which rows are in the sample of this epoch."""
        share, seeds = self.recipe.compact.audit_share, (self.seed, self.state.epoch)
        return draw_sample(len(self.examples), share, seeds)[rows]

    def _remember(self, rows: np.ndarray, looked: Looked) -> None:
        """Notes until when each row need not be looked at again."""
        recipe = self.recipe
        if recipe.compact.max_skipped_epochs:
            margin = recipe.margin_at(self.state.examples_seen)
            self.state.leads.note(
                rows,
                looked.lead,
                self.state.epoch,
                limit=next(iter(margin.values()), 0.0) + recipe.slack,
                most=recipe.compact.max_skipped_epochs,
            )
            self.state.leads.look_from[rows[looked.active]] = self.state.epoch + 1

    def _take(self, latest: Latest, size: int) -> Item:
        """Returns the next batch of active examples, the oldest first."""
        waiting = self.state.waiting
        item = super()._take(latest, size)
        self._audit_old(latest, item.rows[np.isin(item.rows, waiting)])
        gain = self.state.gain
        gain.num_trained += len(item.rows)
        gain.num_batches += 1
        gain.padding += self.examples.padding(item.rows, size)
        return item

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
        """Passes rows forward, see `QueuedFeed.look`; on the clock."""
        jax.block_until_ready(now.params)  # The steps before are none of its time.
        start = time.perf_counter()
        looked = super().look(now, rows, counted=counted)
        self.state.gain.look_seconds += time.perf_counter() - start
        self.state.gain.num_looked += len(rows)
        return looked


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
