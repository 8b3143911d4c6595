"""What a run says once on the terminal, apart from its bar."""

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar

from .lines import one_line

_SAID: ContextVar[set[str] | None] = ContextVar("said", default=None)
_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


def notice(text: str) -> None:
    """Prints one line to standard error; see `each_once` and `silence`."""
    if _SILENT.get():
        return
    line, said = f"note: {one_line(text)}", _SAID.get()
    if said is not None:
        if line in said:
            return
        said.add(line)
    print(line, file=sys.stderr)


@contextlib.contextmanager
def each_once() -> Iterator[None]:
    """Keeps runs on the same data from saying the same again."""
    token = _SAID.set(set())
    try:
        yield
    finally:
        _SAID.reset(token)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keeps what would be said of each of many requests from being said."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)
