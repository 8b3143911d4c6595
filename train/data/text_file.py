"""A file as text: UTF-8, or refused by the line that is not."""

import gzip
import zlib
from pathlib import Path

from ..errors import DataError

_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """Returns the file's text; a byte-order mark is no part of it.

    Raises:
      DataError: the file is not UTF-8, in which case the message names the first bad
        line, or it is compressed and broken.
    """
    content = path.read_bytes()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(
                f"{path}: compressed, and broken or cut short: {error}; fetch or "
                "compress it again"
            ) from error
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
