"""Configuration files: found, run, overridden and checked."""

import ast
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .overrides import margin_set_by, override
from .sections import Config
from .values import check, keys, nearest, refuse_two_margins

_ROOT = Path(__file__).parents[1]
# Where the trainer is installed, its configurations lie in it; in a clone, beside it.
_OWN = next(p for p in (_ROOT / "configs", _ROOT.parent / "configs") if p.is_dir())
# Its names in a clone and where it is installed: either imports this one.
_TRAINERS = ("train", "as_softmax_train")


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Reads a configuration file, applies overrides and checks the whole.

    Args:
      path: a Python file that defines `get_config()`, or the name of a configuration
        that comes with the trainer, `digits` for instance.
      overrides: flags of the form `--config.loss.delta=0.2`.

    Returns:
      The configuration, every value of its type and in its range.

    Raises:
      ConfigError: the file or a flag is not right; the message says where.
    """
    return with_flags(_run_file(find(path)), overrides)


def with_flags(config: Config, *groups: Iterable[str]) -> Config:
    """Returns a configuration with flags such as `--config.seed=1` applied, checked.

    Args:
      config: to start from.
      *groups: flags; a margin takes the place of the other one where that is of the
        configuration or of an earlier group, and two in one group are refused.

    Raises:
      ConfigError: a flag is not right, or the whole is not.
    """
    for group in map(list, groups):
        for flag in group:
            config = override(config, flag)
        refuse_two_margins({m for flag in group if (m := margin_set_by(flag))})
    check(config)
    return config


def find(path: str | Path) -> Path:
    """Returns the file of a configuration: one's own, or the trainer's of that name.

    Args:
      path: `my.py`, or `configs/digits.py` or `digits` from any folder.
    """
    path = Path(path).expanduser()
    if path.exists():
        return path
    inner = path.relative_to("configs") if path.parts[:1] == ("configs",) else path
    own = _OWN / inner.parent / f"{inner.name.removesuffix('.py')}.py"
    return own if own.is_file() else path


def names_of_own() -> list[str]:
    """Returns the names of the configurations that come with the trainer."""
    found = (path.relative_to(_OWN) for path in sorted(_OWN.rglob("*.py")))
    return [path.with_suffix("").as_posix() for path in found]


def _run_file(path: Path) -> Config:
    """Runs a configuration file and returns what its `get_config()` returns."""
    try:
        source = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--config: cannot read {path}: {error.strerror}; name a Python file, or "
            f"one of the trainer's: {', '.join(names_of_own())}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text; save the file as UTF-8") from error
    try:
        tree = _of_this_trainer(ast.parse(source, str(path)))
        code = compile(tree, str(path), "exec")
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        what = getattr(error, "msg", None) or error
        raise ConfigError(f"{path}:{line}: syntax error: {what}; correct it") from error
    return _call_get_config(code, path)


def _of_this_trainer(tree: ast.Module) -> ast.Module:
    """Lets a file import its sections from the trainer that reads it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            name, *rest = node.module.split(".")
            if name in _TRAINERS:
                node.module = ".".join([__name__.partition(".")[0], *rest])
    return tree


def _call_get_config(code: Any, path: Path) -> Config:
    """Executes the compiled file; an error in it becomes one line with its place."""
    namespace: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(code, namespace)
        get_config = namespace.get("get_config")
        config = get_config() if callable(get_config) else None
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        place = f"{path}:{lines[-1]}" if lines else str(path)
        raise ConfigError(f"{place}: {_reason(error)}") from error
    if not isinstance(config, Config):
        raise ConfigError(
            f"{path}: define get_config() that returns train.config's Config"
        )
    return config


def _reason(error: Exception) -> str:
    """Returns an exception as one line, with the nearest key for an unknown one."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown:
        names = {part for key in keys() for part in key.split(".")}
        return f"unknown key `{unknown[1]}`; {nearest(unknown[1], names)}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
