"""Cells of a table as numbers: numbers, blanks and categories; by NumPy alone.

`train.export` puts this file into the folders of models that read tables, so that they
are read there as they were in training.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# What people write where there is nothing.
_BLANKS = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
# In the names of what a column becomes.
_BLANK = "(blank)"

Read = Callable[[Any], float]
"""Returns the number that a value is; raises TypeError, ValueError, OverflowError."""


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column of the table becomes: one number, or more.

    Attributes:
      name: of the column.
      fill: of a column of numbers, what stands for a blank: the median; None: a blank
        is refused.
      has_blanks: a blank is told by a number of its own, since training has some.
      categories: of a column of texts: a number each, 1 where it is; else empty.
    """

    name: str
    fill: float | None = None
    has_blanks: bool = False
    categories: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the numbers that it becomes."""
        blank = (f"{self.name}={_BLANK}",) if self.has_blanks else ()
        if not self.categories:
            return (self.name, *blank)
        return (*(f"{self.name}={category}" for category in self.categories), *blank)

    def numbers(self, values: Sequence[Any], read: Read) -> np.ndarray:
        """Returns a mixed column as float64 [n, numbers].

        A category that training has not is none of them.

        Raises:
          TypeError, ValueError, OverflowError: a value of a column of numbers is none;
            the second argument is its row.
        """
        blank = np.array([is_blank(value) for value in values])
        if self.categories:
            place = {category: k for k, category in enumerate(self.categories)}
            found = np.zeros((len(values), len(self.categories)))
            for i, value in enumerate(values):
                if not blank[i] and (k := place.get(text(value))) is not None:
                    found[i, k] = 1.0
        else:
            found = np.full((len(values), 1), self.fill)
            for row in np.flatnonzero(~blank).tolist():
                try:
                    found[row, 0] = read(values[row])
                except (TypeError, ValueError, OverflowError) as error:
                    raise type(error)(str(error), row) from error
        if not self.has_blanks:
            return found
        return np.concatenate([found, blank[:, None].astype(np.float64)], axis=1)


def is_blank(value: Any) -> bool:
    """Returns whether a value stands for nothing."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in _BLANKS
    return isinstance(value, float | np.floating) and math.isnan(value)


def number(value: Any) -> float:
    """Returns what a value is as a number.

    Raises:
      TypeError: it is of a type that holds none, such as a date.
      ValueError: it is text that is no number, as data write numbers.
      OverflowError: it is beyond float64.
    """
    if isinstance(value, str):
        # Python alone takes 2021_03 for a number.
        if "_" in value:
            raise ValueError(value)
        found = float(value)
        if math.isinf(found) and any(c.isdigit() for c in value):
            raise OverflowError(value)
        return found
    if isinstance(value, bytes | np.datetime64 | np.timedelta64 | np.ndarray):
        raise TypeError(type(value).__name__)
    return float(value)


def text(value: Any) -> str:
    """Returns the name of a category."""
    return str(value).strip()
