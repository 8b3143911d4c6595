"""Inputs from files, folders and pipes, and answers into them."""

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from ..data.files import read_file
from ..data.folders import AUDIO_ENDINGS, IMAGE_ENDINGS
from ..data.records import Records, object_column
from ..errors import DataError
from ..storage import write_bytes, write_text

# The flag's value for standard input or output.
PIPE = Path("-")


def read_inputs(source: Path, columns: Sequence[str], *, media: bool) -> Records:
    """Returns what is to be answered.

    Args:
      source: a file of rows, a folder of pictures or recordings, or `-`: standard
        input, a line each, an object of JSON or a text.
      columns: that the run reads.
      media: whether it reads pictures or recordings.

    Raises:
      DataError: there is nothing to answer, or it cannot be read.
    """
    if source == PIPE:
        return _from_pipe(sys.stdin.read(), columns)
    if media and source.is_dir():
        return _from_folder(source, columns)
    return read_file(source, "input")


def _from_pipe(text: str, columns: Sequence[str]) -> Records:
    """Returns the rows of standard input."""
    rows: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line) if line.lstrip().startswith("{") else None
        except json.JSONDecodeError as error:
            raise DataError(
                f"standard input:{number}: not JSON: {error.msg}"
            ) from error
        if row is None and len(columns) > 1:
            raise DataError(
                f"standard input:{number}: must be an object of JSON with "
                f"{', '.join(columns)}"
            )
        rows.append({columns[0]: line} if row is None else row)
        if rows[-1].keys() != rows[0].keys():
            raise DataError(
                f"standard input:{number}: must have {', '.join(rows[0])}, as the "
                "first line has"
            )
    if not rows:
        raise DataError("standard input is empty; give a line an input")
    arrays = {name: object_column([row[name] for row in rows]) for name in rows[0]}
    return Records("input", "standard input", arrays)


def _from_folder(folder: Path, columns: Sequence[str]) -> Records:
    """Returns the pictures and recordings of a folder and those below it, by name."""
    endings = IMAGE_ENDINGS | AUDIO_ENDINGS
    files = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("[!.]*")
        if path.suffix.lower() in endings and path.is_file()
    )
    if not files:
        raise DataError(
            f"{folder}: no file that ends in {', '.join(sorted(endings))}; name a "
            "folder of pictures or recordings, or a file of rows"
        )
    paths = np.array(files, object)
    return Records(
        "input", str(folder), {"file": paths} | dict.fromkeys(columns, paths)
    )


def check_output(output: Path, source: Path) -> None:
    """Refuses an output that is a folder, or would replace the input.

    Raises:
      DataError: it is one of these.
    """
    if output == PIPE:
        return
    if output.is_dir():
        raise DataError(f"--output: {output} is a folder; name the file to write")
    if output.exists() and source.exists() and output.samefile(source):
        raise DataError(
            f"--output: {output} is the --input, which would be lost; name another file"
        )


def write_answers(output: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """Writes answers as the ending of the file says; `-` is standard output.

    JSON Lines but for .csv, where a list or an object is JSON, and .parquet, where an
    object is.

    Raises:
      DataError: the file cannot be written.
    """
    lines = [json.dumps(answer, ensure_ascii=False) for answer in answers]
    if output == PIPE:
        print("\n".join(lines))
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        ending = output.suffix.lower()
        if ending == ".csv":
            write_text(output, _as_csv(answers))
        elif ending == ".parquet":
            write_bytes(output, _as_parquet(answers))
        else:
            write_text(output, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise DataError(
            f"--output: cannot write {output}: {error.strerror}; name a file "
            "that can be written"
        ) from error


def _names(answers: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for answer in answers for name in answer))


def _as_csv(answers: Sequence[Mapping[str, Any]]) -> str:
    """Returns answers as CSV with a first line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _names(answers), lineterminator="\n")
    writer.writeheader()
    for answer in answers:
        writer.writerow({name: _flat(value) for name, value in answer.items()})
    return text.getvalue()


def _flat(value: Any) -> Any:
    """Returns a value as a cell of text holds it."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


def _as_parquet(answers: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns answers as a Parquet file."""
    columns = {
        name: [
            _flat(value) if isinstance(value := answer.get(name), dict) else value
            for answer in answers
        ]
        for name in _names(answers)
    }
    out = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue().to_pybytes()
