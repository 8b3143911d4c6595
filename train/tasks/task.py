"""What a task is made of, and how it turns records into examples."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import jax
from flax import nnx

from .. import data
from ..config import Config, DataConfig, ModelConfig, nearest
from ..data.describe import describer
from ..data.examples import Classes, Encoded, Examples, InputSpec, Sequences
from ..data.records import Records
from ..errors import ConfigError
from ..targets import Target
from .balance import loss_weights

# The name of the model whose parameters come from `model.pretrained`.
PRETRAINED = "pretrained"


class Codec(Protocol):
    """Turns records into a model's inputs; fitted on training, kept with the run."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it reads."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens, by number; none where inputs are no text."""

    @classmethod
    def fit(cls, config: Config, train: Records) -> Self:
        """Returns what the training split or the pretrained encoder decides."""

    @classmethod
    def load(cls, config: Config, folder: Path) -> Self:
        """Returns what a run kept in its folder."""

    def files(self) -> dict[str, str]:
        """Returns what `load` needs: file name -> content."""

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know of its data."""

    def encode(self, records: Records) -> Encoded:
        """Returns the inputs of one split.

        Raises:
          DataError: a row cannot be read.
        """


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of input, a kind of answer, and the networks between them.

    Attributes:
      models: networks by name; the first is the one that an empty `model.name` means.
      codec: of the inputs.
      target: the kind of answer.
      augment: changes training inputs at random, on the device:
        `augment(inputs, key, names)`.
    """

    models: Mapping[str, Callable[..., nnx.Module]]
    codec: type[Codec]
    target: Target
    augment: Callable[[jax.Array, jax.Array, tuple[str, ...]], jax.Array] | None = None


def model_name(models: Mapping[str, object], config: ModelConfig) -> str:
    """Returns the name of the configured model.

    An empty name is the pretrained model where a pretrained folder is named, and the
    first one else.

    Raises:
      ConfigError: there is no such model, or it lacks its folder.
    """
    first = PRETRAINED if config.pretrained else next(iter(models))
    name = config.name or first
    if name not in models:
        raise ConfigError(
            f"`model.name`: this task has no {name!r}; {nearest(name, models)}"
        )
    if (name == PRETRAINED) != bool(config.pretrained):
        raise ConfigError(
            f"`model.name` {name!r} and `model.pretrained` {config.pretrained!r} do "
            f"not fit: name a folder for {PRETRAINED!r}, and none for other models"
        )
    return name


def read_records(
    task: Task, config: DataConfig, given: Mapping[str, Records] | None = None
) -> dict[str, Records]:
    """Returns the records of each split; see `train.data.read`."""
    one = task.target.one_label
    several = task.target.labels_are_given and not one
    return data.read(config, given, one_label=one, several_labels=several)


def encode_labelled(
    task: Task, codec: Codec, classes: Classes, records: Records, config: DataConfig
) -> Examples:
    """Returns one split encoded for the model, with its labels.

    Raises:
      DataError: a row cannot be read.
    """
    encoded = codec.encode(records)
    if encoded.kept is not None:
        records = records.rows(encoded.kept)
    labels = task.target.encode(records, encoded, classes, config)
    more: dict[str, Any] = {"numbers": records.numbers}
    if records.split == "train":
        more["weights"] = loss_weights(config, records, labels, len(classes))
        more["describe"] = describer(records, codec.columns)
    if encoded.lengths is None:
        return Examples(encoded.inputs, labels, **more)
    tagged = codec.spec(len(classes)).per_token
    return Sequences(encoded.inputs, labels, encoded.lengths, tagged, **more)
