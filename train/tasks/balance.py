"""How often classes are trained on, and what their losses count."""

import numpy as np

from as_softmax_jax.losses import effective_number_weights

from ..command.lines import escaped
from ..config import DataConfig
from ..data.examples import Classes
from ..data.names import shown
from ..data.records import Records
from ..errors import ConfigError, DataError
from ..targets import Target
from ..targets.labels import class_numbers

# The power of a class's count by which its share, or its weight, falls.
_POWERS = {"classes": 1.0, "balanced": 1.0, "sqrt": 0.5}
# Fixed, so that every seed of a run trains on the same examples.
_THINNING_SEED = 0


def check_balance(config: DataConfig, target: Target) -> None:
    """Refuses what is by the class of an example where it has not one.

    Raises:
      ConfigError: an example has several labels, or none that somebody gave.
    """
    by_class = ("balance", "class_weights", "class_stages", "imbalance")
    for key in (*by_class, "wrong_labels"):
        given = getattr(config, key) != getattr(DataConfig, key)
        if given and not target.one_label:
            raise ConfigError(
                f"`data.{key}`: an example of this task has not one class; leave it out"
            )
    if config.class_weights_from and not config.class_weights:
        raise ConfigError(
            "`data.class_weights_from`: no `data.class_weights` are given to begin "
            "then; give them, or leave it out"
        )
    if config.class_weights_from and config.weight_column:
        raise ConfigError(
            "`data.class_weights_from`: weights of a column count from the start, and "
            "are a factor of the classes'; leave one of them out"
        )
    if config.weight_column and not target.labels_are_given:
        raise ConfigError(
            "`data.weight_column`: nothing is labelled in this task; leave it out"
        )


def thin(train: Records, config: DataConfig, classes: Classes) -> Records:
    """Returns training records with a long tail of classes; factor 1: all of them.

    Class k of C keeps n / f^(k / (C - 1)) examples at most, and one at least, n being
    what the class with the most has (Cui et al., 2019).

    Args:
      train: the training split.
      config: with the factor f, `imbalance`.
      classes: by number.
    """
    if config.imbalance == 1.0 or len(classes) == 1:
        return train
    labels = class_numbers(train, config.label_column, classes)
    most, last = np.bincount(labels).max(), len(classes) - 1
    left = most * config.imbalance ** (-np.arange(len(classes)) / last)
    left = np.maximum(np.round(left), 1).astype(int)
    order = np.random.default_rng(_THINNING_SEED).permutation(len(labels))
    kept = [order[labels[order] == k][:count] for k, count in enumerate(left)]
    return train.rows(np.sort(np.concatenate(kept)))


def sampling_shares(
    balance: str, labels: np.ndarray, num_classes: int
) -> np.ndarray | None:
    """Returns each example's share in what an epoch draws; None: all come once.

    Args:
      balance: as `data.balance`.
      labels: of the training split, class indices [n].
      num_classes: of the task.
    """
    if not balance:
        return None
    shares = _inverse_counts(labels, num_classes, _POWERS[balance])
    return shares / shares.sum()


def arrival_epochs(
    stages: int, labels: np.ndarray, num_classes: int, *, epochs: int
) -> np.ndarray | None:
    """Returns the epoch from which on each example is there, int [n]; None: the first.

    Args:
      stages: as `data.class_stages`.
      labels: of the training split, class indices [n].
      num_classes: of the task.
      epochs: of training.
    """
    if not stages:
        return None
    stage = labels.astype(np.int64) * stages // num_classes
    return -(-stage * epochs // stages)


def loss_weights(
    config: DataConfig, records: Records, labels: np.ndarray, num_classes: int
) -> np.ndarray | None:
    """Returns what each training example's loss counts, float32 [n]; None: 1 each.

    Weights of classes have a mean of 1 over the examples; a column counts as it is.

    Args:
      config: with `class_weights` and `weight_column`.
      records: the training split.
      labels: of it, class indices [n].
      num_classes: of the task.

    Raises:
      DataError: a weight is none.
    """
    if not (config.weight_column or config.class_weights):
        return None
    weights = np.ones(len(labels))
    if config.weight_column:
        weights = _column(records, config.weight_column)
    if config.class_weights:
        of_class = _class_weights(config.class_weights, labels, num_classes)
        weights = weights * of_class / of_class.mean()
    return weights.astype(np.float32)


def _class_weights(kind: str, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns for each example its class's weight, up to a factor."""
    if kind != "effective":
        return _inverse_counts(labels, num_classes, _POWERS[kind])
    counts = np.bincount(labels, minlength=num_classes)
    return np.asarray(effective_number_weights(counts), np.float64)[labels]


def _column(records: Records, name: str) -> np.ndarray:
    """Returns a column of weights, float64; refuses what is no weight."""
    place = f"{records.origin}: weight column `{escaped(name)}`"
    cure = "a weight is a finite number of 0 or more; correct it"
    weights = np.empty(len(records))
    for row, value in enumerate(records.column(name)):
        try:
            weights[row] = float(value)
        except (TypeError, ValueError):
            weights[row] = np.nan
        if not 0 <= weights[row] < np.inf:
            raise DataError(
                f"{place} has {shown(value)} in row {records.number(row)}; {cure}"
            )
    if not weights.any():
        raise DataError(f"{place} is 0 in every row, so nothing would be learned")
    return weights


def _inverse_counts(labels: np.ndarray, num_classes: int, power: float) -> np.ndarray:
    """Returns for each example its class's count to minus a power."""
    counts = np.bincount(labels, minlength=num_classes)
    return np.maximum(counts, 1)[labels] ** -power
