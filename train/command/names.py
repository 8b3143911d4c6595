"""How a user calls the commands."""

import sys
from pathlib import Path


def command_line(command: str) -> str:
    """Returns `as-softmax predict`, or `python -m train.predict` where that was called.

    Args:
      command: `predict` for instance.
    """
    in_clone = __name__.partition(".")[0] == "train"
    if not in_clone or Path(sys.argv[0]).stem == "as-softmax":
        return f"as-softmax {command}"
    return "python -m train" if command == "train" else f"python -m train.{command}"
