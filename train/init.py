"""Looks at data, says what they are, and writes a configuration that fits them.

python -m train.init FOLDER_OR_FILE
"""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .command.cli import make_parser, run, user_path
from .command.names import command_line
from .errors import ConfigError, WorkdirError


def main(arguments: Sequence[str] | None = None) -> int:
    """Looks, writes, says how to train, and returns the process's exit code."""
    parser = make_parser(
        "init", "Looks at data and writes a configuration that fits them."
    )
    add = parser.add_argument
    add("path", type=user_path, help="a file, or a folder of files or of class folders")
    add(
        "--task",
        default="",
        help="text, multi_label, tokens, image, audio, features, or ordinal_text, "
        "ordinal_image, ordinal_audio, ordinal_features where the classes are in order",
    )
    add(
        "--label",
        default="",
        metavar="COLUMN",
        help="the column to predict, or a,b,c with 0 and 1 a class",
    )
    add("--input", default="", metavar="COLUMN", help="the column to predict it from")
    add(
        "--pretrained",
        default="",
        metavar="ENCODER",
        help="of texts, pictures or recordings: a folder, or the name of one on the "
        "Hugging Face hub",
    )
    add("--output", type=user_path, metavar="FILE", help="default: NAME_OF_DATA.py")
    add("--force", action="store_true", help="write over a file that is there")
    flags = parser.parse_args(arguments)
    return run(lambda: _init(flags), interrupted="nothing was written")


def _init(flags: argparse.Namespace) -> int:
    """Proposes and writes."""
    from .survey.proposal import Given, as_file, propose

    output = flags.output or Path(f"{_name(flags.path)}.py")
    if output.exists() and not flags.force:
        raise ConfigError(f"--output: {output} is there; name another file, or --force")
    given = Given(flags.task, flags.label, flags.input, flags.pretrained)
    proposal = propose(flags.path, given)
    workdir = f"runs/{output.stem}"
    arguments = shlex.join(["--config", str(output), "--workdir", workdir])
    command = f"{command_line('train')} {arguments}"
    about = f"{flags.path.name}, as `{command_line('init')}` found it.\n\n{command}\n"
    text = as_file(proposal.config, about.replace("\\", "/"))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkdirError(
            f"--output: cannot write {output}: {error.strerror}; name another file"
        ) from error
    for line in proposal.saw:
        print(line)
    print(f"\nwrote {output}; look it over, and train:\n  {command}")
    return 0


def _name(path: Path) -> str:
    """Returns a name for a configuration: that of the data, as a module may have it."""
    stem = path.expanduser().absolute().name.split(".")[0]
    name = re.sub(r"\W+", "_", stem).strip("_").lower() or "data"
    return f"data_{name}" if name[0].isdigit() else name


if __name__ == "__main__":
    sys.exit(main())
