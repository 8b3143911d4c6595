"""Where examples come from: sources by name, each giving records split by split."""

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


def read(config: DataConfig, *, one_label: bool = False) -> dict[str, Records]:
    """Returns the records of `train`, `validation` and, where there is one, `test`.

    Args:
      config: the source, its splits, the share held out for validation where no split
        is named for it, and how many training examples to keep.
      one_label: whether a row has one label. Then none is held out with all its rows,
        for what training never has cannot be validated.

    Raises:
      ConfigError: no such source.
      DataError: a split cannot be read, or is left without an example.
    """
    if config.source not in SOURCES:
        raise ConfigError(
            f"`data.source`: no {config.source!r}; {nearest(config.source, SOURCES)}"
        )
    splits = SOURCES[config.source](config)
    if "validation" not in splits:
        train = splits["train"]
        labels = (
            list(map(str, train.column(config.label_column))) if one_label else None
        )
        splits |= _hold_out(train, config.validation_share, labels)
    if 0 < config.train_examples < len(splits["train"]):
        kept = _shuffled(len(splits["train"]))[: config.train_examples]
        splits["train"] = splits["train"].rows(np.sort(kept))
    return splits


def _hold_out(
    train: Records, share: float, labels: list[str] | None
) -> dict[str, Records]:
    """Returns training and validation records parted at random."""
    held = round(share * len(train))
    order = _shuffled(len(train))
    is_held = np.zeros(len(train), bool)
    is_held[order[:held]] = True
    if labels is not None:
        kept = {labels[row] for row in order[held:]}
        is_held &= [label in kept for label in labels]
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


def _shuffled(n: int) -> np.ndarray:
    return np.random.default_rng(_SPLIT_SEED).permutation(n)
