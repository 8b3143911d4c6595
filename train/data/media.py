"""Columns of images and recordings: many decoded at once, the broken ones told apart.

A row is a file's bytes, its path, a struct with either (`{bytes, path}`, as Hugging
Face stores them), or an array that is decoded already.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..command.notices import notice
from ..errors import DataError
from .names import shown
from .pointers import HEAD, pointer
from .records import Records

# Larger arrays go to a file, which the operating system keeps in memory as it can.
MEMORY_BYTES = 2**31
# Rows in the hands of the threads at once: enough to keep them busy.
_AHEAD = 512


class CannotDecodeError(Exception):
    """One file or array that is not in order; the text says why."""


Decode = Callable[[Any], np.ndarray]


def decode_column(
    records: Records,
    column: str,
    decode: Decode,
    *,
    shape: tuple[int, ...],
    dtype: np.dtype,
    bad_files: str,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes every row of a column.

    Args:
      records: paths in them are relative to the folder that they come from.
      column: of files or arrays.
      decode: makes an array of `shape` of bytes, an array or a struct. It raises
        `CannotDecodeError` for what is not in order, and `DataError` for what is,
        yet must not be left out; where that was is then put before its text.
      shape: of one decoded row.
      dtype: of the result.
      bad_files: `refuse`, or `skip` to leave out what cannot be decoded.

    Returns:
      The decoded rows, [n, *shape], and where some are left out, the indices of those
      that are not, int [n].

    Raises:
      DataError: a row cannot be decoded, or with `skip`, none can.
    """
    decoded = allocate((len(records), *shape), dtype)
    kept: list[int] = []
    bad: list[tuple[int, CannotDecodeError]] = []
    rows = range(len(records))
    for row, result in decode_rows(records, column, decode, rows):
        if isinstance(result, CannotDecodeError):
            bad.append((row, result))
        else:
            decoded[len(kept)] = result
            kept.append(row)
    if not bad:
        return decoded, None
    _refuse_or_say(records, column, bad, bad_files)
    return decoded[: len(kept)], np.array(kept)


def decode_rows(
    records: Records, column: str, decode: Decode, rows: Sequence[int]
) -> Iterator[tuple[int, np.ndarray | CannotDecodeError]]:
    """Yields each row and what became of it, in order; threads decode ahead.

    Args:
      records: as for `decode_column`.
      column: as for `decode_column`.
      decode: as for `decode_column`.
      rows: which, and in which order.
    """
    values, folder = records.column(column), _folder(records)

    def attempt(row: int) -> np.ndarray | CannotDecodeError:
        try:
            return decode(content(values[row], folder))
        except CannotDecodeError as error:
            return error
        except DataError as error:
            place = f"{records.origin}: {_place(records, column, row)}"
            raise DataError(f"{place}: {error}") from error

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(rows), _AHEAD):
            ahead = rows[start : start + _AHEAD]
            yield from zip(ahead, pool.map(attempt, ahead), strict=True)


def decode_good(
    records: Records, column: str, decode: Decode, rows: Sequence[int]
) -> Iterator[np.ndarray]:
    """Yields what is decoded of the rows that can be; the arguments are as above.

    Raises:
      DataError: no row can be decoded.
    """
    bad: list[tuple[int, CannotDecodeError]] = []
    for row, result in decode_rows(records, column, decode, rows):
        if isinstance(result, CannotDecodeError):
            bad.append((row, result))
        else:
            yield result
    if len(bad) == len(rows):
        raise _none_decoded(records, column, bad)


def contents(records: Records, column: str) -> Iterator[Any]:
    """Yields the content of each row that has one, in order."""
    folder = _folder(records)
    for value in records.column(column):
        try:
            yield content(value, folder)
        except CannotDecodeError:
            continue


def content(value: Any, folder: Path) -> Any:
    """Returns a row as bytes, as an array, or as a struct that holds an array.

    Args:
      value: of the row.
      folder: that paths are relative to.

    Raises:
      CannotDecodeError: there is no such file, or no file at all, or one that only
        says where the data are.
    """
    if isinstance(value, dict) and value.get("array") is None:
        file = value.get("bytes")
        value = value.get("path") if file is None else file
    if isinstance(value, str) and value:
        value = _file(folder / value)
    if isinstance(value, bytes):
        if what := pointer(value[:HEAD]):
            raise CannotDecodeError(what)
        return value
    if isinstance(value, np.ndarray | dict):
        return value
    raise CannotDecodeError(f"{shown(value)} is no file, path or array")


def _file(path: Path) -> bytes:
    """Returns what a file holds.

    Raises:
      CannotDecodeError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotDecodeError(reason) from error


def allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns an array in memory, or where it is large, over an unnamed file.

    Args:
      shape: of the array.
      dtype: of the array.

    Raises:
      DataError: there is no room for the file.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= MEMORY_BYTES:
        return np.empty(shape, dtype)
    folder = tempfile.gettempdir()
    # Asked before, for a write that finds the disk full would kill the process.
    if shutil.disk_usage(folder).free < size:
        raise DataError(
            f"{folder}: no room for {size / 2**30:.1f} GiB of decoded data; set TMPDIR "
            "to a folder that has it, or make the examples smaller with "
            "--config.data.image_size, --config.data.seconds or "
            "--config.data.train_examples"
        )
    with tempfile.TemporaryFile() as file:
        return np.asarray(np.memmap(file, dtype, mode="w+", shape=shape))


def _refuse_or_say(
    records: Records,
    column: str,
    bad: list[tuple[int, CannotDecodeError]],
    bad_files: str,
) -> None:
    """Refuses rows that cannot be decoded, or says that they are left out."""
    if len(bad) == len(records):
        raise _none_decoded(records, column, bad)
    count = f"{len(bad)} of {len(records)} files"
    first = _first(records, column, bad)
    if bad_files == "skip":
        notice(f"{records.origin}: left out {count} that cannot be decoded, {first}")
        return
    raise DataError(
        f"{records.origin}: {count} cannot be decoded, {first}; correct them, or leave "
        "them out with --config.data.bad_files=skip"
    )


def _none_decoded(
    records: Records, column: str, bad: list[tuple[int, CannotDecodeError]]
) -> DataError:
    return DataError(
        f"{records.origin}: none of {len(bad)} files in column `{column}` can be "
        f"decoded, {_first(records, column, bad)}; correct them, or name another "
        "column with --config.data.input_column"
    )


def _first(
    records: Records, column: str, bad: list[tuple[int, CannotDecodeError]]
) -> str:
    row, error = bad[0]
    return f"the first in {_place(records, column, row)}: {error}"


def _place(records: Records, column: str, row: int) -> str:
    """Returns the row's number, with the name of its file where it has one."""
    value = records.column(column)[row]
    path = value.get("path") if isinstance(value, dict) else value
    place = f"row {records.number(row)}"
    return f"{path}, {place}" if isinstance(path, str) else place


def _folder(records: Records) -> Path:
    """Returns the folder that the records' paths are relative to."""
    origin = Path(records.origin)
    return origin if origin.is_dir() else origin.parent
