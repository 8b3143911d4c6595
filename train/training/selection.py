"""What others choose to train on: rivals of compact training, for any loss.

They are here to be compared with, so each is as its authors have it and no more.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Self

import jax
import numpy as np

from ..data.pipeline import Batch
from .feed import Item, Latest
from .queued import QueuedFeed, QueuedState, draw_sample

# Losses that a new one is ranked among.
_HISTORY = 1024


class RandomFeed(QueuedFeed):
    """A share of the examples, drawn anew in each epoch."""

    def choose(self, latest: Latest, rows: np.ndarray) -> np.ndarray:
        """Returns those that this epoch's draw has."""
        del latest
        seeds = (self.seed, self.state.epoch)
        share = self.recipe.selection.share
        return rows[draw_sample(len(self.examples), share, seeds)[rows]]


@dataclasses.dataclass
class RankedState(QueuedState):
    """Where selective backprop stands."""

    # Of each example, as it was last looked at.
    losses: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.float32)
    )
    # The newest losses, the oldest first.
    history: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.float32)
    )

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the state of which `saved` holds the fields."""
        state = super().restored(saved)
        losses, history = (np.array(saved[name]) for name in ("losses", "history"))
        return dataclasses.replace(state, losses=losses, history=history)


class SelectiveBackpropFeed(QueuedFeed):
    """Examples drawn by the rank of their loss among the newest ones.

    With a probability of rank ** beta, the rank in [0, 1]; beta is such that the share
    is what is asked for in the mean. Jiang et al., `Accelerating Deep Learning by
    Focusing on the Biggest Losers <https://arxiv.org/abs/1910.00762>`_, 2019.
    """

    state: RankedState
    state_type = RankedState

    def first_state(self) -> RankedState:
        """Returns where it stands before the first batch."""
        return RankedState(losses=np.zeros(len(self.examples), np.float32))

    def choose(self, latest: Latest, rows: np.ndarray) -> np.ndarray:
        """Returns those that are drawn."""
        state, selection = self.state, self.recipe.selection
        if state.epoch % selection.look_every == 0:
            state.losses[rows] = self.look(latest(), rows).loss
        losses = state.losses[rows]
        state.history = np.concatenate([state.history, losses])[-_HISTORY:]
        below = np.searchsorted(np.sort(state.history), losses, side="right")
        power = 1.0 / selection.share - 1.0
        probability = (below / len(state.history)) ** power
        generator = np.random.default_rng((self.seed, state.position))
        return rows[generator.random(len(rows)) < probability]


@dataclasses.dataclass
class PrunedState(QueuedState):
    """Where InfoBatch stands."""

    planned_epoch: int = -1  # for which the weights are
    # Of each example in this epoch; 0: it is left out.
    weights: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(0, np.float32)
    )

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the state of which `saved` holds the fields."""
        weights = np.array(saved["weights"])
        return dataclasses.replace(super().restored(saved), weights=weights)


class InfoBatchFeed(QueuedFeed):
    """All examples but some of small loss, for which others of small loss stand.

    Of those whose last loss is below the mean, a share r is left out, and the gradient
    of the rest of them is 1 / (1 - r) times as large: unbiased. Towards the end all are
    trained on. Qin et al., `InfoBatch <https://arxiv.org/abs/2303.04947>`_, ICLR 2024.
    """

    state: PrunedState
    state_type = PrunedState

    def first_state(self) -> PrunedState:
        """Returns where it stands before the first batch."""
        return PrunedState(weights=np.ones(len(self.examples), np.float32))

    def items(self, latest: Latest) -> Iterator[Item]:
        """Yields what is left of this epoch."""
        if self.state.planned_epoch < self.state.epoch:
            self.state.weights = self._plan(latest)
            self.state.planned_epoch = self.state.epoch
        yield from super().items(latest)

    def _plan(self, latest: Latest) -> np.ndarray:
        """Returns the weights of an epoch."""
        selection, epochs = self.recipe.selection, self.recipe.training.epochs
        weights = np.ones(len(self.examples), np.float32)
        if self.state.epoch >= epochs * (1.0 - selection.whole_share):
            return weights
        loss = np.asarray(jax.device_get(latest().seen["loss"]))
        known = ~np.isnan(loss)
        if not known.any():
            return weights
        easy = known & (loss < loss[known].mean())
        seeds = (self.seed, self.state.epoch)
        kept = np.random.default_rng(seeds).random(len(easy)) >= selection.pruned_share
        weights[easy] = kept[easy] / (1.0 - selection.pruned_share)
        return weights

    def choose(self, latest: Latest, rows: np.ndarray) -> np.ndarray:
        """Returns those that are not left out."""
        del latest
        return rows[self.state.weights[rows] > 0]

    def _read(self, rows: np.ndarray, size: int) -> Batch:
        batch = super()._read(rows, size)
        weights = self.state.weights[batch["rows"]]
        # What waits from an epoch before may have been left out of this one.
        weights = np.where(weights > 0, weights, np.float32(1.0))
        return batch | {"weights": weights * batch.get("weights", np.float32(1.0))}
