"""CSV and TSV: a first line that names the columns, and values that stay text."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np

from ..command.lines import escaped
from ..errors import DataError
from .names import shown
from .records import object_column
from .text_file import read_text

# What else parts values, in words.
_OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_tab_separated(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a TSV file, as text; see `read_comma_separated`."""
    return read_comma_separated(path, separator="\t")


def read_comma_separated(path: Path, separator: str = ",") -> dict[str, np.ndarray]:
    """Returns the columns of a CSV file, as text.

    Args:
      path: of the file.
      separator: of the values.

    Raises:
      DataError: the first line names no columns, or a row is not in order; the message
        has the line on which the row begins.
    """
    text = read_text(path)
    # csv.reader has one limit of its own for all files.
    csv.field_size_limit(2**31 - 1)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    rows: list[list[str]] = []
    begins = 1  # the line on which the row that is read begins
    try:
        names = next(lines, [])
        if text:
            _check_header(names, f"{path}:1", separator)
        begins = lines.line_num + 1
        for row in lines:
            if row and len(row) != len(names):
                first = "" if rows else f"; the first line names {shown(names)}"
                raise DataError(
                    f"{path}:{begins}: {len(row)} values for {len(names)} "
                    f"columns{first}; quote values that hold a "
                    f"{'comma' if separator == ',' else 'tab'}"
                )
            rows += [row] if row else []
            begins = lines.line_num + 1
    except csv.Error as error:
        raise _not_csv(path, text, begins, lines.line_num, error) from error
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return {
        name: object_column(list(column))
        for name, column in zip(names, columns, strict=True)
    }


def _check_header(names: list[str], place: str, separator: str) -> None:
    """Refuses a first line that names no columns."""
    if not any(name.strip() for name in names):
        raise DataError(
            f"{place}: the first line is empty; it must name the columns, parted by "
            "commas"
        )
    if names[0].lower().startswith("sep="):
        raise DataError(
            f"{place}: {shown(names[0])} is for spreadsheets; remove the line, and "
            "part values by commas"
        )
    if len(names) == 1 and separator == ",":
        for other, kind in _OTHERS.items():
            if other in names[0]:
                tabs = ", or end its name in .tsv" if other == "\t" else ""
                raise DataError(
                    f"{place}: the file has one column, {shown(names[0])}; it seems to "
                    f"be parted by {kind} ({other!r}): part the values by commas{tabs}"
                )
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise DataError(
            f"{place}: two columns have the name `{escaped(twice[0])}`; rename one"
        )


def _not_csv(
    path: Path, text: str, begins: int, line: int, error: csv.Error
) -> DataError:
    """Returns the refusal of a row; a quote that never closes takes all after it."""
    at_end = "unexpected end" in str(error)
    if line == begins and not at_end:
        return DataError(f"{path}:{line}: not CSV: {error}")
    opened = _open_quote(text, begins) if at_end else begins
    return DataError(
        f"{path}:{opened}: not CSV: a quote opens here and is not closed as it must be "
        f"({error}); close it, and write a quote inside quotes twice"
    )


def _open_quote(text: str, begins: int) -> int:
    """Returns the line on which the last quote opens, from a row's first line on."""
    opened, inside = begins, False
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if number < begins:
            continue
        # Two quotes beside each other are an empty value, or one inside quotes.
        for _ in range(line.replace('""', "").count('"')):
            inside = not inside
            opened = number if inside else opened
    return opened
