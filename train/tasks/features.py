"""Classification of numeric features: the columns of a table."""

import dataclasses
import json
import re
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from ..command.lines import escaped
from ..command.notices import notice
from ..config import Config, DataConfig
from ..data.examples import Encoded, InputSpec
from ..data.names import shown
from ..data.records import Records
from ..errors import DataError
from ..models.mlp import Mlp
from ..targets.one_class import OneClass
from .cells import Column, number
from .columns import find_columns
from .task import Task

_KEPT = "features.json"
# The index that pandas writes: without a name in CSV, with one of these in Parquet.
_ROW_NAMES = re.compile(r"|Unnamed: \d+|__index_level_\d+__")
# In deviations: beyond it the network's float32 sums and squares may overflow.
_FARTHEST = 1e18


@dataclasses.dataclass(frozen=True)
class FeatureCodec:
    """Columns side by side, standardised by the training split's moments.

    Attributes:
      table: the columns of the features, in their order, and what each becomes.
      mean: of each number that they become.
      deviation: of each; 1 where it is constant.
    """

    table: tuple[Column, ...]
    mean: np.ndarray
    deviation: np.ndarray

    vocabulary: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def fit(cls, config: Config, train: Records) -> Self:
        """Takes the configured columns, or all but the label."""
        names = _feature_columns(train, config.data)
        if config.data.mixed_columns:
            table = find_columns(train, names, number)
        else:
            table = tuple(map(Column, names))
        values = _matrix(train, table)
        # A constant column stays constant: its deviation is 0, or rounding.
        constant = values.min(axis=0) == values.max(axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = values.mean(axis=0), _deviation(values)
        mean = np.where(np.isfinite(mean), mean, values[0])
        deviation = np.where(constant | (deviation == 0), 1.0, deviation)
        for name, size in zip(_names(table), deviation, strict=True):
            if not np.isfinite(size):
                raise DataError(
                    f"{train.origin}: feature column `{escaped(name)}` has values too "
                    "large to square; scale it, or leave it out with "
                    "--config.data.feature_columns"
                )
        return cls(table, mean, deviation)

    @classmethod
    def load(cls, config: Config, folder: Path) -> Self:
        """Reads what a run's folder keeps."""
        kept = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        moments = (np.asarray(kept[name]) for name in ("mean", "deviation"))
        if "mixed" not in kept:
            return cls(tuple(map(Column, kept["columns"])), *moments)
        table = [c | {"categories": tuple(c["categories"])} for c in kept["mixed"]]
        return cls(tuple(Column(**column) for column in table), *moments)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""
        return tuple(column.name for column in self.table)

    def files(self) -> dict[str, str]:
        """Returns the columns and their moments."""
        scaling = {
            "columns": self.columns,
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
        }
        if any(map(_is_mixed, self.table)):
            mixed = [dataclasses.asdict(column) for column in self.table]
            return {_KEPT: json.dumps(scaling | {"mixed": mixed})}
        return {_KEPT: json.dumps(scaling)}

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know."""
        return InputSpec((len(self.mean),), num_classes)

    def encode(self, records: Records) -> Encoded:
        """Returns the standardised columns, float32 [n, features].

        Raises:
          DataError: a value is none, or so far from training's that float32 cannot
            hold what the network makes of it.
        """
        values = _matrix(records, self.table)
        with np.errstate(over="ignore"):
            scaled = (values - self.mean) / self.deviation
        far = np.argwhere(~(np.abs(scaled) <= _FARTHEST))
        if far.size:
            row, column = far[0]
            name = escaped(_names(self.table)[column])
            raise DataError(
                f"{records.origin}: feature column `{name}` has "
                f"{values[row, column]:g} in row {records.number(row)}, too far from "
                "training's values, which are "
                f"{self.mean[column]:g} with a deviation of "
                f"{self.deviation[column]:g}; correct it or remove the row"
            )
        return Encoded(scaled.astype(np.float32))


def _feature_columns(records: Records, config: DataConfig) -> tuple[str, ...]:
    """Returns the configured columns, or all but the label."""
    if config.feature_columns:
        return config.feature_columns
    others = {config.label_column}
    if config.weight_column:
        others.add(config.weight_column)
    names = [name for name in records.columns if name not in others]
    columns = tuple(name for name in names if not _ROW_NAMES.fullmatch(name))
    if len(columns) < len(names):
        notice(
            f"{records.origin}: a column without a name, which numbers the rows, is no "
            "feature"
        )
    if not columns:
        raise DataError(f"{records.origin}: no column but the label; add a feature")
    return columns


def _deviation(values: np.ndarray) -> np.ndarray:
    """Returns the deviation of each column, also of numbers too small to square."""
    deviation = values.std(axis=0)
    size = np.abs(values).max(axis=0)
    small = (deviation == 0) & (size > 0)
    deviation[small] = size[small] * (values[:, small] / size[small]).std(axis=0)
    return deviation


def _is_mixed(column: Column) -> bool:
    """Returns whether a column is more than numbers without blanks."""
    return column != Column(column.name)


def _names(table: tuple[Column, ...]) -> list[str]:
    """Returns the names of the numbers that the columns become."""
    return [name for column in table for name in column.names]


def _matrix(records: Records, table: tuple[Column, ...]) -> np.ndarray:
    """Returns the columns side by side, float64 [n, features], all finite."""
    features = []
    for column in table:
        if _is_mixed(column):
            values = _mixed_numbers(records, column)
        else:
            values = _numbers(records, column.name)[:, None]
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            blanks = (
                ""
                if _is_mixed(column)
                else (
                    ", or have blanks filled in with --config.data.mixed_columns=true"
                )
            )
            raise DataError(
                f"{records.origin}: feature column `{escaped(column.name)}` has "
                f"{len(bad)} values that are not finite, the first in row "
                f"{records.number(bad[0][0])}; fill or remove them{blanks}"
            )
        features.append(values)
    return np.concatenate(features, axis=1)


def _mixed_numbers(records: Records, column: Column) -> np.ndarray:
    """Returns what a mixed column becomes, or refuses the first value that is wrong."""
    values = records.column(column.name).tolist()
    try:
        return column.numbers(values, number)
    except (TypeError, ValueError, OverflowError) as error:
        row = error.args[1]
        raise DataError(
            f"{records.origin}: feature column `{escaped(column.name)}` has "
            f"{shown(values[row])} in row {records.number(row)}, and is a column of "
            "numbers in training; correct it, or leave it blank"
        ) from error


def _numbers(records: Records, name: str) -> np.ndarray:
    """Returns a column as float64, or refuses the first value that is no number."""
    values = records.column(name)
    if values.dtype.kind in "iuf" and values.ndim == 1:
        return values.astype(np.float64)
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            numbers[row] = number(value)
        except (TypeError, ValueError, OverflowError) as error:
            too_large = isinstance(error, OverflowError)
            raise DataError(
                f"{records.origin}: feature column `{escaped(name)}` has "
                f"{shown(value)} in row {records.number(row)}, which is "
                f"{'too large a number' if too_large else 'no number'}; correct it, "
                "name the numeric columns with --config.data.feature_columns, or take "
                "texts for categories with --config.data.mixed_columns=true"
            ) from error
    return numbers


TASK = Task(models={"mlp": Mlp}, codec=FeatureCodec, target=OneClass())
