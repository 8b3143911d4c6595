"""The command `as-softmax`: the trainer's commands by their names.

In a clone each is a module too: `as-softmax predict` is `python -m train.predict`.
"""

import difflib
import runpy
import sys
from importlib.metadata import version
from pathlib import Path

COMMANDS = {
    "init": "looks at data and writes a configuration that fits them",
    "train": "trains as a configuration says",
    "compare": "trains with several losses, and tables and plots them",
    "tune": "chooses each loss's settings by equal searches, then compares them",
    "evaluate": "computes a finished run's metrics on a split",
    "predict": "predicts the rows of a file, or the files of a folder",
    "export": "writes the model as a folder for transformers, jax alone, or ONNX",
    "push": "uploads an exported folder to the Hugging Face hub",
    "serve": "answers over HTTP",
}
USAGE = """usage: as-softmax COMMAND ...

{commands}

as-softmax COMMAND --help says what a command takes."""


def main() -> int:
    """Runs the command that the arguments name, and returns the exit code."""
    name, *arguments = [*sys.argv[1:], ""]
    if name in ("", "-h", "--help"):
        lines = (f"  {command:<10} {what}" for command, what in COMMANDS.items())
        print(USAGE.format(commands="\n".join(lines)))
        return 0 if name else 2
    if name == "--version":
        print(f"as-softmax {version('as_softmax_jax')}")
        return 0
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        names = f"did you mean {close[0]}?" if close else ", ".join(COMMANDS)
        print(f"error: as-softmax has no command {name!r}; {names}", file=sys.stderr)
        return 2
    # What `python -m` does, so that both are one command.
    sys.argv[1:] = arguments[:-1]
    module = package = trainer()
    if name != "train":
        module = f"{package}.{name}"
    try:
        runpy.run_module(module, run_name="__main__")
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == package:
            raise
        cure = "pip install 'as_softmax_jax[train]'"
        print(f"error: the trainer needs {error.name}: {cure}", file=sys.stderr)
        return 2
    return 0


def trainer() -> str:
    """Returns the name of the trainer's package, which lies beside this file."""
    root = Path(__file__).resolve().parent
    if (root / "as_softmax_train").is_dir():
        return "as_softmax_train"
    # Somebody else's `train` may be installed too.
    sys.path.insert(0, str(root))
    return "train"
