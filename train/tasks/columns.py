"""Columns of a table, as numbers: numbers with blanks, and texts as categories."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..command.lines import escaped
from ..command.notices import notice
from ..data.records import Records
from ..errors import DataError
from .cells import Column, Read, is_blank, text

# A column with more different texts is one of names or of prose, not of categories.
_MOST_CATEGORIES = 50


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
            categories = Counter(map(text, values))
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
