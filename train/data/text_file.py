"""A file as text: UTF-8, or refused by the line that is not."""

from pathlib import Path

from train.errors import DataError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """Returns the file's text; a byte-order mark is no part of it.

    Raises:
      DataError: the file is not UTF-8; the message names the first bad line.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        kind = " but UTF-16" if content.startswith(_UTF_16) else ""
        raise DataError(
            f"{path}:{line}: not UTF-8 text{kind}; save the file as UTF-8"
        ) from error
    if "\0" in text.partition("\n")[0]:
        raise DataError(
            f"{path}:1: not UTF-8 text: it holds zero bytes; save the file as UTF-8"
        )
    return text
