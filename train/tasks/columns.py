"""Columns of a table, as numbers: numbers with blanks, and texts as categories."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..command.lines import escaped
from ..command.notices import notice
from ..data.records import Records
from ..errors import DataError

# What people write where there is nothing.
_BLANKS = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "-"})
# A column with more different texts is one of names or of prose, not of categories.
_MOST_CATEGORIES = 50
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
                if not blank[i] and (k := place.get(_text(value))) is not None:
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


def find_columns(
    records: Records, names: Sequence[str], read: Read
) -> tuple[Column, ...]:
    """Returns what each column of the training split is.

    A column of numbers but for its blanks is one of numbers; any other is one of
    categories, unless it has too many different texts, which leaves it out.

    Raises:
      DataError: no column is left.
    """
    found, left_out = [], []
    for name in names:
        values = [v for v in records.column(name).tolist() if not is_blank(v)]
        has_blanks = len(values) < len(records)
        numbers = _all_numbers(values, read)
        if not values:
            left_out.append(f"`{escaped(name)}` (all blank)")
        elif numbers is not None:
            fill = float(np.median(numbers))
            found.append(Column(name, fill=fill, has_blanks=has_blanks))
        else:
            categories = Counter(map(_text, values))
            if len(categories) > _MOST_CATEGORIES:
                count = len(categories)
                left_out.append(f"`{escaped(name)}` ({count} different texts)")
            else:
                kept = tuple(sorted(categories))
                found.append(Column(name, categories=kept, has_blanks=has_blanks))
    if left_out:
        notice(f"{records.origin}: no feature: {', '.join(left_out)}")
    if not found:
        raise DataError(
            f"{records.origin}: no column is left that is of numbers or categories"
        )
    return tuple(found)


def _all_numbers(values: Sequence[Any], read: Read) -> list[float] | None:
    """Returns values as numbers, or None where one is none."""
    numbers = []
    for value in values:
        try:
            numbers.append(read(value))
        except OverflowError:
            numbers.append(math.inf)  # Refused where it is encoded, by its row.
        except (TypeError, ValueError):
            return None
    return numbers


def _text(value: Any) -> str:
    """Returns the name of a category."""
    return str(value).strip()
