"""Batches whose loss or gradient is not finite: left out, counted, and named.

Parameters and optimizer stay as they were before such a batch, so one does no harm.
Many in a row mean that training has diverged, and end the run.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..command.notices import notice
from ..errors import TrainerError

# The latest bad mini-steps whose numbers are kept.
_KEPT = 8
# Rows of a batch that are named.
_NAMED = 8
# Mini-steps between two looks.
_LOOK_EVERY = 32


class DivergedError(TrainerError):
    """Too many batches in a row gave a loss or gradient that is not finite."""


class BadSteps(NamedTuple):
    """Mini-steps that were left out; a part of the training state."""

    total: Any  # shape=(), dtype=int32
    in_a_row: Any  # up to the latest mini-step, shape=(), dtype=int32
    latest: Any  # their numbers, -1 where there is none, shape=(8,), dtype=int32

    @classmethod
    def none(cls) -> "BadSteps":
        """Returns the counts before the first step."""
        zero = jnp.zeros((), jnp.int32)
        return cls(zero, jnp.zeros((), jnp.int32), jnp.full((_KEPT,), -1, jnp.int32))

    def counted(self, finite: jax.Array, mini_step: jax.Array) -> "BadSteps":
        """Returns the counts with one more mini-step."""
        number = jnp.where(finite, self.latest[self.total % _KEPT], mini_step)
        return BadSteps(
            self.total + (~finite).astype(jnp.int32),
            jnp.where(finite, 0, self.in_a_row + 1),
            self.latest.at[self.total % _KEPT].set(number),
        )


class BadStepWatch:
    """Tells of bad mini-steps, with their examples, and ends a run that diverges.

    Args:
      most: bad mini-steps in a row that end the run; 0: none do.
      mini_step: of the run so far.
      total: bad ones so far, which were told of already.
    """

    def __init__(self, most: int, *, mini_step: int, total: int):
        self._most, self._mini_step, self._total = most, mini_step, total
        self._rows: dict[int, np.ndarray] = {}  # of what was not looked at yet

    @property
    def is_due(self) -> bool:
        """Whether it is time to look: each time waits for the device."""
        return len(self._rows) >= _LOOK_EVERY

    def remember(self, rows: np.ndarray) -> None:
        """Notes the next mini-step's rows, by their numbers in the training data."""
        self._rows[self._mini_step] = rows
        self._mini_step += 1

    def look(self, bad: BadSteps, kept: str) -> None:
        """Reads the counts, which waits for the latest step.

        Args:
          bad: of the state.
          kept: the last good checkpoint, for the refusal.

        Raises:
          DivergedError: there were too many in a row.
        """
        total, in_a_row, latest = jax.device_get(bad)
        new = int(total) - self._total
        if new:
            named = [
                f"{number} (rows {_listed(self._rows[number])})"
                for number in sorted(int(n) for n in latest)
                if number in self._rows
            ]
            notice(
                f"{new} mini-step(s) left out, whose loss or gradient is not finite: "
                + "; ".join(named[-new:])
            )
        self._total = int(total)
        self._rows.clear()
        if self._most and in_a_row >= self._most:
            raise DivergedError(
                f"`training.max_bad_steps`: {in_a_row} mini-steps in a row gave a loss "
                f"or gradient that is not finite; {kept}. Lower "
                "`optimizer.learning_rate`, or look at the rows named above"
            )


def _listed(rows: np.ndarray) -> str:
    """Returns the first row numbers."""
    first = ", ".join(str(int(row)) for row in rows[:_NAMED])
    return first + (", ..." if len(rows) > _NAMED else "")
