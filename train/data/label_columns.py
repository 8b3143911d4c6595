"""Labels that a table holds in a column of 0 and 1 for each class."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..command.lines import escaped
from ..config import DataConfig
from ..errors import ConfigError, DataError
from .names import shown
from .records import Records, object_column

_YES, _NO = frozenset({"1", "1.0", "true"}), frozenset({"0", "0.0", "false"})


def is_flag(value: Any) -> bool:
    """Returns whether a value says that a class is, or is not, a label."""
    return str(value).strip().lower() in _YES | _NO


def gather_labels(records: Records, config: DataConfig) -> Records:
    """Returns records with a column of lists: the classes whose column holds 1.

    Args:
      records: of a split.
      config: `label_columns` names the classes, `label_column` what they become.

    Raises:
      ConfigError: a class is named twice, or is the input.
      DataError: there is no such column, or a value is neither 0 nor 1.
    """
    names = config.label_columns
    for name in names:
        if names.count(name) > 1 or name == config.input_column:
            raise ConfigError(
                f"`data.label_columns`: `{escaped(name)}` is there twice, or is the "
                "input; name each class once"
            )
    flags = [_flags(records, name) for name in names]
    lists = [
        [name for name, flag in zip(names, row, strict=True) if flag]
        for row in zip(*flags, strict=True)
    ]
    columns = records.columns | {config.label_column: object_column(lists)}
    return dataclasses.replace(records, columns=columns)


def _flags(records: Records, name: str) -> Sequence[bool]:
    """Returns which rows have a class."""
    found = []
    for row, value in enumerate(records.column(name).tolist()):
        text = str(value).strip().lower()
        if text not in _YES | _NO:
            raise DataError(
                f"{records.origin}: row {records.number(row)} of column "
                f"`{escaped(name)}` has {shown(value)}, which is neither 0 nor 1; "
                "correct it, or leave the column out of `data.label_columns`"
            )
        found.append(text in _YES)
    return found
