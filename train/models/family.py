"""What the trainer knows of a family of encoders: its shape, its network, its names."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from flax import nnx

Reads = Literal["text", "images", "audio"]
# Of an absent key and its values.
NOTHING: Mapping[str, Any] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of an encoder, as its folder's config.json gives it; hashable.

    Attributes:
      model_type: a key of the table of families.
      width: of the hidden states.
      depth: number of blocks.
      source: the text of config.json, which an export writes again.
    """

    model_type: str
    width: int
    depth: int
    source: str

    def block_names(self, block: int) -> Mapping[str, int]:
        """Returns what stands in the names of a block's weights beside its number."""
        del block
        return NOTHING


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig(EncoderConfig):
    """The shape of one that is made of Transformer blocks.

    Attributes:
      heads: of each block's attention.
      intermediate_size: width inside the feed-forward network.
      layer_norm_epsilon: added to the variance.
      activation: a key of `ACTIVATIONS`.
    """

    heads: int
    intermediate_size: int
    layer_norm_epsilon: float
    activation: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextEncoderConfig(TransformerConfig):
    """The shape of one that reads tokens.

    Attributes:
      vocabulary_size: rows of the table of tokens.
      pad_token_id: the token that stands where there is none.
      position_table_size: positions that its config.json tells of.
    """

    vocabulary_size: int
    pad_token_id: int
    position_table_size: int

    @property
    def max_positions(self) -> int:
        """The longest sequence that it reads."""
        return self.position_table_size


@dataclasses.dataclass(frozen=True)
class Family:
    """One row of the table of families.

    Attributes:
      reads: what goes in.
      class_name: of its classes in transformers, `BertModel` for instance.
      prefix: before the names of weights, where the file holds more than an encoder.
      config: the class of its shape.
      network: makes it, `network(shape, model_config, rngs=rngs)`.
      sizes: field of the shape -> key of config.json, which must be there.
      options: field of the shape -> key of config.json and its default.
      modules: module of ours -> modules whose weights, side by side, are its own, `{}`
        being the number of a block; or a parameter of its own -> its weight.
      fixed: key of config.json -> the one value that is known, and what an absent key
        stands for.
      more: from the whole config.json to further fields of the shape; raises
        `ValueError` for what is not known.
      tags: whether the class for tags in transformers is one linear layer on the
        hidden states, as ours is.
    """

    reads: Reads
    class_name: str
    prefix: str
    config: type[EncoderConfig]
    network: Callable[..., nnx.Module]
    sizes: Mapping[str, str]
    options: Mapping[str, tuple[str, Any]]
    modules: Mapping[str, tuple[str, ...]]
    fixed: Mapping[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict)
    more: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda content: NOTHING
    tags: bool = False


def side_by_side(place: str, *names: str) -> tuple[str, ...]:
    """Returns the names of several modules at one place, the first being `place.name`.

    Args:
      place: where they stand.
      *names: of each.
    """
    return tuple(f"{place}.{name}" for name in names)


def whole_numbers(content: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Returns a list of config.json.

    Args:
      content: of the file.
      key: of the list.

    Raises:
      ValueError: it is no list of whole numbers above 0.
    """
    sizes = content.get(key)
    if not isinstance(sizes, list) or not sizes:
        raise ValueError(f"`{key}` is {sizes!r}, and no list of sizes")
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"`{key}` is {sizes!r}; they must be whole numbers above 0")
    return tuple(sizes)
