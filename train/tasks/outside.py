"""Examples of classes that training does not have: a split, or classes left out."""

import numpy as np

from ..config import DataConfig
from ..data.examples import Examples, Sequences
from ..data.records import Records
from ..errors import ConfigError, DataError
from ..targets import Target
from ..targets.labels import label_values
from .task import Codec

OUTSIDE = "outside"
# Fixed, so that every seed of a run leaves the same classes out.
_SEED = 0
# A network that tells apart needs two classes.
_FEWEST_CLASSES = 2


def check_outside(config: DataConfig, target: Target) -> None:
    """Refuses outside examples where an example has not one of unordered classes.

    Raises:
      ConfigError: it has not, or they are asked for in two ways.
    """
    asked = [key for key in (OUTSIDE, "outside_classes") if getattr(config, key)]
    if len(asked) > 1:
        raise ConfigError(
            "`data.outside`: there are `data.outside_classes` already; leave one out"
        )
    if asked and (not target.one_label or target.ordered):
        raise ConfigError(
            f"`data.{asked[0]}`: examples of this task have not one class of several "
            "that are in no order; leave it out"
        )
    if config.outside and config.source == "digits":
        raise ConfigError(
            "`data.outside`: the digits have no such split; take "
            "`data.outside_classes`, or leave it out"
        )


def leave_classes_out(
    splits: dict[str, Records], config: DataConfig
) -> dict[str, Records]:
    """Returns splits without some classes, whose examples become `outside`.

    They are the ones of the test split, or of validation where there is none.

    Args:
      splits: by name.
      config: with the number of classes, `outside_classes`.

    Raises:
      DataError: two classes are not left, or nothing is outside.
    """
    if not config.outside_classes:
        return splits
    values = {k: label_values(v, config.label_column) for k, v in splits.items()}
    classes = sorted(set(values["train"]))
    if len(classes) - config.outside_classes < _FEWEST_CLASSES:
        raise DataError(
            f"{splits['train'].origin}: `data.outside_classes`={config.outside_classes}"
            f" of {len(classes)} leaves fewer than two to train on; lower it"
        )
    drawn = np.random.default_rng(_SEED).permutation(len(classes))
    left_out = {classes[k] for k in drawn[: config.outside_classes]}
    is_out = {k: np.array([x in left_out for x in v]) for k, v in values.items()}
    source = "test" if "test" in splits else "validation"
    found = {k: v.rows(np.flatnonzero(~is_out[k])) for k, v in splits.items()}
    found[OUTSIDE] = splits[source].rows(np.flatnonzero(is_out[source]), OUTSIDE)
    for split, records in found.items():
        if not len(records):
            raise DataError(
                f"{splits['train'].origin}: with {config.outside_classes} classes left "
                f"out nothing is in {split}; change `data.outside_classes`"
            )
    # A search of settings judges on validation alone.
    return {k: v for k, v in found.items() if k != OUTSIDE or not config.held_back}


def encode_outside(codec: Codec, records: Records, config: DataConfig) -> Examples:
    """Returns outside examples, with labels of their own where classes were left out.

    Args:
      codec: of the inputs.
      records: the split.
      config: says whether they have labels: int32 [n], else [n, 0].
    """
    encoded = codec.encode(records)
    kept = records if encoded.kept is None else records.rows(encoded.kept)
    labels = np.empty((len(encoded.inputs), 0), np.int32)
    if config.outside_classes:
        values = label_values(kept, config.label_column)
        number = {value: k for k, value in enumerate(sorted(set(values)))}
        labels = np.array([number[value] for value in values], np.int32)
    if encoded.lengths is None:
        return Examples(encoded.inputs, labels, numbers=kept.numbers)
    return Sequences(encoded.inputs, labels, encoded.lengths, numbers=kept.numbers)
