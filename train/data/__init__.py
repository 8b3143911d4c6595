"""Where examples come from: sources by name, each giving records split by split."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from ..config import DataConfig, nearest
from ..errors import ConfigError, DataError
from . import digits, files, folders, hugging_face, tfds
from .label_columns import gather_labels
from .records import Records


def _refuse_memory(config: DataConfig) -> dict[str, Records]:
    raise DataError(
        "`data.source`: the data of this run were in memory; give them in Python "
        "again, or name files with --config.data.source=files and --config.data.path"
    )


# A source reads each split that the configuration names.
SOURCES: dict[str, Callable[[DataConfig], dict[str, Records]]] = {
    "digits": digits.read,
    "files": files.read,
    "folders": folders.read,
    "tfds": tfds.read,
    "huggingface": hugging_face.read,
    "memory": _refuse_memory,
}
# Fixed, so that every seed of a run trains and validates on the same examples.
_SPLIT_SEED = 0
# One for testing, one for validation, and one to train on.
_FEWEST_FOLDS = 3


def read(
    config: DataConfig,
    given: Mapping[str, Records] | None = None,
    *,
    one_label: bool = False,
    several_labels: bool = False,
) -> dict[str, Records]:
    """Returns the records of `train`, `validation` and, where there are, other splits.

    Args:
      config: the source, its splits, the share held out for validation where no split
        is named for it, and how many training examples to keep.
      given: what the source is asked for else.
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
    if config.folds:
        _check_folds(config)
        config = dataclasses.replace(config, validation="", test="")
    splits = dict(given) if given else SOURCES[config.source](config)
    if config.label_columns:
        if not several_labels:
            raise ConfigError(
                "`data.label_columns`: an example has one label here; set `task` to "
                "multi_label, or leave it out"
            )
        splits = {k: gather_labels(records, config) for k, records in splits.items()}

    def labels(train: Records) -> list[frozenset[str]] | None:
        if not (one_label or several_labels):
            return None
        return _labels(train, config, several=several_labels)

    if config.folds:
        outside = {k: v for k, v in splits.items() if k == "outside"}
        splits = _part(splits["train"], config, labels(splits["train"])) | outside
    elif "validation" not in splits:
        train = splits["train"]
        splits |= _hold_out(train, config.validation_share, labels(train))
    if config.held_back:
        splits = {k: v for k, v in splits.items() if k not in ("test", "outside")}
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


def _check_folds(config: DataConfig) -> None:
    """Refuses folds that leave nothing to train on, or a fold that is none."""
    if config.folds < _FEWEST_FOLDS:
        raise ConfigError(
            f"`data.folds`: of {config.folds} one is the test split, one validation, "
            "and none is left for training; give three or more"
        )
    if config.fold >= config.folds:
        raise ConfigError(
            f"`data.fold`: no fold {config.fold} of {config.folds}; they are 0 to "
            f"{config.folds - 1}"
        )


def _part(
    train: Records, config: DataConfig, labels: list[frozenset[str]] | None
) -> dict[str, Records]:
    """Returns the splits of one fold, all out of the training records.

    The rows of each label, in random order, go to the folds in turn; a row whose label
    training would lack stays there.
    """
    order = _shuffled(len(train))
    if labels is not None:
        # Stable, so that rows of a label stay in random order.
        order = order[np.argsort([min(labels[r]) for r in order], kind="stable")]
    fold = np.empty(len(train), np.intp)
    fold[order] = np.arange(len(train)) % config.folds
    own = {"test": config.fold, "validation": (config.fold + 1) % config.folds}
    held = {split: fold == number for split, number in own.items()}
    if labels is not None:
        rest = np.flatnonzero(~(held["test"] | held["validation"]))
        kept = frozenset().union(*(labels[row] for row in rest))
        known = np.array([of_row <= kept for of_row in labels])
        held = {split: rows & known for split, rows in held.items()}
    held["train"] = ~(held["test"] | held["validation"])
    for split, rows in held.items():
        if not rows.any():
            raise DataError(
                f"{train.origin}: `data.folds`={config.folds} of {len(train)} examples "
                f"leaves none for {split}; part them in fewer"
            )
    return {
        split: train.rows(np.flatnonzero(held[split]), split)
        for split in ("train", "validation", "test")
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
