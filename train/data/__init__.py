"""Where examples come from: sources by name, each giving records split by split."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from train.config import DataConfig, nearest
from train.data import digits, files, folders, tfds
from train.data.records import Records
from train.errors import ConfigError, DataError

# A source reads each split that the configuration names.
SOURCES: dict[str, Callable[[DataConfig], dict[str, Records]]] = {
    "digits": digits.read,
    "files": files.read,
    "folders": folders.read,
    "tfds": tfds.read,
}
# Fixed, so that every seed of a run trains and validates on the same examples.
_SPLIT_SEED = 0


def read(
    config: DataConfig, *, one_label: bool = False, several_labels: bool = False
) -> dict[str, Records]:
    """Returns the records of `train`, `validation` and, where there is one, `test`.

    Args:
      config: the source, its splits, the share held out for validation where no split
        is named for it, and how many training examples to keep.
      one_label: whether a row has one label. Then none is held out, or left out, with
        all its rows, for what training never has cannot be validated.
      several_labels: whether a row has a list of them, for which the same is so.

    Raises:
      ConfigError: no such source.
      DataError: a split cannot be read, or is left without an example.
    """
    if config.source not in SOURCES:
        raise ConfigError(
            f"`data.source`: no {config.source!r}; {nearest(config.source, SOURCES)}"
        )
    splits = SOURCES[config.source](config)

    def labels(train: Records) -> list[frozenset[str]] | None:
        if not (one_label or several_labels):
            return None
        return _labels(train, config, several=several_labels)

    if "validation" not in splits:
        train = splits["train"]
        splits |= _hold_out(train, config.validation_share, labels(train))
    train = splits["train"]
    if 0 < config.train_examples < len(train):
        kept = _draw(train, config.train_examples, labels(train))
        splits["train"] = train.rows(np.sort(kept))
    return splits


def _labels(
    records: Records, config: DataConfig, *, several: bool
) -> list[frozenset[str]]:
    """Returns the labels of each row as text, whatever they are."""
    rows = []
    for value in records.column(config.label_column):
        if several and isinstance(value, list | tuple | np.ndarray):
            entries = list(value)
        elif several and config.separator and isinstance(value, str):
            entries = value.split(config.separator)
        else:
            entries = [value]
        rows.append(frozenset(str(entry).strip() for entry in entries))
    return rows


def _hold_out(
    train: Records, share: float, labels: list[frozenset[str]] | None
) -> dict[str, Records]:
    """Returns training and validation records parted at random."""
    held = round(share * len(train))
    order = _shuffled(len(train))
    is_held = np.zeros(len(train), bool)
    is_held[order[:held]] = True
    if labels is not None:
        kept = frozenset().union(*(labels[row] for row in order[held:]))
        is_held &= [of_row <= kept for of_row in labels]
    if not 0 < is_held.sum() < len(train):
        keeping = "" if labels is None else ", each label keeping one"
        raise DataError(
            f"{train.origin}: {share:g} of {len(train)} training examples is "
            f"{is_held.sum()}{keeping}; "
            "name a validation split with --config.data.validation, or set "
            "--config.data.validation_share so that both get examples"
        )
    return {
        "train": train.rows(np.flatnonzero(~is_held)),
        "validation": train.rows(np.flatnonzero(is_held), "validation"),
    }


def _draw(
    train: Records, size: int, labels: list[frozenset[str]] | None
) -> list[np.intp]:
    """Returns the rows that are kept for training, one at least of each label."""
    order = _shuffled(len(train))
    kept, rest = list(order[:size]), order[size:]
    if labels is None:
        return kept
    count = Counter(label for row in kept for label in labels[row])
    added = []
    for row in rest:
        if not all(count[label] for label in labels[row]):
            added.append(row)
            count.update(labels[row])
    for row in reversed(kept[:]):
        if len(kept) + len(added) == size:
            break
        if all(count[label] > 1 for label in labels[row]):
            kept.remove(row)
            count.subtract(labels[row])
    if len(kept) + len(added) > size:
        raise DataError(
            f"{train.origin}: `data.train_examples`={size} leaves no room for an "
            f"example of each of {len(count)} labels; raise it"
        )
    return kept + added


def _shuffled(n: int) -> np.ndarray:
    return np.random.default_rng(_SPLIT_SEED).permutation(n)
