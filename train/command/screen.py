"""The screen: no reader that goes away, and no narrow encoding, ends a command."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class _Screen:
    """A text stream whose reader may go away: the rest is then written nowhere."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes text, or loses it where nobody reads any more."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _let_go(self) -> None:
        # What the stream still holds must go somewhere, at the latest when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def forgiving_screen() -> Iterator[None]:
    """Makes standard output and error such streams while inside.

    A character that their encoding lacks is shown as a question mark.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.stdout, sys.stderr = _Screen(sys.stdout), _Screen(sys.stderr)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
