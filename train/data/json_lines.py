"""JSON Lines: one object a line, every line with the same keys."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..command.lines import escaped
from ..errors import DataError
from .records import object_column
from .text_file import read_text


def read_json_lines(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a file with one JSON object a line.

    Raises:
      DataError: a line is not JSON, or no object with the keys of the first.
    """
    rows: list[dict[str, Any]] = []
    # Not by `splitlines`, which also parts at characters that text may hold.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            first = rows[0] if rows else None
            rows.append(_row(line, f"{path}:{number}", first))
    names = rows[0] if rows else {}
    return {name: _typed([row[name] for row in rows]) for name in names}


def _row(line: str, place: str, first: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the object of a line, which has the keys of the first line."""
    try:
        row = json.loads(line, object_pairs_hook=_distinct)
    except _TwiceError as error:
        raise DataError(f"{place}: {error}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON: {error.msg}{_hint(line)}") from error
    except RecursionError as error:
        raise DataError(
            f"{place}: cannot be read: nested too deep; write its lists flat"
        ) from error
    except ValueError as error:  # Python reads so many digits at most
        raise DataError(
            f"{place}: cannot be read: a whole number of thousands of digits; write it "
            "as text"
        ) from error
    if not isinstance(row, dict) or (first is not None and row.keys() != first.keys()):
        keys = ", ".join(map(escaped, first)) if first else "names and values"
        raise DataError(f"{place}: must be an object with {keys}{_hint(line)}")
    return row


class _TwiceError(Exception):
    """An object that has a key twice."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise _TwiceError(f"two values have the name `{escaped(name)}`; rename one")
    return row


def _hint(line: str) -> str:
    """Returns what to do about JSON that is not a line a row; empty: it is."""
    kinds = {"[": "one array of all", "{": "objects over several lines"}
    bare = line.strip()
    what = kinds.get(bare, kinds["["] if bare.startswith("[") else "")
    return f"; the file must hold one object a line, not {what}" if what else ""


def _typed(values: list[Any]) -> np.ndarray:
    """Returns integers or floats as such, anything else as Python objects."""
    kinds = {type(value) for value in values}
    if kinds <= {int}:
        if all(-(2**63) <= value < 2**63 for value in values):
            return np.array(values, np.int64)
    elif kinds <= {int, float}:
        try:
            return np.array(values, np.float64)
        except OverflowError:  # a whole number beyond float64
            return object_column(values)
    return object_column(values)
