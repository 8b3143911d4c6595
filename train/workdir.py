"""The working directory: which run it belongs to, and files written whole."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from train.config import Config, as_dict
from train.data.examples import TaskData
from train.errors import WorkdirError
from train.processes import is_first, wait_for_all


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
    held, asked = _read_json(workdir / "config.json"), as_dict(config)
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

    The system lets go of it when the process ends, however it ends.

    Raises:
      WorkdirError: another run holds it, or it cannot be written.
    """
    if not is_first():
        wait_for_all("workdir")
        yield
        return
    lock = filelock.FileLock(workdir / ".lock")
    with _refused_unless_writable(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise WorkdirError(
                f"--workdir: another run is writing to {workdir}; wait for it, or name "
                "another folder"
            ) from None
    wait_for_all("workdir")
    try:
        yield
    finally:
        lock.release()


def open_workdir(workdir: Path, config: Config, data: TaskData) -> None:
    """Creates the folder and writes what a run starts with.

    That is its configuration, its class names and its task's own files, such as the
    tokenizer: what it takes to use the model in another process.

    Raises:
      WorkdirError: the folder cannot be written.
    """
    with _refused_unless_writable(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", as_dict(config))
        write_json(workdir / "classes.json", list(data.classes))
        for name, content in data.files.items():
            write_text(workdir / name, content)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under its name only once it is whole."""
    _write(path, (json.dumps(value, indent=2) + "\n").encode())


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes arrays as `.npz` under its name only once it is whole."""
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    _write(path, content.getvalue())


def write_text(path: Path, content: str) -> None:
    """Writes text as UTF-8 under its name only once it is whole."""
    _write(path, content.encode())


@contextlib.contextmanager
def _refused_unless_writable(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WorkdirError(
            f"--workdir: cannot write to {workdir}: {error.strerror}; name a folder "
            "that can be written"
        ) from error


def _write(path: Path, content: bytes) -> None:
    if not is_first():
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


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
