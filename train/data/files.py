"""The user's own files: Parquet, JSON Lines, CSV and TSV with named columns."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..config import DataConfig
from ..errors import DataError
from .comma_separated import read_comma_separated, read_tab_separated
from .json_lines import read_json_lines
from .parquet import read_parquet
from .pointers import HEAD, pointer
from .records import Records

_SPLITS = ("train", "validation", "test", "outside")


def read(config: DataConfig) -> dict[str, Records]:
    """Returns the records of each file that the configuration names.

    Args:
      config: folder and file names; an empty `validation` or `test` means none.

    Raises:
      DataError: a file is missing, empty, or not what its ending says.
    """
    folder = data_folder(config)
    names = split_names(config)
    return {split: _read_split(folder, name, split) for split, name in names.items()}


def _read_split(folder: Path, name: str, split: str) -> Records:
    """Returns the records of a split's file, or of all files that a `*` stands for."""
    if "*" not in name:
        return read_file(folder / name, split)
    found = sorted(path for path in folder.glob(name) if path.is_file())
    if not found:
        raise DataError(f"{folder / name}: no such files; {_cure(split)}")
    parts = [read_file(path, split) for path in found]
    for part in parts[1:]:
        if part.columns.keys() != parts[0].columns.keys():
            raise DataError(
                f"{part.origin}: its columns are not those of {parts[0].origin}; the "
                f"files of {name} must have the same"
            )
    columns = {
        column: np.concatenate([part.columns[column] for part in parts])
        for column in parts[0].columns
    }
    return dataclasses.replace(parts[0], origin=str(folder / name), columns=columns)


def split_names(config: DataConfig) -> dict[str, str]:
    """Returns where each split is that the configuration names."""
    names = {"train": config.train, "validation": config.validation}
    names |= {"test": config.test, "outside": config.outside}
    return {split: name for split, name in names.items() if name}


def data_folder(config: DataConfig) -> Path:
    """Returns the data folder: the path, or the name under $AS_SOFTMAX_DATA."""
    if config.path:
        return Path(config.path).expanduser()
    root = os.environ.get("AS_SOFTMAX_DATA")
    if not root:
        raise DataError(
            "no data folder: give --config.data.path=FOLDER or set AS_SOFTMAX_DATA "
            f"to the folder that holds {config.name or 'the data'!r}"
        )
    return Path(root).expanduser() / config.name


def read_file(path: Path, split: str) -> Records:
    """Reads one file by its ending, which is looked for where the name has none.

    Args:
      path: of a .parquet, .jsonl, .csv or .tsv file; all but the first may be
        compressed, .csv.gz for instance.
      split: what the records are for; it also names the flag in refusals.

    Raises:
      DataError: the file is missing, empty, or not what its ending says.
    """
    path = _with_ending(path)
    _refuse_folder(path, split)
    ending = data_ending(path)
    if ending not in READERS:
        raise DataError(
            f"{path}: unknown kind of file; it must end in {', '.join(READERS)}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file{_beside(path)}; {_cure(split)}")
    try:
        with path.open("rb") as file:
            what = pointer(file.read(HEAD))
        if what:
            raise DataError(f"{path}: {what}")
        untyped = ending in (".csv", ".tsv")
        records = Records(split, str(path), READERS[ending](path), untyped)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not len(records):
        raise DataError(f"{path}: the {split} split is empty; it needs an example")
    return records


def data_ending(path: Path) -> str:
    """Returns the ending that says what a file holds: of `a.csv.gz` it is `.csv`."""
    ending = path.suffix.lower()
    if ending != ".gz":
        return ending
    inner = path.with_suffix("").suffix.lower()
    return inner if inner in READERS and inner != ".parquet" else ending


def _with_ending(path: Path) -> Path:
    """Returns the path of the file there is, for a name without an ending."""
    if path.suffix or path.is_file():
        return path
    there = [path.with_name(path.name + ending) for ending in READERS]
    found = [candidate for candidate in there if candidate.is_file()]
    if path.is_dir():
        there = [path]
    return (found or there)[0]


def _refuse_folder(path: Path, split: str) -> None:
    """Refuses a folder where a file is meant."""
    if not path.is_dir():
        return
    what = f"{path}: a folder, where a {', '.join(READERS)} file is meant"
    if split in _SPLITS:
        raise DataError(
            f"{what}; name a file in it with --config.data.{split}, or read folders "
            "of images or recordings by class with --config.data.source=folders"
        )
    raise DataError(f"{what}; name a file in it, or a file with a column of the paths")


def _beside(path: Path) -> str:
    """Returns what the folder of a missing file holds, in words."""
    if path.parent.is_file():
        return f": {path.parent} is a file, not a folder"
    there = sorted(p.name for p in path.parent.glob("*") if p.is_file())[:6]
    return f", the folder has {', '.join(there)}" if there else ""


def _cure(split: str) -> str:
    """Returns which flags say where the file of a split is."""
    if split not in _SPLITS:
        return "name a .parquet, .jsonl, .csv or .tsv file that is there"
    return (
        f"give the folder with --config.data.path and the {split} file's name with "
        f"--config.data.{split}"
    )


READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".parquet": read_parquet,
    ".jsonl": read_json_lines,
    ".csv": read_comma_separated,
    ".tsv": read_tab_separated,
}
