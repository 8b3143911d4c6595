"""Files and folders, local or at an address: found, read, and written whole."""

import errno
import io
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from .command.processes import is_first
from .errors import WorkdirError, reason

# Bytes that a checkpoint takes with its arrays.
_BESIDE = 2**20
# What a full disk, or a quota that is used up, gives rise to.
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


def as_folder(name: str | os.PathLike) -> Path:
    """Returns a folder by its name: a path, or an address such as gs://bucket/run.

    A `~` that the shell left alone is the user's folder.
    Addresses are read and written through fsspec, which needs gcsfs or s3fs.
    """
    return epath.Path(os.path.expanduser(name))


def is_local(folder: Path) -> bool:
    """Whether a folder lies in the file system."""
    return "://" not in os.fspath(folder)


def absolute(folder: Path) -> Path:
    """Returns the whole path of a folder; an address is one."""
    return folder.absolute() if is_local(folder) else folder


def read_json(path: Path, *, flag: str, cure: str) -> Any:
    """Returns what a JSON file holds.

    Args:
      path: of the file.
      flag: the flag that named it or its folder, for the refusal.
      cure: what to do about a file that cannot be read.

    Raises:
      FileNotFoundError: there is no such file.
      WorkdirError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise WorkdirError(
            f"{flag}: {path} cannot be read as JSON ({reason(error)}); {cure}"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under its name only once it is whole."""
    write_text(path, as_json(value))


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes arrays as `.npz` under its name only once it is whole."""
    _write(path, as_npz(arrays, compressed=True))


def as_npz(arrays: Mapping[str, np.ndarray], *, compressed: bool) -> bytes:
    """Returns the content of an `.npz` file of arrays by name."""
    content, named = io.BytesIO(), dict[str, Any](arrays)
    # No `allow_pickle`: the oldest NumPy takes it for the name of an array.
    (np.savez_compressed if compressed else np.savez)(content, **named)
    return content.getvalue()


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under its name only once it is whole."""
    _write(path, content)


def write_text(path: Path, content: str) -> None:
    """Writes text as UTF-8 under its name only once it is whole."""
    _write(path, content.encode())


def as_json(value: Any) -> str:
    """Returns a value as the text of a JSON file."""
    return json.dumps(value, indent=2) + "\n"


def finite(value: Any) -> Any:
    """Returns a figure as JSON can hold it: None for what is not a number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_space(folder: Path, size: int) -> None:
    """Refuses to begin to write so many bytes where they have no room.

    Raises:
      WorkdirError: they have none.
    """
    if not is_local(folder):
        return
    needed, free = size + _BESIDE, shutil.disk_usage(folder).free
    if free < needed:
        raise no_space(
            folder, f"a checkpoint takes {needed:,} bytes, and {free:,} are free"
        )


def is_full(error: Exception) -> bool:
    """Whether an error comes of a full disk; orbax tells of it in words alone."""
    return any(cause in str(error) for cause in _FULL)


def no_space(folder: Path, what: str) -> WorkdirError:
    """Returns the refusal to go on where a disk is full."""
    return WorkdirError(
        f"--workdir: {folder}: {what}; what was saved before is whole. Make room, and "
        "give the same command again to go on from there"
    )


def _write(path: Path, content: bytes) -> None:
    if not is_first():
        return
    if not is_local(path):
        path.write_bytes(content)  # An object is there once it is whole.
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
