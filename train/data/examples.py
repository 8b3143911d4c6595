"""Examples: one split encoded for the model, and the data set they make up."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .buckets import BUCKETS, bucket

# The names of the classes, by number.
Classes = tuple[str | int, ...]
# A position that holds no token, and a token that has no label.
NO_TOKEN = -1
NO_LABEL = -1
# Rows that go into a digest at once.
_DIGESTED = 4096


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split in memory, one row an example.

    Attributes:
      inputs: [n, ...].
      labels: what the task's target makes of them, one row an example; [n, 0] where
        they are not known, as in prediction.
      numbers: of the rows in their source, from 1 on, [n]; None: all of them in order.
      weights: of their losses, float32 [n]; None: 1 each.
      describe: from a row to what it holds, in a few words; None: nobody knows.
    """

    inputs: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    weights: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    describe: Callable[[int], str] | None = dataclasses.field(
        default=None, kw_only=True, repr=False
    )

    def __len__(self) -> int:
        return len(self.inputs)

    def digest(self) -> str:
        """Returns a digest of the rows, their labels and their order."""
        found = hashlib.blake2b(digest_size=16)
        weights = () if self.weights is None else (self.weights,)
        for array in (*self._arrays(), *weights):
            found.update(f"{array.dtype} {array.shape}".encode())
            # In pieces: a column may be a file, larger than memory.
            for start in range(0, len(array), _DIGESTED):
                found.update(array[start : start + _DIGESTED].tobytes())
        return found.hexdigest()

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.inputs, self.labels

    def row_numbers(self, rows: np.ndarray) -> np.ndarray:
        """Returns the numbers that some rows have in their source, from 1 on."""
        return rows + 1 if self.numbers is None else self.numbers[rows]

    @property
    def order(self) -> np.ndarray:
        """The order of all rows in which they are evaluated fastest."""
        return self.order_of(np.arange(len(self)))

    @property
    def batch_lengths(self) -> tuple[int, ...]:
        """The lengths that batches may have, of which each compiles; () where one."""
        return ()

    def order_of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the order in which some rows are evaluated fastest."""
        return np.arange(len(rows))

    def padding(self, rows: np.ndarray, size: int) -> float:
        """Returns what share of a batch of `size` that holds some rows is padding."""
        return 1.0 - len(rows) / size

    def batch(self, rows: np.ndarray, local: slice) -> dict[str, np.ndarray]:
        """Returns this process's part of a global batch.

        Args:
          rows: of the global batch; every process passes the same.
          local: which of them this process holds.
        """
        own = rows[local]
        batch = {"inputs": self.inputs[own], "labels": self.labels[own]}
        return batch if self.weights is None else batch | {"weights": self.weights[own]}


@dataclasses.dataclass(frozen=True)
class Sequences(Examples):
    """Sequences padded at their end; a batch is cut to a bucket that holds it.

    Attributes:
      lengths: of the sequences, without padding, [n].
      tagged: labels are one a token, [n, length], and are cut alike.
      buckets: the lengths that batches are cut to, so that few shapes compile.
    """

    lengths: np.ndarray
    tagged: bool = False
    buckets: tuple[int, ...] = BUCKETS

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.inputs, self.labels, self.lengths

    @property
    def batch_lengths(self) -> tuple[int, ...]:
        """See `Examples.batch_lengths`."""
        return self.buckets if len(self.buckets) > 1 else ()

    def order_of(self, rows: np.ndarray) -> np.ndarray:
        """Returns the order of some rows by length: little padding."""
        return np.argsort(self.lengths[rows], kind="stable")

    def padding(self, rows: np.ndarray, size: int) -> float:
        """Returns what share of a batch of `size` that holds some rows is padding."""
        return 1.0 - self.lengths[rows].sum() / (size * self._length(rows))

    def _length(self, rows: np.ndarray) -> int:
        """Returns the bucket that holds each of some rows."""
        longest = int(self.lengths[rows].max(initial=1))
        return bucket(longest, self.inputs.shape[1], self.buckets)

    def batch(self, rows: np.ndarray, local: slice) -> dict[str, np.ndarray]:
        """Returns this process's part of a global batch, cut to its bucket."""
        batch = super().batch(rows, local)
        # The global batch decides: every process must compile the same shape.
        length = self._length(rows)
        cut = ("inputs", "labels") if self.tagged else ("inputs",)
        return {k: v[:, :length] if k in cut else v for k, v in batch.items()}


class Encoded(NamedTuple):
    """The inputs of one split, before anything is known of its labels."""

    inputs: np.ndarray  # shape=(n, ...)
    lengths: np.ndarray | None = None  # shape=(n,), of sequences
    # For each example, the position of each word's first piece.
    first_pieces: Sequence[np.ndarray] = ()
    # The rows that could be decoded; None: all.
    kept: np.ndarray | None = None


def joined(parts: Sequence[Encoded]) -> Encoded:
    """Returns the inputs of several splits as those of one, one split after another.

    Sequences become as long as the longest; what was left out is not told.

    Args:
      parts: of one codec, at least one.
    """
    if len(parts) == 1:
        return parts[0]._replace(kept=None)
    arrays = [part.inputs for part in parts]
    lengths = [part.lengths for part in parts if part.lengths is not None]
    if not lengths:
        return Encoded(np.concatenate(arrays))
    width = max(array.shape[1] for array in arrays)
    arrays = [
        np.pad(a, ((0, 0), (0, width - a.shape[1])), constant_values=NO_TOKEN)
        for a in arrays
    ]
    pieces = [piece for part in parts for piece in part.first_pieces]
    return Encoded(np.concatenate(arrays), np.concatenate(lengths), pieces)


def in_order(examples: Examples, outputs: list[np.ndarray]) -> np.ndarray:
    """Returns the outputs of batches as one array in the order of the split.

    Args:
      examples: what `evaluation_batches` gave in batches.
      outputs: [batch, ...] each; per token they are as long as their batch was, and
        become as long as the inputs.
    """
    if outputs[0].ndim == 3:
        length = examples.inputs.shape[1]
        outputs = [
            np.pad(o, ((0, 0), (0, length - o.shape[1]), (0, 0))) for o in outputs
        ]
    joined = np.concatenate(outputs)[: len(examples)]
    restored = np.empty_like(joined)
    restored[examples.order] = joined
    return restored


class InputSpec(NamedTuple):
    """What a model must know of its data.

    Hashable, as a part of the recipe that compiled steps share.
    """

    shape: tuple[int, ...]  # of one example's inputs, the longest where they vary
    num_classes: int
    vocabulary_size: int = 0  # of token inputs
    per_token: bool = False  # logits are wanted for each token
    causal: bool = False  # and must not depend on those that follow
    encoder: Any = None  # the shape of a pretrained encoder, an EncoderConfig
    mean: tuple[float, ...] = ()  # of the channels of images
    deviation: tuple[float, ...] = ()
    sample_rate: int = 0  # of audio


class TaskData(NamedTuple):
    """What a task hands to the loop."""

    splits: dict[str, Examples]
    classes: Classes
    spec: InputSpec
    files: dict[str, str]  # kept in the workdir: file name -> content
    outside: Examples | None = None  # of classes that training does not have

    @property
    def every_split(self) -> dict[str, Examples]:
        """The splits, and what is outside as one more."""
        outside = {} if self.outside is None else {"outside": self.outside}
        return self.splits | outside
