"""The user's own files: Parquet, JSON Lines and CSV with named columns."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from train.config import DataConfig
from train.data.records import Records
from train.errors import DataError


def read(config: DataConfig) -> dict[str, Records]:
    """Returns the records of each file that the configuration names.

    Args:
      config: folder and file names; an empty `validation` or `test` means none.

    Raises:
      DataError: a file is missing, empty, or not what its ending says.
    """
    folder = data_folder(config)
    names = split_names(config)
    return {split: read_file(folder / name, split) for split, name in names.items()}


def split_names(config: DataConfig) -> dict[str, str]:
    """Returns where each split is that the configuration names."""
    names = {"train": config.train, "validation": config.validation}
    names["test"] = config.test
    return {split: name for split, name in names.items() if name}


def data_folder(config: DataConfig) -> Path:
    """Returns the data folder: the path, or the name under $AS_SOFTMAX_DATA."""
    if config.path:
        return Path(config.path)
    root = os.environ.get("AS_SOFTMAX_DATA")
    if not root:
        raise DataError(
            "no data folder: give --config.data.path=FOLDER or set AS_SOFTMAX_DATA "
            f"to the folder that holds {config.name or 'the data'!r}"
        )
    return Path(root) / config.name


def read_file(path: Path, split: str) -> Records:
    """Reads one file by its ending, which is looked for where the name has none.

    Args:
      path: of a .parquet, .jsonl or .csv file.
      split: what the records are for; it also names the flag in refusals.

    Raises:
      DataError: the file is missing, empty, or not what its ending says.
    """
    path = _with_ending(path)
    ending = path.suffix.lower()
    if ending not in READERS:
        raise DataError(
            f"{path}: unknown kind of file; it must end in {', '.join(READERS)}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file{_beside(path)}; {_cure(split)}")
    try:
        records = Records(split, str(path), READERS[ending](path), ending == ".csv")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not len(records):
        raise DataError(f"{path}: the {split} split is empty; it needs an example")
    return records


def _with_ending(path: Path) -> Path:
    """Returns the path of the file there is, for a name without an ending."""
    if path.suffix or path.is_file():
        return path
    there = [path.with_name(path.name + ending) for ending in READERS]
    found = [candidate for candidate in there if candidate.is_file()]
    return found[0] if found else there[0]


def _beside(path: Path) -> str:
    """Returns what the folder of a missing file holds, in words."""
    there = sorted(p.name for p in path.parent.glob("*") if p.is_file())[:6]
    return f", the folder has {', '.join(there)}" if there else ""


def _cure(split: str) -> str:
    """Returns which flags say where the file of a split is."""
    if split not in ("train", "validation", "test"):
        return "name a .parquet, .jsonl or .csv file that is there"
    return (
        f"give the folder with --config.data.path and the {split} file's name with "
        f"--config.data.{split}"
    )


def _read_parquet(path: Path) -> dict[str, np.ndarray]:
    """Reads a Parquet file, whose columns have types already."""
    try:
        table = pyarrow.parquet.read_table(path)
        return {
            name: table[name].to_numpy(zero_copy_only=False)
            for name in table.column_names
        }
    except (pyarrow.ArrowInvalid, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a Parquet file in order: {reason}") from error


def _read_jsonl(path: Path) -> dict[str, np.ndarray]:
    """Reads one JSON object a line; every line has the same keys."""
    rows: list[dict[str, Any]] = []
    # Not by `splitlines`, which also parts at characters that text may hold.
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON: {error.msg}") from error
        if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
            keys = ", ".join(rows[0]) if rows else "names and values"
            raise DataError(f"{path}:{number}: must be an object with {keys}")
        rows.append(row)
    names = rows[0] if rows else {}
    return {name: _typed([row[name] for row in rows]) for name in names}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """Reads a CSV file whose first line names the columns; values stay text."""
    lines = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    rows: list[list[str]] = []
    csv.field_size_limit(2**31 - 1)
    try:
        names = next(lines, [])
        twice = sorted(name for name, n in Counter(names).items() if n > 1)
        if twice:
            raise DataError(
                f"{path}:1: two columns have the name `{twice[0]}`; rename one"
            )
        for row in lines:
            if row and len(row) != len(names):
                raise DataError(
                    f"{path}:{lines.line_num}: {len(row)} values for {len(names)} "
                    "columns; quote values that hold a comma"
                )
            rows += [row] if row else []
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: not CSV: {error}") from error
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {
        name: _typed(list(column)) for name, column in zip(names, columns, strict=True)
    }


def _text(path: Path) -> str:
    """Returns the file's text; a byte-order mark is no part of it.

    Raises:
      DataError: the file is not UTF-8; the message names the first bad line.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: not UTF-8 text; save the file as UTF-8"
        ) from error


def _typed(values: list[Any]) -> np.ndarray:
    """Returns integers or floats as such, anything else as Python objects."""
    kinds = {type(value) for value in values}
    if kinds <= {int} and all(-(2**63) <= value < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float}:
        return np.array(values, np.float64)
    column = np.empty(len(values), object)
    column[:] = values
    return column


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
}
