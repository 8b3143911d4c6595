"""Rows of a data set in a few words, for people who look at them one by one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..command.lines import one_line
from .records import Records

# Longer texts are cut, and further columns left out.
_LENGTH, _COLUMNS = 200, 8


def describer(records: Records, columns: Sequence[str]) -> Callable[[int], str] | None:
    """Returns a function from a row to its text, its words, its values or its file.

    None where rows are pictures or recordings without a file. What it holds on to is as
    large as the texts and numbers are.

    Args:
      records: of a split.
      columns: that a model reads.
    """
    held: dict[str, Sequence[Any]] = {}
    for name in columns[:_COLUMNS]:
        column = records.columns[name]
        if column.ndim > 1:
            continue
        values: Any = column.tolist() if column.dtype == object else column
        if len(values) and isinstance(values[0], dict):
            values = [value and value.get("path") for value in values]
        if len(values) and not isinstance(values[0], bytes):
            held[name] = values
    if not held:
        return None

    def describe(row: int) -> str:
        parts = [(name, values[row]) for name, values in held.items()]
        if len(columns) == 1:
            text = _as_text(parts[0][1])
        else:
            text = ", ".join(f"{name} {_as_text(value)}" for name, value in parts)
            text += ", ..." if len(columns) > len(parts) else ""
        text = one_line(text)
        return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 3]}..."

    return describe


def _as_text(value: Any) -> str:
    if isinstance(value, list | tuple | np.ndarray):
        return " ".join(map(str, value))
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    return "" if value is None else str(value)
