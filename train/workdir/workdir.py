"""The working directory: which run it belongs to, and files written whole."""

import contextlib
import errno
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from etils import epath

from train.command.processes import is_first, wait_for_all
from train.config import Config, as_dict, from_dict
from train.data.examples import TaskData
from train.errors import ConfigError, WorkdirError

# Bytes that a checkpoint takes beside its arrays.
_BESIDE = 2**20
# What a full disk, or a quota that is used up, gives rise to.
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT))


def as_folder(name: str | os.PathLike) -> Path:
    """Returns a folder by its name: a path, or an address such as gs://bucket/run.

    Addresses are read and written through fsspec, which needs gcsfs or s3fs.
    """
    return epath.Path(name)


def is_local(folder: Path) -> bool:
    """Whether a folder lies in the file system."""
    return "://" not in os.fspath(folder)


def absolute(folder: Path) -> Path:
    """Returns the whole path of a folder; an address is one."""
    return folder.absolute() if is_local(folder) else folder


def check_workdir(workdir: Path, config: Config) -> dict[str, Any] | None:
    """Returns the result of a finished run of `config`, or None; writes nothing.

    Args:
      workdir: a folder, which need not exist.
      config: what the caller is about to train.

    Raises:
      WorkdirError: the folder holds another run, or something that is no run.
    """
    if workdir.exists() and not workdir.is_dir():
        raise WorkdirError(f"--workdir: {workdir} is a file; name a folder")
    if not (workdir / "config.json").exists():
        return None
    held, asked = _held_config(workdir / "config.json"), as_dict(config)
    if isinstance(held, dict):
        held["mesh"] = asked["mesh"]  # A run goes on on other devices, too.
    if held != asked:
        raise WorkdirError(
            f"--workdir: {workdir} holds a run of another configuration "
            f"({_first_difference(held, asked)}); name another folder"
        )
    result = workdir / "result.json"
    return _read_json(result) if result.exists() else None


@contextlib.contextmanager
def hold_workdir(workdir: Path) -> Iterator[None]:
    """Creates the folder, and keeps other runs out of it while inside.

    The system lets go of it when the process ends, however it ends. At an address
    there is no such lock.

    Raises:
      WorkdirError: another run holds it, or it cannot be written.
    """
    if not is_first():
        wait_for_all("workdir")
        yield
        return
    with contextlib.ExitStack() as held:
        with _refused_unless_writable(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
            if is_local(workdir):
                held.callback(_lock(workdir).release)
        wait_for_all("workdir")
        with _refused_when_full(workdir):
            yield


def open_workdir(workdir: Path, config: Config, data: TaskData) -> None:
    """Creates the folder and writes what a run starts with.

    That is its configuration, its class names and its task's own files, such as the
    tokenizer: what it takes to use the model in another process.

    Raises:
      WorkdirError: the folder cannot be written, or holds the state of a run on other
        data.
    """
    files = {"classes.json": _as_json(list(data.classes)), **data.files}
    if any((workdir / "checkpoints" / "latest").glob("[0-9]*")):
        _refuse_other_data(workdir, files)
    with _refused_unless_writable(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", as_dict(config))
        for name, content in files.items():
            write_text(workdir / name, content)


def check_space(folder: Path, size: int) -> None:
    """Refuses to begin to write so many bytes where they have no room.

    Raises:
      WorkdirError: they have none.
    """
    if not is_local(folder):
        return
    needed, free = size + _BESIDE, shutil.disk_usage(folder).free
    if free < needed:
        raise _full(
            folder, f"a checkpoint takes {needed:,} bytes, and {free:,} are free"
        )


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under its name only once it is whole."""
    write_text(path, _as_json(value))


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes arrays as `.npz` under its name only once it is whole."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    _write(path, content.getvalue())


def write_text(path: Path, content: str) -> None:
    """Writes text as UTF-8 under its name only once it is whole."""
    _write(path, content.encode())


def _refuse_other_data(workdir: Path, files: dict[str, str]) -> None:
    """Refuses to go on where what was made of the data then is not what is now."""
    for name, content in files.items():
        held = workdir / name
        if held.exists() and held.read_text(encoding="utf-8") != content:
            raise WorkdirError(
                f"--workdir: {workdir} holds a run on other data: its {name} is not "
                "that of the data now; name another folder"
            )


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


@contextlib.contextmanager
def _refused_unless_writable(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkdirError(
            f"--workdir: cannot write to {workdir}: {error.strerror}; name a folder "
            "that can be written"
        ) from error


@contextlib.contextmanager
def _refused_when_full(workdir: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        # Orbax tells of the system's error in words alone.
        if not any(reason in str(error) for reason in _FULL):
            raise
        raise _full(workdir, "no space is left") from error


def _lock(workdir: Path) -> filelock.BaseFileLock:
    """Returns the folder's lock, held."""
    lock = filelock.FileLock(workdir / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise WorkdirError(
            f"--workdir: another run is writing to {workdir}; wait for it, or name "
            "another folder"
        ) from None
    return lock


def _full(folder: Path, what: str) -> WorkdirError:
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


def _held_config(path: Path) -> Any:
    """Returns the configuration in a file; a key that came later has its default."""
    held = _read_json(path)
    try:
        return as_dict(from_dict(held))
    except (AttributeError, ConfigError, TypeError):
        return held


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WorkdirError(
            f"--workdir: {path} cannot be read as JSON; name another folder"
        ) from error


def _first_difference(held: Any, asked: Any, key: str = "") -> str:
    """Returns `loss.delta: 0.1 there, 0.2 asked for`, the first place that differs."""
    if isinstance(held, dict) and isinstance(asked, dict):
        for name in sorted(held.keys() | asked.keys()):
            if held.get(name) != asked.get(name):
                inner = f"{key}.{name}" if key else name
                return _first_difference(held.get(name), asked.get(name), inner)
    return f"{key}: {held!r} there, {asked!r} asked for"
