"""The working directory: which run it belongs to, and who may write to it."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from ..command.processes import is_first, wait_for_all
from ..config import Config, as_dict, first_difference, settings
from ..data.examples import Classes
from ..errors import WorkdirError
from ..storage import (
    absolute,
    as_json,
    is_full,
    is_local,
    no_space,
    read_json,
    write_json,
    write_text,
)

# What a run that was killed early may leave in a folder without a configuration.
_OURS = {".lock", "checkpoints"}
# What orbax takes for a pattern, and then finds nothing that it saved.
_PATTERNS = "[]\\"


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
    _refuse_patterns(workdir)
    if not (workdir / "config.json").exists():
        _refuse_what_is_no_run(workdir)
        return None
    held, asked = _held_settings(workdir / "config.json"), settings(as_dict(config))
    # The mesh is not compared: a run goes on on other devices, too.
    held |= {k: v for k, v in asked.items() if k.startswith("mesh.")}
    differs = first_difference(held, asked)
    if differs:
        raise WorkdirError(
            f"--workdir: {workdir} holds a run of another configuration ({differs}); "
            "name another folder"
        )
    result = workdir / "result.json"
    return _read(result) if result.exists() else None


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


def open_workdir(
    workdir: Path, config: Config, classes: Classes, files: Mapping[str, str]
) -> None:
    """Creates the folder and writes what a run starts with.

    That is its configuration, its class names and its task's own files, such as the
    tokenizer: what it takes to use the model in another process.

    Args:
      workdir: the folder.
      config: of the run.
      classes: by number.
      files: of the task and of the loss: name -> content.

    Raises:
      WorkdirError: the folder cannot be written, or holds the state of a run on other
        data.
    """
    if any((workdir / "checkpoints" / "latest").glob("[0-9]*")):
        check_data(workdir, classes, files)
    files = {"classes.json": as_json(list(classes)), **files}
    with _refused_unless_writable(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", as_dict(config))
        for name, content in files.items():
            write_text(workdir / name, content)


def check_data(workdir: Path, classes: Classes, files: Mapping[str, str]) -> None:
    """Refuses data from which something else was made than the run began with.

    Args:
      workdir: of a run.
      classes: by number.
      files: of the task and of the loss, and the digests of the splits.

    Raises:
      WorkdirError: a file that the run has kept is not what it would be now.
    """
    for name, content in {"classes.json": as_json(list(classes)), **files}.items():
        held = workdir / name
        if held.exists() and held.read_text(encoding="utf-8") != content:
            raise WorkdirError(
                f"--workdir: {workdir} holds a run on other data: its {name} is not "
                "that of the data now; name another folder"
            )


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
        if not is_full(error):
            raise
        raise no_space(workdir, "no space is left") from error


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


def _refuse_patterns(workdir: Path) -> None:
    """Refuses a path at which nothing that is saved can be read again."""
    if any(character in str(absolute(workdir)) for character in _PATTERNS):
        raise WorkdirError(
            f"--workdir: {str(absolute(workdir))!r} has a bracket or a backslash, and "
            "checkpoints under such a path cannot be read again; name another folder"
        )


def _refuse_what_is_no_run(workdir: Path) -> None:
    """Refuses a folder that holds something, and no run; hidden files are nothing."""
    if not workdir.exists():
        return
    names = sorted(entry.name for entry in workdir.iterdir())
    others = [n for n in names if n not in _OURS and not n.startswith(".")]
    if others:
        raise WorkdirError(
            f"--workdir: {workdir} holds {others[0]!r} and no run; name a folder that "
            "is empty or new"
        )


def _held_settings(path: Path) -> dict[str, Any]:
    """Returns the configuration in a file, under dotted keys."""
    held = _read(path)
    if not isinstance(held, dict):
        raise WorkdirError(
            f"--workdir: {path} holds no configuration; name another folder"
        )
    return settings(held)


def _read(path: Path) -> Any:
    return read_json(path, flag="--workdir", cure="name another folder")
