"""What an exported folder's reader must be told: how it is loaded, and by what."""

from typing import NamedTuple

# What stands for the folder where nobody knows where it will lie.
HERE = "path/to/this/folder"


class Loading(NamedTuple):
    """How a folder of one format is used."""

    library: str  # as Hugging Face calls it
    packages: tuple[str, ...]  # that it takes
    lines: tuple[str, ...]  # of Python
    notes: tuple[str, ...]  # paragraphs on them
    inputs: str  # what it reads, in words
    files: tuple[tuple[str, str], ...]  # names, and what they hold
