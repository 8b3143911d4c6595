"""What there is to predict: one class, several, or a tag for each token.

A target numbers its classes, encodes labels as arrays, says which losses fit, counts
and measures, and turns logits into answers.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np

from ..config import DataConfig
from ..data.examples import Classes, Encoded
from ..data.records import Records
from .metric import Metric
from .quality import Quality

LossTarget = Literal["labels", "multi_hot"]
# What a lead, or a margin, is a difference of.
Unit = Literal["probability", "logits"]


class Calibration(NamedTuple):
    """What validation says about turning logits into probabilities and answers."""

    temperature: float  # divides the logits
    threshold: float  # of a logit, for several labels or for a set of answers


class MarginMeaning(NamedTuple):
    """What the margins of a kind of answer are, in words."""

    axis: str  # along the axis of a plot
    right: str  # what is so on the right of 0


class LabelEvidence(NamedTuple):
    """What a network says of the labels of some examples."""

    margins: np.ndarray  # the least of each example's, in some unit, shape=(n,)
    present: np.ndarray  # the classes that are labels, shape=(classes,), dtype=bool
    ahead: np.ndarray  # of those, the ones that lead somewhere, as `present`


class Target(Protocol):
    """The kind of answer that a task gives."""

    # What the fitting rows of the table of losses have as their target.
    loss_target: LossTarget
    # Whether the classes are in order, from the lowest to the highest.
    ordered: bool
    # Whether a row of the data has one label.
    one_label: bool
    # Whether somebody gave the labels, so that some may be wrong.
    labels_are_given: bool
    # What loss and settled share count over: example or token.
    counted: str
    # All that `score` returns, and the loss.
    metrics: tuple[Metric, ...]
    # The validation metric that decides which checkpoint is the best.
    metric: str
    # The same for a loss that ranks classes: more on all logits changes nothing.
    ranking_metric: str
    # Of margins in each unit.
    margin_meanings: Mapping[Unit, MarginMeaning]

    def find_classes(self, train: Records, config: DataConfig) -> Classes:
        """Returns the classes of the training split, in their order.

        Raises:
          DataError: a label is unfit.
        """

    def encode(
        self, records: Records, encoded: Encoded, classes: Classes, config: DataConfig
    ) -> np.ndarray:
        """Returns the labels of one split as an array with one row an example.

        Raises:
          DataError: a label is unfit, or one that training never has.
        """

    def class_counts(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Returns how often each class is a label of a split, float32 [classes]."""

    def where(self, batch: dict[str, jax.Array]) -> jax.Array:
        """Returns what counts in a batch, of the shape of its loss."""

    def correct(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns what is predicted right, of the shape of the loss."""

    def lead(self, logits: jax.Array, labels: jax.Array, *, unit: Unit) -> jax.Array:
        """Returns how far each label leads, of the shape of the loss, under jit.

        It is what `margins` has of the entries that count, and anything in others.
        """

    def note_settling(self, labels: np.ndarray, delta: float) -> None:
        """Says so where a margin lets some training examples never settle.

        Args:
          labels: of the training split, as `encode` returns them.
          delta: the margin, in probability.
        """

    def outputs(self, logits: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Returns what evaluation keeps of the logits of a batch, [n, ...], under jit.

        Of a split this is all that the functions below get; mostly the logits.

        Args:
          logits: float32 [n, ..., classes].
          labels: as `encode` returns them; None in prediction.
        """

    def score(
        self,
        outputs: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration | None = None,
    ) -> dict[str, float]:
        """Returns the metrics of a split; some need a calibration.

        Args:
          outputs: float32, one row an example.
          labels: as `encode` returns them.
          classes: as `find_classes` returns them.
          calibration: of the checkpoint, once there is one.
        """

    def margins(
        self, outputs: np.ndarray, labels: np.ndarray, *, unit: Unit
    ) -> np.ndarray:
        """Returns how far each label leads: p_t - max p_i, or o_t - max o_i."""

    def evidence(
        self,
        outputs: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        *,
        unit: Unit,
    ) -> LabelEvidence:
        """Returns what outputs say of the labels.

        Args:
          outputs: of some examples; per token they may be cut to the longest of these.
          labels: as `encode` returns them.
          num_classes: of the task.
          unit: of the margins.
        """

    def contradiction(
        self,
        outputs: np.ndarray,
        label: np.ndarray,
        classes: Classes,
        *,
        unit: Unit,
    ) -> dict[str, Any]:
        """Returns `label` and `predicted` of one example, where they differ most.

        Args:
          outputs: of the example.
          label: as `encode` returns it.
          classes: as `find_classes` returns them.
          unit: of the margin that is the least of several.
        """

    def calibrate(self, outputs: np.ndarray, labels: np.ndarray) -> Calibration:
        """Returns what fits the validation split best."""

    def quality(
        self,
        outputs: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration,
    ) -> Quality | None:
        """Returns how good the answers of a split are, class by class.

        None where there are too many classes to tell, or no logits are kept.
        """

    def answers(
        self,
        outputs: np.ndarray,
        encoded: Encoded,
        classes: Classes,
        calibration: Calibration,
        *,
        unit: Unit,
    ) -> list[dict[str, Any]]:
        """Returns a JSON object an example: the answer, its probability, its margin.

        The probability is calibrated, and so is a margin in that unit; one in logits
        is of the logits as they are, as the loss has it.
        """

    def class_probabilities(
        self, outputs: np.ndarray, calibration: Calibration
    ) -> np.ndarray | None:
        """Returns the calibrated probability of each class, [n, classes].

        None where an example has more than one answer.
        """


def most_lead(unit: Unit) -> float:
    """Returns the largest lead that there is."""
    return math.inf if unit == "logits" else 1.0
