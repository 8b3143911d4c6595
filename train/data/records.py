"""Records: one split as it was read, before any encoding."""

import dataclasses

import numpy as np

from train.errors import DataError


@dataclasses.dataclass(frozen=True)
class Records:
    """Named columns of equal length; numbers as they are, text as Python objects.

    Attributes:
      split: `train`, `validation` or `test`.
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
            there = ", ".join(f"`{n}`" for n in self.columns)
            raise DataError(
                f"{self.origin}: no column `{name}`; it has {there}; "
                "name the right one with --config.data.*_column(s)"
            )
        return self.columns[name]
