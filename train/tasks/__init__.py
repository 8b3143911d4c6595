"""The kinds of task, each a file found by its name in the configuration."""

from collections.abc import Mapping

from ..config import Config, nearest
from ..data.examples import TaskData
from ..data.pipeline import fit_buckets
from ..data.records import Records
from ..errors import ConfigError
from ..targets import Target
from . import (
    audio,
    features,
    image,
    multi_label,
    next_token,
    ordinal,
    text,
    tokens,
)
from .balance import check_balance, thin
from .outside import OUTSIDE, check_outside, encode_outside, leave_classes_out
from .task import Task, encode_labelled, model_name, read_records
from .wrong_labels import mislabel

TASKS: dict[str, Task] = {
    "text": text.TASK,
    "multi_label": multi_label.TASK,
    "tokens": tokens.TASK,
    "next_token": next_token.TASK,
    "image": image.TASK,
    "audio": audio.TASK,
    "features": features.TASK,
    **ordinal.TASKS,
}


def find_task(name: str) -> Task:
    """Returns the task of that name."""
    if name not in TASKS:
        raise ConfigError(f"`task`: no {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]


def check_order(config: Config, target: Target) -> None:
    """Refuses an order of classes where nothing reads it."""
    if config.data.class_order and not target.ordered:
        raise ConfigError(
            f"`data.class_order`: the classes of {config.task} are in no order; take "
            "one of the ordinal tasks, such as ordinal_text, or leave it out"
        )


def prepare(config: Config, given: Mapping[str, Records] | None = None) -> TaskData:
    """Reads the data and encodes it for the model.

    Args:
      config: a checked configuration.
      given: the records of each split, where they are in memory.

    Raises:
      ConfigError: there is no such task, model or source.
      DataError: something cannot be trained on; the message says what and where.
    """
    task = find_task(config.task)
    model_name(task.models, config.model)
    check_balance(config.data, task.target)
    check_outside(config.data, task.target)
    check_order(config, task.target)
    splits = read_records(task, config.data, given)
    splits = leave_classes_out(splits, config.data)
    outside = splits.pop(OUTSIDE, None)
    classes = task.target.find_classes(splits["train"], config.data)
    splits["train"] = thin(splits["train"], config.data, classes)
    splits["train"] = mislabel(splits["train"], config.data, classes)
    codec = task.codec.fit(config, splits["train"])
    # Where nothing is labelled, the classes are the tokens.
    classes = classes or codec.vocabulary
    examples = {
        split: encode_labelled(task, codec, classes, records, config.data)
        for split, records in splits.items()
    }
    examples = fit_buckets(
        examples,
        batch_size=config.training.batch_size,
        epochs=config.training.epochs,
        group_by_length=config.training.group_by_length,
    )
    return TaskData(
        examples,
        classes,
        codec.spec(len(classes)),
        codec.files(),
        None if outside is None else encode_outside(codec, outside, config.data),
    )
