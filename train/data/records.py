"""Records: one split as it was read, before any encoding."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..command.lines import escaped
from ..errors import DataError
from .names import alike, is_unicode, shown

# So many column names are shown.
_SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Records:
    """Named columns of equal length; numbers as they are, text as Python objects.

    Attributes:
      split: `train`, `validation`, `test` or `outside`.
      origin: the file or data set, for messages.
      columns: name -> array with one entry (or row) an example.
      untyped: every value is text, whatever it stands for, as in CSV.
      numbers: of the rows in `origin`, from 1 on; None: all of them in order.
    """

    split: str
    origin: str
    columns: dict[str, np.ndarray]
    untyped: bool = False
    numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return min((len(column) for column in self.columns.values()), default=0)

    def rows(self, indices: np.ndarray, split: str = "") -> "Records":
        """Returns some of the rows, as another split where one is named."""
        columns = {name: column[indices] for name, column in self.columns.items()}
        numbers = indices + 1 if self.numbers is None else self.numbers[indices]
        return dataclasses.replace(
            self, split=split or self.split, columns=columns, numbers=numbers
        )

    def number(self, row: int) -> int:
        """Returns which row of `origin` a row is, from 1 on."""
        return row + 1 if self.numbers is None else int(self.numbers[row])

    def column(self, name: str) -> np.ndarray:
        """Returns a column, or refuses with the names of those that are there."""
        if name not in self.columns:
            names = list(self.columns)
            there = ", ".join(f"`{escaped(n)}`" for n in names[:_SHOWN])
            if len(names) > _SHOWN:
                there += f" and {len(names) - _SHOWN} more"
            hint = ""
            if near := alike(name, self.columns):
                hint = f" ({near})"
            elif self.untyped:
                hint = ", as its first line must name them"
            raise DataError(
                f"{self.origin}: no column `{escaped(name)}`; it has {there}{hint}; "
                "name the right one with --config.data.*_column(s)"
            )
        return self.columns[name]

    def refuse_broken_text(self, row: int, column: str, texts: Iterable[str]) -> None:
        """Refuses texts of a row that no file can hold, such as half an emoji."""
        for text in texts:
            if not is_unicode(text):
                raise DataError(
                    f"{self.origin}: row {self.number(row)} of column "
                    f"`{escaped(column)}` has half of a surrogate pair, which is no "
                    f"character, in {shown(text)}; correct the row: text is often cut "
                    "there, in the middle of an emoji"
                )


def object_column(values: Sequence[Any]) -> np.ndarray:
    """Returns values as Python objects, one a row; lists of one length too."""
    column = np.empty(len(values), object)
    # One by one: NumPy would make a matrix of lists and arrays of one length.
    for row, value in enumerate(values):
        column[row] = value
    return column
