"""A configuration for somebody's data, and why it is as it is."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from ..data import SOURCES
from ..data.memory import SPLITS
from ..data.records import Records
from ..errors import ConfigError, DataError
from ..tasks import find_task
from ..tasks.ordinal import PREFIX as ORDINAL
from .place import Place, find_place
from .settings import image_side, schedule, sound_sizes, text_length
from .table import Table, read_table

_TEXTS = ("text", "multi_label", "tokens")
# Those that `model.pretrained` serves, and what an encoder decides of the data.
_ENCODED: dict[str, dict[str, Any]] = {
    **{task: {} for task in _TEXTS},
    "image": {"image_size": 0},
    "audio": {"sample_rate": 16000},
}
# Networks from scratch, by task: of the size of the committed configurations.
_MODELS: dict[str, tuple[dict[str, Any], float]] = {
    "text": ({"width": 128, "depth": 1, "heads": 4, "dropout": 0.3}, 2e-3),
    "multi_label": ({"width": 128, "depth": 1, "heads": 4, "dropout": 0.3}, 2e-3),
    "tokens": ({"width": 128, "depth": 2, "heads": 4, "dropout": 0.2}, 1e-3),
    "next_token": ({"width": 128, "depth": 2, "heads": 4}, 2e-3),
    "image": ({"width": 32, "depth": 3, "dropout": 0.1}, 2e-3),
    "audio": ({"width": 16, "depth": 3, "dropout": 0.1}, 3e-3),
    "features": ({"width": 64, "depth": 2, "dropout": 0.1}, 3e-3),
}
_PRETRAINED = ({"dropout": 0.1}, 1e-4)


class Proposal(NamedTuple):
    """A configuration, and what it stands on, a line each."""

    config: Config
    saw: tuple[str, ...]


class Given(NamedTuple):
    """What the user says; empty: not."""

    task: str = ""
    label: str = ""
    input: str = ""
    pretrained: str = ""


_NOTHING = Given()


def propose(path: Path, given: Given = _NOTHING) -> Proposal:
    """Returns a configuration for the data at a path.

    Args:
      path: a file or a folder.
      given: what need not be found out.

    Raises:
      ConfigError: no such task, or one that cannot have what is given.
      DataError: what is there cannot be trained on, or it is unclear how.
    """
    place = find_place(path.expanduser().absolute())
    data: dict[str, Any] = {"source": place.source, "path": str(place.folder)}
    data |= {name: place.splits.get(name, "") for name in SPLITS}
    train = SOURCES[place.source](DataConfig(**data))["train"]
    return _proposal(data, train, _table(place, train, _of_inputs(given)), given)


def propose_for(splits: Mapping[str, Records], given: Given = _NOTHING) -> Proposal:
    """Returns a configuration for data in memory; see `propose`.

    Args:
      splits: the records of `train`, and maybe others.
      given: what need not be found out.
    """
    data = {"source": "memory"} | {k: k if k in splits else "" for k in SPLITS}
    train, known = splits["train"], _of_inputs(given)
    table = read_table(
        train, task=known.task, label=known.label, input_column=known.input
    )
    return _proposal(data, train, table, given)


def _of_inputs(given: Given) -> Given:
    """Returns what is given, of an ordinal task the one with the same inputs.

    Raises:
      ConfigError: there is no such task.
    """
    if given.task:
        find_task(given.task)
    return given._replace(task=given.task.removeprefix(ORDINAL))


def _proposal(
    data: dict[str, Any], train: Records, table: Table, given: Given
) -> Proposal:
    """Returns the configuration for a table of training examples."""
    task = find_task(table.task)
    data |= _columns(table) | _sizes(table, train)
    scratch = not given.pretrained
    model, rate = _MODELS[table.task] if scratch else _PRETRAINED
    if given.pretrained and table.task not in _ENCODED:
        raise ConfigError(
            f"--pretrained: {table.task} has no pretrained encoder; it is for "
            f"{', '.join(_ENCODED)}"
        )
    if not scratch:
        model = model | {"pretrained": given.pretrained}
        data |= _ENCODED[table.task]
    several = task.target.loss_target == "multi_hot"
    training: dict[str, Any] = schedule(len(train))
    if not scratch:
        training = {"batch_size": 32, "epochs": min(training["epochs"], 5)}
    if table.task in _TEXTS:
        training["group_by_length"] = True
    config = Config(
        task=(ORDINAL if given.task.startswith(ORDINAL) else "") + table.task,
        data=DataConfig(**data),
        model=ModelConfig(**model),
        loss=LossConfig(
            name="multi_label_as_softmax" if several else "as_softmax",
            logit_margin=2.0,
        ),
        optimizer=OptimizerConfig(learning_rate=rate),
        training=TrainingConfig(**training),
    )
    return Proposal(config, tuple(_saw(train, table, config)))


def _table(place: Place, train: Records, given: Given) -> Table:
    """Returns what the data are for."""
    if place.source == "folders":
        task = given.task or place.media
        return Table(task, "label", "", "", "bio", mixed=False)
    return read_table(
        train, task=given.task, label=given.label, input_column=given.input
    )


def _columns(table: Table) -> dict[str, Any]:
    """Returns the settings that say which column is what, but for the defaults."""
    default = {"text": "text", "multi_label": "text", "tokens": "tokens"}
    own = default.get(table.task, table.task)
    found: dict[str, Any] = {"label_column": table.label}
    if table.flags:
        found["label_columns"] = table.flags
    if table.input and table.input != own:
        found["input_column"] = table.input
    if table.separator:
        found["separator"] = table.separator
    if table.tags == "flat":
        found["tags"] = "flat"
    if table.mixed:
        found["mixed_columns"] = True
    return found


def _sizes(table: Table, train: Records) -> dict[str, Any]:
    """Returns the sizes that fit the examples."""
    column = table.input or table.task
    if table.task in ("text", "multi_label"):
        texts = [t for t in train.column(column).tolist() if isinstance(t, str)]
        return {"max_length": text_length(texts)} if texts else {}
    if table.task == "tokens":
        rows = [" ".join(map(str, row)) for row in train.column(column).tolist()]
        return {"max_length": text_length(rows)}
    if table.task == "image":
        side = image_side(train, column)
        return {"image_size": side} if side else {}
    if table.task == "audio":
        return sound_sizes(train, column)
    return {}


def _saw(train: Records, table: Table, config: Config) -> list[str]:
    """Returns what was found, in lines."""
    data = config.data
    what = "folders by class" if data.source == "folders" else "a table"
    names = {split: getattr(data, split) for split in SPLITS}
    splits = ", ".join(f"{k}: {v}" for k, v in names.items() if v)
    lines = [
        f"{what} with {len(train)} training examples; {splits}",
        f"task {table.task}, {_label_in_words(table)}"
        + (f", input column `{table.input}`" if table.input else ""),
    ]
    if not data.validation:
        share = config.data.validation_share
        lines.append(f"no validation split: {share:.0%} of training becomes it")
    if table.task not in ("tokens", "multi_label", "next_token"):
        counts = Counter(map(str, train.column(table.label).tolist()))
        if len(counts) < 2:
            raise DataError(
                f"{train.origin}: `{table.label}` has one class alone; name another "
                "column with --label"
            )
        (most, n), *_, (least, m) = [*counts.most_common(), *counts.most_common()[-1:]]
        lines.append(f"{len(counts)} classes, from {m} ({least}) to {n} ({most}) rows")
    if table.task in _TEXTS:
        lines.append(
            f"texts are cut after {data.max_length} tokens; 1 in 100 is longer"
        )
    if table.task == "image" and data.image_size:
        side = data.image_size
        lines.append(f"pictures of several sizes, scaled to {side} x {side}")
    if table.task == "audio":
        lines.append(
            f"recordings of {data.seconds:g} s at {data.sample_rate} samples/s"
        )
    if table.mixed:
        lines.append("blanks are filled in and texts are categories (mixed_columns)")
    size, epochs = config.training.batch_size, config.training.epochs
    steps = epochs * -(-len(train) // size)
    lines.append(f"{epochs} epochs in batches of {size}: about {steps} steps")
    return lines


def _label_in_words(table: Table) -> str:
    if not table.flags:
        return f"label column `{table.label}`"
    names = ", ".join(f"`{name}`" for name in table.flags)
    return f"a column of 0 and 1 for each of the labels {names}"


def as_file(config: Config, about: str) -> str:
    """Returns the text of a configuration file, with what differs from the defaults.

    Args:
      config: of a run.
      about: the first lines of the file.
    """
    sections, default = [], Config()
    imports = {"Config"}
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if value == getattr(default, field.name) and field.name != "task":
            continue
        if dataclasses.is_dataclass(value):
            imports.add(type(value).__name__)
            sections.append(f"        {field.name}={_section(value)},")
        else:
            sections.append(f"        {field.name}={value!r},")
    names = "".join(f"    {name},\n" for name in sorted(imports))
    body = "\n".join(sections)
    package = __name__.partition(".")[0]
    return (
        f'"""{about}"""\n\nfrom {package}.config import (\n{names})\n\n\n'
        f"def get_config() -> Config:\n    return Config(\n{body}\n    )\n"
    )


def _section(value: Any) -> str:
    """Returns a section of a configuration as Python."""
    default = type(value)()
    lines = [
        f"            {field.name}={getattr(value, field.name)!r},\n"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != getattr(default, field.name)
    ]
    return f"{type(value).__name__}(\n{''.join(lines)}        )"
