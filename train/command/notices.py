"""What a run says once on the terminal, beside its bar."""

import sys


def notice(text: str) -> None:
    """Prints one line to standard error."""
    print(f"note: {' '.join(text.split())}", file=sys.stderr)
