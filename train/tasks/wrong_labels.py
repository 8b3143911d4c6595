"""Wrong labels put into training on purpose, to see what a loss makes of them."""

import dataclasses

import numpy as np

from ..config import DataConfig
from ..data.examples import Classes
from ..data.records import Records, object_column
from ..targets.labels import class_numbers

# Fixed, so that every seed of a run trains on the same labels.
_SEED = 0


def mislabel(train: Records, config: DataConfig, classes: Classes) -> Records:
    """Returns training records of which a share has the label of another class.

    Args:
      train: the training split.
      config: with the share, `wrong_labels`, of the examples; each gets any of the
        other classes, all alike often.
      classes: by number.
    """
    if not config.wrong_labels or len(classes) == 1:
        return train
    labels = class_numbers(train, config.label_column, classes)
    random = np.random.default_rng(_SEED)
    chosen = random.permutation(len(labels))[: round(config.wrong_labels * len(labels))]
    labels[chosen] += random.integers(1, len(classes), len(chosen))
    given = [classes[k] for k in labels % len(classes)]
    # A file of text alone, such as CSV, has whole numbers as text.
    column = object_column([str(v) for v in given] if train.untyped else given)
    columns = train.columns | {config.label_column: column}
    return dataclasses.replace(train, columns=columns)
