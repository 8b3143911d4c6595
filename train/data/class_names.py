"""The names of classes that an Arrow table keeps of its columns of class numbers.

The library `datasets` writes them into the metadata, so its Parquet files have them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow

_KEY = b"huggingface"
_LISTS = ("Sequence", "List", "LargeList")


def names_by_column(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """Returns the names of the classes of each column that has some, by number."""
    held = (schema.metadata or {}).get(_KEY)
    try:
        features = json.loads(held)["info"]["features"] if held else {}
    except (ValueError, KeyError, TypeError):
        return {}  # Another program's metadata under that key says nothing to us.
    found = {column: _names(feature) for column, feature in features.items()}
    return {column: names for column, names in found.items() if names}


def named(column: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns numbers of classes as their names, None where there is none (-1).

    Args:
      column: numbers, or lists of them at whatever depth, one entry a row.
      names: by number.
    """
    found = np.empty(len(column), object)
    for row, value in enumerate(column):
        found[row] = _named(value, names)
    return found


def _names(feature: Any) -> list[str] | None:
    """Returns the class names of a feature, of one number or of lists of them."""
    if isinstance(feature, list) and len(feature) == 1:
        return _names(feature[0])
    if not isinstance(feature, Mapping):
        return None
    if feature.get("_type") in _LISTS:
        return _names(feature.get("feature"))
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return [str(name) for name in names] if names else None


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_named(entry, names) for entry in value]
    # What is missing is None or NaN; a number past the names stays, and is refused
    # with the labels that are no text.
    if value is None or value != value or value == -1:
        return None
    number = int(value)
    return names[number] if 0 <= number < len(names) else number
