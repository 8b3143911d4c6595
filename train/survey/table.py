"""What the columns of a table are: the label, the input, and so the task."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..data.folders import AUDIO_ENDINGS, IMAGE_ENDINGS
from ..data.label_columns import is_flag
from ..data.records import Records
from ..errors import DataError
from ..tasks.cells import is_blank

# So many rows tell what a column is.
_LOOKED_AT = 5000
_ENDINGS = {"image": IMAGE_ENDINGS, "audio": AUDIO_ENDINGS}
# Names of labels, the likeliest first.
_LABELS = (
    *("label", "labels", "target", "class", "category", "intent", "tags", "ner_tags"),
    *("tag", "sentiment", "emotion", "emotions", "topics", "topic", "genre", "genres"),
    *("species", "variety", "diagnosis", "outcome", "survived", "income", "y"),
)
_LISTS = ("labels", "tags", "ner_tags", "emotions", "topics", "genres")
# Names of texts, the likeliest first.
_TEXTS = (
    *("text", "sentence", "utterance", "comment", "review", "tweet", "message"),
    *("content", "body", "question", "description", "title"),
)
_SEPARATORS = ("|", ";", ",")
# A text of so many words in the mean is prose, beside few columns even of so many; one
# of fewer is a name.
_NAME_WORDS, _PROSE_WORDS, _FEW_COLUMNS = 2.0, 8.0, 3
# A column of labels has so few different ones, against its rows.
_LABEL_SHARE = 0.5


class Table(NamedTuple):
    """What a table is for."""

    task: str
    label: str
    input: str  # its column; of a table of features empty
    separator: str  # of several labels in a text; empty: they are lists, or one
    tags: str  # bio or flat; of tokens
    mixed: bool  # has blanks or texts among its features
    flags: tuple[str, ...] = ()  # labels that have a column of 0 and 1 each


def read_table(
    records: Records, *, task: str = "", label: str = "", input_column: str = ""
) -> Table:
    """Returns what a table is for.

    Args:
      records: the training split.
      task: where it is known.
      label: its column, where it is known.
      input_column: likewise.

    Raises:
      DataError: no column can be the label, or its values are none of classes.
    """
    columns = {name: _values(records, name) for name in records.columns}
    flags = _flags(columns, records, task=task, label=label)
    if flags:
        rest = {name: v for name, v in columns.items() if name not in flags}
        chosen = input_column or _input("multi_label", rest)
        return Table("multi_label", "labels", chosen, "", "bio", False, flags)
    for name in (label, input_column):
        if name:
            records.column(name)
    label = label or _label(columns, records)
    rest = {name: v for name, v in columns.items() if name != label and name}
    if not rest:
        raise DataError(f"{records.origin}: no column but the label `{label}`")
    found = task or _task(columns[label], label, rest)
    if found in ("image", "audio", "features"):
        _refuse_numbers(columns[label], label, records)
    chosen = input_column or _input(found, rest)
    separator = ""
    if found == "multi_label":
        separator = _separator(columns[label])
    mixed = found == "features" and any(map(_is_mixed, rest.values()))
    tags = "bio"
    if found == "tokens":
        tags = "bio" if _is_bio(columns[label]) else "flat"
    return Table(found, label, chosen, separator, tags, mixed)


def _flags(
    columns: dict[str, list[Any]], records: Records, *, task: str, label: str
) -> tuple[str, ...]:
    """Returns the classes that have a column of 0 and 1 each; none where it is not so.

    Args:
      columns: the values of each.
      records: the training split.
      task: where it is known.
      label: one column, or some, parted by commas, where they are known.
    """
    if task not in ("", "multi_label") or label in columns:
        return ()
    if label:
        names = tuple(label.split(","))
        for name in names:
            records.column(name)
        return names if len(names) > 1 else ()
    flags = [n for n, v in columns.items() if all(map(is_flag, v)) and len(set(v)) > 1]
    rest = {name: values for name, values in columns.items() if name not in flags}
    named = any(name.lower() in _LABELS for name in rest)
    texts = any(_is_text(name, rest) for name in rest)
    return tuple(flags) if len(flags) > 1 and texts and not named else ()


def _values(records: Records, name: str) -> list[Any]:
    """Returns the first values of a column that are there."""
    column = records.columns[name][:_LOOKED_AT]
    if column.ndim > 2:  # images in an array
        return list(column)
    values = column.tolist()
    return [value for value in values if not is_blank(value)]


def _label(columns: dict[str, list[Any]], records: Records) -> str:
    """Returns the column that is likely the label: by its name, or the last."""
    lower = {name.lower(): name for name in reversed(columns)}
    for name in _LABELS:
        if name in lower:
            return lower[name]
    for name in reversed(columns):
        values = columns[name]
        if values and _is_label(values):
            return name
    there = ", ".join(f"`{name}`" for name in list(columns)[:8])
    raise DataError(
        f"{records.origin}: which column is the label? It has {there}; name it with "
        "--label"
    )


def _is_label(values: Sequence[Any]) -> bool:
    """Returns whether a column could be of classes."""
    if _is_list(values):
        return True
    distinct = len(set(map(str, values)))
    few = 1 < distinct <= max(_LABEL_SHARE * len(values), 2)
    return few and not any(isinstance(v, float) and v % 1 for v in values)


def _task(labels: list[Any], label: str, rest: dict[str, list[Any]]) -> str:
    """Returns the task of a table with such labels and other columns."""
    lists = [name for name, values in rest.items() if _is_list(values)]
    if _is_list(labels):
        same = [n for n in lists if _same_lengths(rest[n], labels)]
        return "tokens" if same else "multi_label"
    for values in rest.values():
        for task in _ENDINGS:
            if _is_media(values, task):
                return task
    if any(_is_text(name, rest) for name in rest):
        several = _separator(labels) and label.lower() in _LISTS
        return "multi_label" if several else "text"
    return "features"


def _input(task: str, rest: dict[str, list[Any]]) -> str:
    """Returns the column that the task reads; of features none."""
    if task == "features":
        return ""
    if task == "tokens":
        return next((n for n, values in rest.items() if _is_list(values)), "tokens")
    if task in _ENDINGS:
        return next((n for n, values in rest.items() if _is_media(values, task)), task)
    lower = {name.lower(): name for name in rest}
    for name in _TEXTS:
        if name in lower:
            return lower[name]
    return max(rest, key=lambda name: _mean_words(rest[name]))


def _is_list(values: Sequence[Any]) -> bool:
    kinds = (list, tuple, np.ndarray)
    return bool(values) and all(isinstance(v, kinds) for v in values[:50])


def _same_lengths(a: Sequence[Any], b: Sequence[Any]) -> bool:
    pairs = list(zip(a, b, strict=False))[:50]
    return all(len(x) == len(y) for x, y in pairs)


def _ending(value: Any) -> str:
    found = re.search(r"\.[A-Za-z0-9]+$", value) if isinstance(value, str) else None
    return found[0].lower() if found else ""


def _is_media(values: Sequence[Any], task: str) -> bool:
    """Returns whether values are images, or paths or contents of such files."""
    value = values[0] if values else None
    if isinstance(value, np.ndarray) and value.ndim > 1:
        return task == "image"
    if isinstance(value, str):
        return {_ending(v) for v in values[:50]} <= _ENDINGS[task]
    if not isinstance(value, dict) or "bytes" not in value:
        return False
    content = value["bytes"] or b""
    heads = (b"RIFF", b"fLaC", b"OggS", b"ID3")
    sound = content.startswith(heads) and content[8:12] != b"WEBP"
    return sound == (task == "audio")


def _mean_words(values: Sequence[Any]) -> float:
    texts = [v for v in values[:500] if isinstance(v, str)]
    return float(np.mean([len(text.split()) for text in texts])) if texts else 0.0


def _is_text(name: str, rest: dict[str, list[Any]]) -> bool:
    """Returns whether a column is a text to be read, not a name among features."""
    words = _mean_words(rest[name])
    if name.lower() in _TEXTS or len(rest) <= _FEW_COLUMNS:
        return words >= _NAME_WORDS
    return words >= _PROSE_WORDS


def _separator(labels: Sequence[Any]) -> str:
    """Returns what parts several labels in a text; empty where nothing does."""
    texts = [value for value in labels if isinstance(value, str)]
    for separator in _SEPARATORS:
        parts = [part for text in texts for part in text.split(separator)]
        if len(parts) > 1.1 * len(texts) and len(set(parts)) < len(set(texts)):
            return separator
    return ""


def _is_bio(tags: Sequence[Any]) -> bool:
    """Returns whether tags are B-X, I-X and O."""
    return all(
        re.fullmatch(r"O|[BI]-.+", str(tag)) for row in tags[:500] for tag in row
    )


def _is_mixed(values: Sequence[Any]) -> bool:
    return any(not _is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return "_" not in value
    return isinstance(value, int | float | np.number)


def _refuse_numbers(labels: Sequence[Any], label: str, records: Records) -> None:
    """Refuses a label that is a quantity."""
    distinct = len(set(map(str, labels)))
    if distinct > max(_LABEL_SHARE * len(labels), 2) and all(map(_is_number, labels)):
        raise DataError(
            f"{records.origin}: `{label}` has {distinct} different numbers in "
            f"{len(labels)} rows, which is a quantity, and classes are predicted here; "
            "name a column of classes with --label"
        )
