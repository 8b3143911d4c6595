"""The files that finished cells leave: each the whole result of one run, in JSON.

A cell's file needs neither its run's folder nor its data, so that a clone that holds
the files makes the same tables again.
"""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from ..config import Config, as_dict, first_difference, settings
from ..errors import WorkdirError
from ..storage import read_json, write_text

# What tables and plots read of a result in addition to its metrics.
_NEEDED = (
    *("task", "metric", "config", "records", "margins", "machine", "versions"),
    *("settled_share", "gradient_steps", "seconds"),
)


def read_cell(file: Path, config: Config) -> dict[str, Any] | None:
    """Returns the result in a cell's file, or None where there is no file.

    Args:
      file: the cell's.
      config: what it must be a run of. Every key is compared but those that only say
        where things lie: of `model.pretrained` the last part of the path counts, and of
        `data.path` the same where `data.name` is empty, else nothing. A key that the
        file does not know counts as its default. What plain training does not read
        is not compared.

    Raises:
      WorkdirError: the file is damaged, or of another configuration.
    """
    if not file.exists():
        return None
    result = _read(file)
    differs = first_difference(_compared(result["config"]), _compared(as_dict(config)))
    if differs:
        raise WorkdirError(
            f"--results: {file} is of another configuration ({differs}); remove it to "
            "train it again, or name another folder"
        )
    return result


def keep_cell(file: Path, run: Path) -> None:
    """Writes the result of the finished run in folder `run` as a cell's file.

    Raises:
      WorkdirError: the file cannot be written, or the result not be read.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, (run / "result.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkdirError(
            f"--results: cannot keep {run / 'result.json'} as {file}: "
            f"{error.strerror}; name a folder that can be written"
        ) from error


def _read(file: Path) -> dict[str, Any]:
    """Returns a result that has all that is needed of it."""
    cure = "remove it to train it again"
    result = read_json(file, flag="--results", cure=cure)
    missing = [n for n in _NEEDED if not isinstance(result, dict) or n not in result]
    if missing:
        raise WorkdirError(f"--results: {file} has no {', '.join(missing)}; {cure}")
    return result


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what can change a result, under dotted keys."""
    found = settings(config)
    found["model.pretrained"] = PurePath(found["model.pretrained"]).name
    path = found.pop("data.path")
    if not found["data.name"]:
        found["data.path"] = PurePath(path).name
    # Nothing reads the sections of other modes, so their defaults may become better
    # ones.
    mode = found["training.mode"]
    unread = {"selection."} if mode in ("plain", "compact") else {"compact."}
    unread |= {"compact."} if mode == "plain" else set()
    return {k: v for k, v in found.items() if not k.startswith(tuple(unread))}
