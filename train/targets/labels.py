"""Label columns as Python values, checked."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from train.config import DataConfig
from train.data.records import Records
from train.errors import DataError

Label = str | int
# A whole number as Python writes it, so that none is another's name.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_WRITTEN_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)


def label_values(
    records: Records, column: str, classes: Sequence[Label] = ()
) -> list[Label]:
    """Returns the labels as Python values, all text or all whole numbers.

    In a file of text alone, such as CSV, labels are whole numbers where all of them
    are; or as `classes` are, where those are known.

    Raises:
      DataError: a label is missing, or they are of mixed or unfit types.
    """
    values = records.column(column).tolist()
    if records.untyped:
        values = _from_texts(values, classes)
    numbers = [records.number(row) for row in range(len(values))]
    place = f"{records.origin}: label column `{column}`"
    _refuse_unfit(values, numbers, place, untyped=records.untyped)
    return values


def label_lists(
    records: Records, config: DataConfig, classes: Sequence[Label] = ()
) -> list[list[Label]]:
    """Returns the labels of each row, none or many, of one type in all.

    Where a file holds text for a list, as CSV does, it is parted at
    `config.separator`. See `label_values` for the types.

    Raises:
      DataError: a row is no list, or labels are of mixed or unfit types.
    """
    column, place = config.label_column, f"{records.origin}: label column "
    rows = list_values(records, column, config.separator)
    if records.untyped:
        typed = iter(_from_texts(list(itertools.chain(*rows)), classes))
        rows = [list(itertools.islice(typed, len(row))) for row in rows]
    values = list(itertools.chain(*rows))
    numbers = [records.number(k) for k, row in enumerate(rows) for _ in row]
    if values:
        _refuse_unfit(values, numbers, f"{place}`{column}`", untyped=records.untyped)
    return rows


def list_values(records: Records, column: str, separator: str) -> list[list]:
    """Returns a column of lists as Python lists; text is parted at `separator`.

    Raises:
      DataError: a row is neither.
    """
    rows = []
    for k, value in enumerate(records.column(column).tolist()):
        if isinstance(value, str):
            if _WRITTEN_LIST.fullmatch(value) and separator != " ":
                raise DataError(
                    f"{records.origin}: row {records.number(k)} of column `{column}` "
                    f"is {value!r}, a list as Python writes it; part the entries by "
                    f"{separator!r} alone (data.separator), or use JSON Lines"
                )
            parts = value.split(separator) if separator else [value]
            rows.append([part.strip() for part in parts if part.strip()])
        elif isinstance(value, list | tuple | np.ndarray):
            rows.append(np.asarray(value, object).tolist())
        else:
            raise DataError(
                f"{records.origin}: row {records.number(k)} of column `{column}` is "
                f"{value!r}; it must be a list, or text parted by {separator!r} "
                "(data.separator)"
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


def _refuse_unfit(
    values: Sequence[object], numbers: Sequence[int], place: str, *, untyped: bool
) -> None:
    """Refuses what is neither all text nor all whole numbers, or is not there."""
    kinds = Counter(type(value) for value in values)
    if len(kinds) == 1 and set(kinds) <= {str, int}:
        return
    if not kinds:
        raise DataError(f"{place} is empty; it needs an example")
    missing = [
        row
        for row, value in zip(numbers, values, strict=True)
        if value is None or (isinstance(value, float) and math.isnan(value))
    ]
    if missing:
        raise DataError(
            f"{place} has {len(missing)} missing labels, the first in row "
            f"{missing[0]}; fill them or remove the rows"
        )
    if untyped:  # What is unknown to the classes is refused as such.
        return
    found = ", ".join(f"{n} {kind.__name__}" for kind, n in kinds.most_common())
    raise DataError(
        f"{place} must be all text or all whole numbers; it has {found}; "
        "write the labels in one type"
    )


def _from_texts(values: Sequence[str], classes: Sequence[Label]) -> list[Label | None]:
    """Returns what untyped values mean as labels; None: there is none."""
    whole = [bool(_WHOLE.fullmatch(value)) for value in values]
    if (
        isinstance(classes[0], str)
        if classes
        else not all(
            is_whole or not value for is_whole, value in zip(whole, values, strict=True)
        )
    ):
        return [value or None for value in values]
    return [
        int(value) if is_whole else value or None
        for is_whole, value in zip(whole, values, strict=True)
    ]
