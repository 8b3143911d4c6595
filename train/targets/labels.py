"""Label columns as Python values, checked."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..command.lines import escaped
from ..command.notices import notice
from ..config import DataConfig
from ..data.names import alike, is_unicode, look_alikes, shown
from ..data.records import Records
from ..errors import DataError

Label = str | int
# Of the labels that training never has, so many are looked at for one like them.
_LOOKED_AT = 20
# What programs write into text for a missing value.
_MISSING = frozenset(
    ["nan", "NaN", "NA", "<NA>", "N/A", "#N/A", "None", "null", "NULL", "NaT"]
)
# What else may part labels in a cell.
_OTHER_SEPARATORS = (",", ";")
# A whole number as Python writes it, so that none is another's name.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
# Flags of 0 and 1 in a cell, parted by anything.
_FLAGS = re.compile(r"[01](?:[ ,;/\t]+[01])+")
_WRITTEN_LIST = re.compile(r"\s*\[.*\]\s*", re.DOTALL)


def label_values(
    records: Records, column: str, classes: Sequence[Label] = ()
) -> list[Label]:
    """Returns the labels as Python values, all text or all whole numbers.

    In a file of text alone, such as CSV, labels are whole numbers where all of them
    are; or as `classes` are, where those are known. True and false are the texts that
    Python writes for them. Outer spaces are no part of a label.

    Raises:
      DataError: a label is missing, or they are of mixed or unfit types.
    """
    values = records.column(column).tolist()
    if all(isinstance(value, bool | None) for value in values):
        values = [None if value is None else str(value) for value in values]
    numbers = [records.number(row) for row in range(len(values))]
    values = _stripped(values, classes, records, column)
    if records.untyped:
        values = _from_texts(values, classes)
    _refuse_unfit(values, numbers, records, column)
    return values


def label_lists(
    records: Records,
    config: DataConfig,
    classes: Sequence[Label] = (),
    *,
    distinct: bool = False,
) -> list[list[Label]]:
    """Returns the labels of each row, none or many, of one type in all.

    Where a file holds text for a list, as CSV does, it is parted at
    `config.separator`. See `label_values` for the types.

    Args:
      records: of a split.
      config: names the column and the separator.
      classes: that training has, where they are known.
      distinct: whether a row cannot have a label twice.

    Raises:
      DataError: a row is no list, or labels are of mixed or unfit types.
    """
    column = config.label_column
    rows = list_values(records, column, config.separator)
    sizes, known = [len(row) for row in rows], set(classes)
    values = list(itertools.chain(*rows))
    numbers = [records.number(k) for k, size in enumerate(sizes) for _ in range(size)]
    if distinct:
        _refuse_multi_hot(records, column, rows)
    if distinct and not classes:
        _note_another_separator(records, config)
    # With the separator there may be spaces, of which nothing need be said.
    values = [v.strip() if isinstance(v, str) and v not in known else v for v in values]
    if records.untyped:
        values = _from_texts(values, classes)
    if values:
        _refuse_unfit(values, numbers, records, column)
    entries = iter(values)
    rows = [list(itertools.islice(entries, size)) for size in sizes]
    if distinct:
        _refuse_twice(records, column, rows)
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
                    f"{_row(records, k, column)} is {shown(value)}, a list as Python "
                    f"writes it; part the entries by {separator!r} alone "
                    "(data.separator), or use JSON Lines"
                )
            parts = value.split(separator) if separator else [value]
            rows.append([part.strip() for part in parts if part.strip()])
        elif isinstance(value, np.ndarray):
            rows.append(value.tolist())
        elif isinstance(value, list | tuple):
            rows.append(list(value))
        else:
            raise DataError(
                f"{_row(records, k, column)} is {shown(value)}; it must be a list, or "
                f"text parted by {separator!r} (data.separator)"
            )
    return rows


def class_numbers(
    records: Records, column: str, classes: Sequence[Label]
) -> np.ndarray:
    """Returns the number of each row's class, int [n]; every label is of `classes`."""
    numbers = index_of(classes)
    return np.array([numbers[v] for v in label_values(records, column, classes)])


def index_of(classes: Sequence[Label]) -> dict[Label, int]:
    """Returns the number of each class."""
    return {name: k for k, name in enumerate(classes)}


def refuse_unknown(
    records: Records, values: Sequence[Label], classes: Sequence[Label]
) -> None:
    """Refuses a split that has a label which training never had."""
    known = set(classes)
    unknown = Counter(value for value in values if value not in known)
    if not unknown:
        return
    # One that training has in another form tells more than the most frequent one.
    common = [label for label, _ in unknown.most_common(_LOOKED_AT)]
    near = {label: alike(label, classes) for label in common}
    label = next((name for name, words in near.items() if words), common[0])
    more = f" (and {len(unknown) - 1} more labels)" if len(unknown) > 1 else ""
    cure = "add training examples of it or remove those rows"
    if near[label]:
        cure = f"training has {near[label]}; write both alike"
    raise DataError(
        f"{records.origin}: the {records.split} split has label {shown(label)} in "
        f"{unknown[label]} rows{more}, which training never has; {cure}"
    )


def note_doubtful_classes(records: Records, classes: Sequence[Label]) -> None:
    """Says which classes look alike, and which look like no label at all."""
    pairs = look_alikes(classes)
    if pairs:
        more = f", and {len(pairs) - 1} more pairs are so" if len(pairs) > 1 else ""
        notice(
            f"{records.origin}: labels {pairs[0]}{more}; they are different classes: "
            "write them alike if they are one"
        )
    missing = [repr(name) for name in classes if name in _MISSING]
    if missing:
        notice(
            f"{records.origin}: {', '.join(missing)} is taken for a class; if it means "
            "that a label is missing, fill it or remove the rows"
        )


def _place(records: Records, column: str) -> str:
    return f"{records.origin}: label column `{escaped(column)}`"


def _row(records: Records, row: int, column: str) -> str:
    return f"{records.origin}: row {records.number(row)} of column `{escaped(column)}`"


def _stripped(
    values: Sequence[Any], classes: Sequence[Label], records: Records, column: str
) -> list[Any]:
    """Returns labels without outer spaces, but for classes that have them."""
    known = set(classes)
    spaced = {
        row: value.strip()
        for row, value in enumerate(values)
        if isinstance(value, str) and value not in known and value != value.strip()
    }
    # The training split is read twice, first without knowing the classes.
    if spaced and not (classes and records.split == "train"):
        notice(
            f"{_place(records, column)} has {len(spaced)} labels with outer spaces, "
            f"the first in row {records.number(min(spaced))}; the spaces are no part "
            "of them"
        )
    return [spaced.get(row, value) for row, value in enumerate(values)]


def _refuse_multi_hot(records: Records, column: str, rows: Sequence[list]) -> None:
    """Refuses rows of 0 and 1, an entry a class, which are no lists of labels."""
    if records.untyped and all(
        _FLAGS.fullmatch(str(cell)) for row in rows for cell in row
    ):
        rows = [[flag for flag in row[0] if flag in "01"] for row in rows if row]
    if not rows:
        return
    size = len(rows[0])
    if size < 2 or any(len(row) != size for row in rows):
        return
    # 1, 1.0 and True are one to a set.
    try:
        if not {value for row in rows for value in row} <= {0, 1, "0", "1"}:
            return
    except TypeError:  # lists in lists
        return
    texts = [tuple(str(int(value)) for value in row) for row in rows]
    twice = any(len(set(row)) < size for row in texts)
    if twice or len(set(texts)) > 1:
        raise DataError(
            f"{_place(records, column)} has rows of {size} values that are 0 or 1, the "
            f"first {shown(rows[0])}, a value a class; write the list of the labels "
            "that an example has: their names, or [0, 3] for [1, 0, 0, 1]"
        )


def _refuse_twice(records: Records, column: str, rows: Sequence[list[Label]]) -> None:
    """Refuses a row that has a label twice."""
    for k, row in enumerate(rows):
        if len(set(row)) < len(row):
            label, times = Counter(row).most_common(1)[0]
            raise DataError(
                f"{_row(records, k, column)} has label {shown(label)} {times} times; "
                "give each label of an example once"
            )


def _note_another_separator(records: Records, config: DataConfig) -> None:
    """Says so where cells of a file of text seem to be parted by something else."""
    if not records.untyped or not config.separator:
        return
    cells = records.column(config.label_column).tolist()
    if any(config.separator in cell for cell in cells):
        return
    for other in _OTHER_SEPARATORS:
        n = sum(other in cell for cell in cells)
        if n:
            notice(
                f"{_place(records, config.label_column)}: no row is parted by "
                f"{config.separator!r}, and {n} have {other!r}, taken for a part of a "
                f"label; if it parts labels, give --config.data.separator={other!r}"
            )
            return


def _refuse_unfit(
    values: Sequence[object], numbers: Sequence[int], records: Records, column: str
) -> None:
    """Refuses what is neither all text nor all whole numbers, or is not there."""
    place, kinds = _place(records, column), Counter(type(value) for value in values)
    if not kinds:
        raise DataError(f"{place} is empty; it needs an example")
    missing = [
        row for row, value in zip(numbers, values, strict=True) if _is_missing(value)
    ]
    if missing:
        raise DataError(
            f"{place} has {len(missing)} missing labels, the first in row "
            f"{missing[0]}; fill them or remove the rows"
        )
    if len(kinds) > 1 or not set(kinds) <= {str, int}:
        if records.untyped:  # What is unknown to the classes is refused as such.
            return
        found = ", ".join(f"{n} {kind.__name__}" for kind, n in kinds.most_common())
        raise DataError(
            f"{place} must be all text or all whole numbers; it has {found}; "
            f"{_cure(set(kinds))}"
        )
    for row, value in zip(numbers, values, strict=True):
        if isinstance(value, str) and not is_unicode(value):
            raise DataError(
                f"{place} has {shown(value)} in row {row}, with half of a surrogate "
                "pair, which is no character; correct the row"
            )


def _is_missing(value: object) -> bool:
    """Whether a label is none: empty, or not a number."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value)


def _cure(kinds: set[type]) -> str:
    """Returns what to do about labels of these types."""
    if len(kinds) > 1:
        return "write the labels in one type"
    if kinds <= {float}:
        return "write 1 for 1.0, or names"
    if kinds <= {bool}:
        return 'write their names as text, "yes" and "no" for instance'
    if kinds <= {list, tuple, np.ndarray}:
        return "one label is wanted: a list of them is for --config.task=multi_label"
    return "write them as text or as whole numbers"


def _from_texts(
    values: Sequence[str | None], classes: Sequence[Label]
) -> list[Label | None]:
    """Returns what untyped values mean as labels; None: there is none."""
    texts = [value or "" for value in values]
    whole = [bool(_WHOLE.fullmatch(value)) for value in texts]
    if (
        isinstance(classes[0], str)
        if classes
        else not all(
            is_whole or not value for is_whole, value in zip(whole, texts, strict=True)
        )
    ):
        return [value or None for value in texts]
    return [
        int(value) if is_whole else value or None
        for is_whole, value in zip(whole, texts, strict=True)
    ]
