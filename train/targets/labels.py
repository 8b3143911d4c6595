"""Label columns as Python values, checked."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from train.config import DataConfig
from train.data.records import Records
from train.errors import DataError

Label = str | int


def label_values(records: Records, column: str) -> list[Label]:
    """Returns the labels as Python values, all text or all whole numbers.

    Raises:
      DataError: a label is missing, or they are of mixed or unfit types.
    """
    values = records.column(column).tolist()
    if records.untyped:
        values = [_from_text(value) for value in values]
    _refuse_unfit(values, f"{records.origin}: label column `{column}`")
    return values


def label_lists(records: Records, config: DataConfig) -> list[list[Label]]:
    """Returns the labels of each row, none or many, of one type in all.

    Where a file holds text for a list, as CSV does, it is parted at
    `config.separator`.

    Raises:
      DataError: a row is no list, or labels are of mixed or unfit types.
    """
    column, place = config.label_column, f"{records.origin}: label column "
    rows = list_values(records, column, config.separator)
    if records.untyped:
        rows = [[_from_text(value) for value in row] for row in rows]
    _refuse_unfit([v for row in rows for v in row], f"{place}`{column}`", empty=True)
    return rows


def list_values(records: Records, column: str, separator: str) -> list[list]:
    """Returns a column of lists as Python lists; text is parted at `separator`.

    Raises:
      DataError: a row is neither.
    """
    rows = []
    for number, value in enumerate(records.column(column).tolist(), start=1):
        if isinstance(value, str):
            parts = value.split(separator) if separator else [value]
            rows.append([part.strip() for part in parts if part.strip()])
        elif isinstance(value, list | tuple | np.ndarray):
            rows.append(np.asarray(value, object).tolist())
        else:
            raise DataError(
                f"{records.origin}: row {number} of column `{column}` is {value!r}; it "
                f"must be a list, or text parted by {separator!r} (data.separator)"
            )
    return rows


def index_of(classes: Sequence[Label]) -> dict[Label, int]:
    """Returns the number of each class."""
    return {name: k for k, name in enumerate(classes)}


def refuse_unknown(
    records: Records, values: Sequence[Label], classes: Sequence[Label]
) -> None:
    """Refuses a split that has a label which training never had."""
    known = set(classes)
    unknown = Counter(value for value in values if value not in known)
    if unknown:
        label, rows = unknown.most_common(1)[0]
        more = f" (and {len(unknown) - 1} more labels)" if len(unknown) > 1 else ""
        raise DataError(
            f"{records.origin}: the {records.split} split has label {label!r} in "
            f"{rows} rows{more}, which training never has; add training examples "
            "of it or remove those rows"
        )


def _refuse_unfit(values: Sequence[object], place: str, *, empty: bool = False) -> None:
    """Refuses what is neither all text nor all whole numbers."""
    kinds = Counter(type(value) for value in values)
    if len(kinds) == 1 and set(kinds) <= {str, int}:
        return
    if not kinds:
        if empty:
            return
        raise DataError(f"{place} is empty; it needs an example")
    missing = [
        row
        for row, value in enumerate(values, start=1)
        if value is None or (isinstance(value, float) and math.isnan(value))
    ]
    if missing:
        raise DataError(
            f"{place} has {len(missing)} missing labels, the first in row "
            f"{missing[0]}; fill them or remove the rows"
        )
    found = ", ".join(f"{n} {kind.__name__}" for kind, n in kinds.most_common())
    raise DataError(
        f"{place} must be all text or all whole numbers; it has {found}; "
        "write the labels in one type"
    )


def _from_text(value: str) -> Label | None:
    """Returns what an untyped value means as a label."""
    if value.isdecimal() and value == str(int(value)):
        return int(value)
    return value or None
