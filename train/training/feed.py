"""What the loop trains on, batch by batch, and where in the data it stands."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from train.data.examples import Examples
from train.data.pipeline import Batch, training_batches, training_rows
from train.recipe.recipe import Recipe
from train.training.sums import Sums

Params = Callable[[], Any]
"""Gives the network's parameters as they are at this moment."""


class Item(NamedTuple):
    """One batch to train on."""

    batch: Batch
    rows: np.ndarray  # of the training split
    num_seen: int  # examples that it stands for
    last: bool = False  # of training


class PlainFeed:
    """Every example of an epoch, in an order that the seed decides.

    Attributes:
      epoch: epochs finished.
      position: mini-batches read, of all epochs.
      examples_seen: examples read, padding not counted.
      examples_filtered: examples that passed forward alone.
      examples_trained: examples that passed forward and backward.
    """

    def __init__(self, recipe: Recipe, examples: Examples, *, seed: int):
        self.recipe, self.examples, self.seed = recipe, examples, seed
        self.rows = training_rows(
            examples,
            batch_size=recipe.training.batch_size,
            epochs=recipe.training.epochs,
            seed=seed,
            group_by_length=recipe.training.group_by_length,
        )
        self.epoch = self.position = 0
        self.examples_seen = self.examples_filtered = self.examples_trained = 0

    @property
    def has_begun(self) -> bool:
        """Whether something of this epoch was trained on."""
        return self.position > self.epoch * self.recipe.mini_steps_per_epoch

    @property
    def epoch_end(self) -> int:
        """The position after this epoch."""
        return (self.epoch + 1) * self.recipe.mini_steps_per_epoch

    def items(self, params: Params) -> Iterator[Item]:
        """Yields what is left of this epoch.

        Args:
          params: asked for when a batch depends on them.
        """
        del params
        batches = training_batches(
            self.examples,
            self.rows[self.position : self.epoch_end],
            batch_size=self.recipe.training.batch_size,
        )
        for batch in batches:
            num_seen, rows = self._count(self.position), self.rows[self.position]
            self.position += 1
            self.examples_seen += num_seen
            self.examples_trained += num_seen
            last = self.position == len(self.rows)
            yield Item(batch, rows, num_seen, last=last)

    def finish_epoch(self, trained: Sums) -> Sums:
        """Goes on to the next epoch; returns the sums that stand for this one.

        Args:
          trained: of the epoch's training steps.
        """
        self.epoch += 1
        return trained

    def figures(self) -> dict[str, float]:
        """Returns what a record says of the feed."""
        return {
            "examples_filtered": self.examples_filtered,
            "examples_trained": self.examples_trained,
        }

    def get_state(self) -> dict[str, Any]:
        """Returns where the feed stands, for a checkpoint: numbers, lists, arrays."""
        counts = ("examples_seen", "examples_filtered", "examples_trained")
        return {name: getattr(self, name) for name in ("epoch", "position", *counts)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from where `get_state` was asked."""
        for name, value in state.items():
            setattr(self, name, value)

    def _count(self, position: int) -> int:
        """Returns how many examples a mini-batch holds: the last of an epoch fewer."""
        per_epoch, size = self.recipe.mini_steps_per_epoch, self.recipe.training
        if (position + 1) % per_epoch:
            return size.batch_size
        return len(self.examples) - (per_epoch - 1) * size.batch_size
