"""Rows of a table as the model reads them: numpy alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cells import Column, number

Places = list[list[int | None]]


def encode(
    inputs: Sequence[Mapping[str, Any]], options: Mapping[str, Any], folder: Path
) -> tuple[np.ndarray, Places]:
    """Returns standardised features, float32 [n, features].

    Args:
      inputs: rows, dicts by column; other columns than the model's are not read.
      options: what model.json says of inputs.
      folder: of the model.
    """
    parts = []
    for content in options["columns"]:
        column = Column(**content | {"categories": tuple(content["categories"])})
        values = [row[column.name] for row in inputs]
        if column == Column(column.name):
            parts.append(np.array([[number(value)] for value in values]))
        else:
            parts.append(column.numbers(values, number))
    features = np.concatenate(parts, axis=1)
    if not np.isfinite(features).all():
        raise ValueError("a row has a blank, or a number that is not finite; fill it")
    scaled = (features - options["mean"]) / options["deviation"]
    return scaled.astype(np.float32), [[] for _ in inputs]
