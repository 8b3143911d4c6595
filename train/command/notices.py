"""What a run says once on the terminal, apart from its bar."""

import sys

from .lines import one_line


def notice(text: str) -> None:
    """Prints one line to standard error."""
    print(f"note: {one_line(text)}", file=sys.stderr)
