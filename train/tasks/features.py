"""Classification of numeric features: the columns of a table."""

import dataclasses
import json
import re
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from train.command.notices import notice
from train.config import Config, DataConfig
from train.data.examples import Encoded, InputSpec
from train.data.records import Records
from train.errors import DataError
from train.models.mlp import Mlp
from train.targets.one_class import OneClass
from train.tasks.task import Task

_KEPT = "features.json"
# The index that pandas writes: without a name in CSV, with one of these in Parquet.
_ROW_NAMES = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


@dataclasses.dataclass(frozen=True)
class FeatureCodec:
    """Columns side by side, standardised by the training split's moments.

    Attributes:
      columns: of the features, in their order.
      mean: of each column.
      deviation: of each column; 1 where it is constant.
    """

    columns: tuple[str, ...]
    mean: np.ndarray
    deviation: np.ndarray

    vocabulary: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def fit(cls, config: Config, train: Records) -> Self:
        """Takes the configured columns, or all but the label."""
        columns = _feature_columns(train, config.data)
        values = _matrix(train, columns)
        # A constant column stays constant: its deviation is 0, or rounding.
        constant = values.min(axis=0) == values.max(axis=0)
        with np.errstate(over="ignore"):
            deviation = np.where(constant, 1.0, values.std(axis=0))
        for name, size in zip(columns, deviation, strict=True):
            if not np.isfinite(size):
                raise DataError(
                    f"{train.origin}: feature column `{name}` has values too large to "
                    "square; scale it, or leave it out with "
                    "--config.data.feature_columns"
                )
        return cls(columns, values.mean(axis=0), deviation)

    @classmethod
    def load(cls, config: Config, folder: Path) -> Self:
        """Reads what a run's folder keeps."""
        kept = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        moments = (np.asarray(kept[name]) for name in ("mean", "deviation"))
        return cls(tuple(kept["columns"]), *moments)

    def files(self) -> dict[str, str]:
        """Returns the columns and their moments."""
        scaling = {
            "columns": self.columns,
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
        }
        return {_KEPT: json.dumps(scaling)}

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know."""
        return InputSpec((len(self.columns),), num_classes)

    def encode(self, records: Records) -> Encoded:
        """Returns the standardised columns, float32 [n, features]."""
        values = _matrix(records, self.columns)
        return Encoded(((values - self.mean) / self.deviation).astype(np.float32))


def _feature_columns(records: Records, config: DataConfig) -> tuple[str, ...]:
    """Returns the configured columns, or all but the label."""
    if config.feature_columns:
        return config.feature_columns
    names = [name for name in records.columns if name != config.label_column]
    columns = tuple(name for name in names if not _ROW_NAMES.fullmatch(name))
    if len(columns) < len(names):
        notice(
            f"{records.origin}: a column without a name, which numbers the rows, is no "
            "feature"
        )
    if not columns:
        raise DataError(f"{records.origin}: no column but the label; add a feature")
    return columns


def _matrix(records: Records, columns: tuple[str, ...]) -> np.ndarray:
    """Returns the columns side by side, float64 [n, features], all finite."""
    features = []
    for name in columns:
        values = _numbers(records, name)
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise DataError(
                f"{records.origin}: feature column `{name}` has {bad.size} values that "
                f"are not finite, the first in row {records.number(bad[0])}; fill or "
                "remove them"
            )
        features.append(values)
    return np.stack(features, axis=1)


def _numbers(records: Records, name: str) -> np.ndarray:
    """Returns a column as float64, or refuses the first value that is no number."""
    values = records.column(name)
    if values.dtype.kind in "iuf" and values.ndim == 1:
        return values.astype(np.float64)
    numbers = np.empty(len(values))
    for row, value in enumerate(values):
        try:
            numbers[row] = float(value)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{records.origin}: feature column `{name}` has {value!r} in row "
                f"{records.number(row)}, which is no number; correct it, or name the "
                "numeric columns with --config.data.feature_columns"
            ) from error
    return numbers


TASK = Task(models={"mlp": Mlp}, codec=FeatureCodec, target=OneClass())
