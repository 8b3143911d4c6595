"""Parts of a Markdown file that a command writes anew, between two comments each."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import WorkdirError
from ..storage import write_text


def check_sections(file: Path, names: Iterable[str]) -> None:
    """Refuses a file that `write_section` could not write later.

    Args:
      file: need not exist, but its folder must.
      names: of the sections.

    Raises:
      WorkdirError: the file is none, or its markers do not come in pairs.
    """
    if file.is_dir() or not file.parent.is_dir():
        what = "is a folder" if file.is_dir() else "lies in no folder"
        raise WorkdirError(f"--markdown: {file} {what}; name a file such as results.md")
    text = _read(file)
    for name in names:
        start, end = _markers(name)
        counts = text.count(start), text.count(end)
        ordered = text.find(start) <= text.find(end)
        if counts not in ((0, 0), (1, 1)) or not ordered:
            raise WorkdirError(
                f"--markdown: {file} must hold {start} and after it {end}, once each "
                f"or not at all; it has {counts[0]} and {counts[1]}; correct the file"
            )


def write_section(file: Path, name: str, content: str) -> None:
    """Replaces what stands between the section's markers; appends a new section.

    Args:
      file: a Markdown file; it is made where there is none.
      name: of the section.
      content: Markdown.

    Raises:
      WorkdirError: as `check_sections` does, or the file cannot be written.
    """
    check_sections(file, [name])
    text, (start, end) = _read(file), _markers(name)
    if start not in text:
        text = f"{text.rstrip()}\n\n{start}\n{end}\n".lstrip()
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    whole = f"{before}{start}\n\n{content.strip()}\n\n{end}{after}"
    try:
        write_text(file, whole)
    except OSError as error:
        raise WorkdirError(
            f"--markdown: cannot write {file}: {error.strerror}; name a file that can "
            "be written"
        ) from error


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}:start -->", f"<!-- {name}:end -->"


def _read(file: Path) -> str:
    if not file.exists():
        return ""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorkdirError(
            f"--markdown: {file} cannot be read as UTF-8 text; name another file"
        ) from error
