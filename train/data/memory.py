"""Data that are in memory: tables, arrays and lists, as records."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow

from ..errors import DataError
from .parquet import table_columns
from .records import Records, object_column

SPLITS = ("train", "validation", "test", "outside")
_CURE = (
    "give a table (a pandas or Polars frame, an Arrow table, a data set of Hugging "
    "Face, a dict of columns, a list of dicts), a pair of inputs and labels, or a dict "
    "of such for train, validation and test"
)


def read_memory(data: Any) -> dict[str, Records]:
    """Returns data in memory as the records of each split that is given.

    Args:
      data: of training alone, or a dict of splits: `train`, and if there are such
        `validation`, `test` and `outside`. Each is a pandas or Polars frame, an
        Arrow table, a data set of Hugging Face, a dict of columns, a list of dicts by
        column, or a pair of inputs and labels: texts, lists of words, images [n, h, w]
        or [n, h, w, channels], features [n, columns].

    Raises:
      DataError: it is nothing of these, or columns differ in length.
    """
    if not isinstance(data, Mapping) or "train" not in data:
        return {"train": as_records(data, "train")}
    if unknown := [name for name in data if name not in SPLITS]:
        raise DataError(
            f"the data: no split {unknown[0]!r}; it can be {', '.join(SPLITS)}"
        )
    return {split: as_records(table, split) for split, table in data.items()}


def as_records(table: Any, split: str) -> Records:
    """Returns one split, see `read_memory`."""
    if isinstance(table, tuple) and len(table) == 2:
        columns = _with_labels(*table)
    else:
        columns = _columns(table)
    found = {name: _array(values) for name, values in columns.items()}
    sizes = {name: len(column) for name, column in found.items()}
    if len(set(sizes.values())) > 1:
        lengths = ", ".join(f"`{name}` {size}" for name, size in sizes.items())
        raise DataError(f"the {split} data: columns differ in length: {lengths}")
    if not any(sizes.values()):
        raise DataError(f"the {split} data: no rows; it needs an example")
    return Records(split, f"the {split} data", found)


def as_inputs(inputs: Any) -> Records | list[Any]:
    """Returns inputs to predict: a table as records, values as a list."""
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        return as_records(_with_labels(inputs, None), "input")
    if isinstance(inputs, np.ndarray | list | tuple):
        return list(inputs)
    return as_records(inputs, "input")


def _with_labels(inputs: Any, labels: Any) -> dict[str, Any]:
    """Returns inputs and labels by the names that the tasks have for them."""
    named = {} if labels is None else {"label": labels}
    if hasattr(inputs, "columns") or isinstance(inputs, Mapping):
        return {**_columns(inputs), **named}
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        return {f"x{k}": inputs[:, k] for k in range(inputs.shape[1])} | named
    if isinstance(inputs, np.ndarray) and inputs.ndim > 2:
        return {"image": inputs} | named
    first = next(iter(inputs), None)
    return {"text" if isinstance(first, str) else "tokens": inputs} | named


def _columns(table: Any) -> dict[str, Any]:
    """Returns the columns of a table of whatever kind."""
    if isinstance(table, Mapping):
        return {str(name): values for name, values in table.items()}
    if isinstance(table, list) and table and isinstance(table[0], Mapping):
        return {str(name): [row.get(name) for row in table] for name in table[0]}
    if hasattr(table, "with_format") and hasattr(table, "column_names"):
        table = table.with_format("arrow")[:]
    elif hasattr(table, "iloc"):
        table = pyarrow.Table.from_pandas(table, preserve_index=False)
    elif hasattr(table, "__arrow_c_stream__"):
        table = pyarrow.table(table)
    if not isinstance(table, pyarrow.Table):
        raise DataError(f"the data: a {type(table).__name__} is no table; {_CURE}")
    return dict(table_columns(table))


def _array(values: Any) -> np.ndarray:
    """Returns a column with one entry a row: numbers as they are, others as objects."""
    if isinstance(values, np.ndarray) and values.dtype.kind not in "OU":
        return values
    values = [_plain(value) for value in values]
    kinds = (bool, int, float, np.number)
    if values and all(isinstance(value, kinds) for value in values):
        return np.array(values)
    return object_column(values)


def _plain(value: Any) -> Any:
    """Returns NumPy's scalars, as its generators draw them, as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(entry) for entry in value] if isinstance(value, list) else value
