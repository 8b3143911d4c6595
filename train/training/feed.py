"""What the loop trains on, batch by batch, and where in the data it stands."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..data.examples import Examples
from ..data.pipeline import Batch, training_batches, training_rows
from ..recipe.recipe import Recipe
from ..tasks.balance import arrival_epochs, sampling_shares
from .state import TrainState
from .sums import Sums

Latest = Callable[[], TrainState]
"""Gives the training state as it is now."""


class Item(NamedTuple):
    """One batch to train on."""

    batch: Batch
    rows: np.ndarray  # of the training split
    num_seen: int  # examples that it stands for
    last: bool = False  # of training


@dataclasses.dataclass
class FeedState:
    """Where a feed stands; a checkpoint holds these fields by their names."""

    epoch: int = 0  # epochs finished
    position: int = 0  # mini-batches read, of all epochs
    examples_seen: int = 0  # examples read, padding not counted
    examples_filtered: int = 0  # examples that passed forward alone
    examples_trained: int = 0  # examples that passed forward and backward

    def saved(self) -> dict[str, Any]:
        """Returns the fields as numbers, lists, dicts and arrays."""
        return {field.name: getattr(self, field.name) for field in self._fields()}

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Self:
        """Returns the state of which `saved` holds the fields, and maybe others."""
        return cls(**{field.name: saved[field.name] for field in cls._fields()})

    @classmethod
    def _fields(cls) -> tuple[dataclasses.Field, ...]:
        return dataclasses.fields(cls)


class PlainFeed:
    """Every example of an epoch, in an order that the seed decides.

    Attributes:
      state: where it stands.
    """

    state_type: ClassVar[type[FeedState]] = FeedState

    def __init__(self, recipe: Recipe, examples: Examples, *, seed: int):
        self.recipe, self.examples, self.seed = recipe, examples, seed
        num_classes = recipe.network.spec.num_classes
        self.rows = training_rows(
            examples,
            batch_size=recipe.training.batch_size,
            epochs=recipe.training.epochs,
            seed=seed,
            group_by_length=recipe.training.group_by_length,
            shares=sampling_shares(recipe.data.balance, examples.labels, num_classes),
            arrivals=arrival_epochs(
                recipe.data.class_stages,
                examples.labels,
                num_classes,
                epochs=recipe.training.epochs,
            ),
        )
        self.state = self.first_state()

    def first_state(self) -> FeedState:
        """Returns where it stands before the first batch."""
        return self.state_type()

    @property
    def has_begun(self) -> bool:
        """Whether something of this epoch was trained on."""
        return self.state.position > self.state.epoch * self.recipe.mini_steps_per_epoch

    @property
    def epoch_end(self) -> int:
        """The position after this epoch."""
        return (self.state.epoch + 1) * self.recipe.mini_steps_per_epoch

    def items(self, latest: Latest) -> Iterator[Item]:
        """Yields what is left of this epoch.

        Args:
          latest: asked for the training state when a batch depends on it.
        """
        del latest
        yield from self.plain_items(self.epoch_end)

    def plain_items(self, stop: int) -> Iterator[Item]:
        """Yields mini-batches as they come, up to a position."""
        batches = training_batches(
            self.examples,
            self.rows[self.state.position : stop],
            batch_size=self.recipe.training.batch_size,
        )
        for batch in batches:
            num_seen, rows = (
                self._count(self.state.position),
                self.rows[self.state.position],
            )
            self.state.position += 1
            self.state.examples_seen += num_seen
            self.state.examples_trained += num_seen
            last = self.state.position == len(self.rows)
            yield Item(batch, rows, num_seen, last=last)

    def finish_epoch(self, trained: Sums) -> Sums:
        """Goes on to the next epoch; returns the sums that stand for this one.

        Args:
          trained: of the epoch's training steps.
        """
        self.state.epoch += 1
        return trained

    def figures(self) -> dict[str, float]:
        """Returns what a record says of the feed."""
        return {
            "examples_filtered": self.state.examples_filtered,
            "examples_trained": self.state.examples_trained,
        }

    def _count(self, position: int) -> int:
        """Returns how many examples a mini-batch holds: the last of an epoch fewer."""
        per_epoch, size = self.recipe.mini_steps_per_epoch, self.recipe.training
        if (position + 1) % per_epoch:
            return size.batch_size
        return len(self.examples) - (per_epoch - 1) * size.batch_size
