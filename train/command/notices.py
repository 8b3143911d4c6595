"""What a run says once on the terminal, apart from its bar."""

import sys


def notice(text: str) -> None:
    """Prints one line to standard error."""
    print(f"note: {' '.join(text.split())}", file=sys.stderr)
