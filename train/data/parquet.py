"""Parquet files, whose columns have types already."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

from ..command.lines import escaped
from ..errors import DataError
from .class_names import named, names_by_column


def read_parquet(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a Parquet file; what is missing is None, or NaN.

    Raises:
      DataError: the file is not in order, or two columns have one name.
    """
    try:
        names = pyarrow.parquet.read_schema(path).names
        twice = [name for name, n in Counter(names).items() if n > 1]
        if twice:
            raise DataError(
                f"{path}: two columns have the name `{escaped(twice[0])}`; rename one"
            )
        return table_columns(pyarrow.parquet.read_table(path))
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a Parquet file in order: {reason}") from error


def table_columns(table: pyarrow.Table) -> dict[str, np.ndarray]:
    """Returns the columns of an Arrow table; what is missing is None, or NaN.

    Numbers of classes are their names, where the table has these.
    """
    columns = {name: _values(table[name]) for name in table.column_names}
    names = names_by_column(table.schema)
    return columns | {c: named(columns[c], names[c]) for c in names if c in columns}


def _values(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Returns a column as NumPy holds it, text and lists as objects.

    Codes are decoded before: NumPy's own way takes a missing one for the last value.
    """
    plain = _plain(column.type)
    if not plain.equals(column.type):
        column = column.cast(plain)
    return column.to_numpy(zero_copy_only=False)


def _plain(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Returns a type without codes and runs, at whatever depth."""
    types = pyarrow.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if types.is_struct(kind):
        return pyarrow.struct([_plain_field(kind.field(k)) for k in range(len(kind))])
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(_plain_field(kind.value_field), kind.list_size)
    if types.is_large_list(kind):
        return pyarrow.large_list(_plain_field(kind.value_field))
    if types.is_list(kind):
        return pyarrow.list_(_plain_field(kind.value_field))
    return kind


def _plain_field(field: pyarrow.Field) -> pyarrow.Field:
    return field.with_type(_plain(field.type))
