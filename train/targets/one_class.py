"""One class an example."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from ..config import DataConfig
from ..data.examples import NO_LABEL, Classes, Encoded
from ..data.records import Records
from ..storage import finite
from . import (
    Calibration,
    LabelEvidence,
    LossTarget,
    MarginMeaning,
    Unit,
)
from .calibration import (
    expected_calibration_error,
    fit_temperature,
    probabilities,
)
from .labels import (
    index_of,
    label_values,
    note_doubtful_classes,
    refuse_unknown,
)
from .metric import Metric, calibration_errors, loss
from .quality import Quality, quality

ONE_OF_ALL: Mapping[Unit, MarginMeaning] = {
    "probability": MarginMeaning(
        axis=r"margin $p_t - \max\ p_i$ over $i \neq t$ (probability)",
        right="the prediction is right",
    ),
    "logits": MarginMeaning(
        axis=r"margin $o_t - \max\ o_i$ over $i \neq t$ (logits)",
        right="the prediction is right",
    ),
}


class OneClass:
    """Labels int32 [n]; the prediction is the largest logit."""

    loss_target: LossTarget = "labels"
    ordered = False
    one_label = True
    labels_are_given = True
    counted = "example"
    metrics: tuple[Metric, ...] = (
        loss("examples"),
        Metric("accuracy", "accuracy"),
        Metric("macro_f1", "macro F1"),
        *calibration_errors("examples"),
    )
    metric = "accuracy"
    ranking_metric = "accuracy"
    margin_meanings = ONE_OF_ALL

    def find_classes(self, train: Records, config: DataConfig) -> Classes:
        """Returns the distinct labels of the training split."""
        classes = tuple(sorted(set(label_values(train, config.label_column))))
        note_doubtful_classes(train, classes)
        return classes

    def encode(
        self, records: Records, encoded: Encoded, classes: Classes, config: DataConfig
    ) -> np.ndarray:
        """Returns class indices, int32 [n]."""
        index = index_of(classes)
        values = label_values(records, config.label_column, classes)
        refuse_unknown(records, values, classes)
        return np.array([index[value] for value in values], np.int32)

    def class_counts(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Returns how often each class is a label."""
        return count_classes(labels, num_classes)

    def where(self, batch: dict[str, jax.Array]) -> jax.Array:
        """Returns the rows that are no padding, [n]."""
        return batch["where"]

    def correct(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns whether the largest logit is the label's, [n]."""
        return jnp.argmax(logits, axis=-1) == labels

    def lead(self, logits: jax.Array, labels: jax.Array, *, unit: Unit) -> jax.Array:
        """Returns p_t - max over i != t of p_i, or that of the logits, [n]."""
        return label_lead(logits, labels, unit=unit)

    def note_settling(self, labels: np.ndarray, delta: float) -> None:
        """Says nothing: every example can settle."""

    def outputs(self, logits: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Returns the logits."""
        return logits

    def score(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration | None = None,
    ) -> dict[str, float]:
        """Returns accuracy, macro F1 and calibration error of [n, classes]."""
        predictions = logits.argmax(axis=-1)
        figures = {
            "accuracy": float(accuracy_score(labels, predictions)),
            "macro_f1": float(
                f1_score(labels, predictions, average="macro", zero_division=0.0)
            ),
            "ece": calibration_error(logits, labels, 1.0),
        }
        if calibration:
            figures["ece_calibrated"] = calibration_error(
                logits, labels, calibration.temperature
            )
        return figures

    def quality(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration,
    ) -> Quality | None:
        """Returns how good the largest logit's class is."""
        return quality_of_single(logits, labels, classes, calibration.temperature)

    def margins(
        self, logits: np.ndarray, labels: np.ndarray, *, unit: Unit
    ) -> np.ndarray:
        """Returns p_t - max over i != t of p_i, or that of the logits, [n]."""
        return lead(logits, labels, unit=unit)

    def evidence(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        *,
        unit: Unit,
    ) -> LabelEvidence:
        """Returns the margins, and the classes that there are and that lead."""
        margins = self.margins(logits, labels, unit=unit)
        return label_evidence(margins, labels, num_classes)

    def contradiction(
        self, logits: np.ndarray, label: np.ndarray, classes: Classes, *, unit: Unit
    ) -> dict[str, Any]:
        """Returns the label and the largest logit's class."""
        return {"label": classes[int(label)], "predicted": classes[logits.argmax()]}

    def calibrate(self, logits: np.ndarray, labels: np.ndarray) -> Calibration:
        """Returns the temperature; there is no threshold."""
        return Calibration(fit_temperature(logits, labels), threshold=0.0)

    def class_probabilities(
        self, logits: np.ndarray, calibration: Calibration
    ) -> np.ndarray | None:
        """Returns the calibrated probability of each class, [n, classes]."""
        return probabilities(logits, calibration.temperature)

    def answers(
        self,
        logits: np.ndarray,
        encoded: Encoded,
        classes: Classes,
        calibration: Calibration,
        *,
        unit: Unit,
    ) -> list[dict[str, Any]]:
        """Returns label, calibrated probability and lead over the runner-up."""
        p = probabilities(logits, calibration.temperature)
        best = p.argmax(axis=-1)
        margins = lead(logits, best, unit=unit, temperature=calibration.temperature)
        return [
            {
                "label": classes[k],
                "probability": float(p[row, k]),
                "margin": finite(float(margins[row])),
            }
            for row, k in enumerate(best)
        ]


def quality_of_single(
    logits: np.ndarray, labels: np.ndarray, classes: Classes, temperature: float
) -> Quality | None:
    """Returns the quality of the largest logit's class; logits [n, classes]."""
    p, answered = probabilities(logits, temperature), logits.argmax(axis=-1)
    return quality(
        labels,
        answered,
        classes,
        confidence=p.max(axis=-1),
        right=answered == labels,
    )


def count_classes(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns how often each class is a label, float32 [classes]; NO_LABEL is none."""
    known = labels[labels != NO_LABEL]
    return np.bincount(known, minlength=num_classes).astype(np.float32)


def label_evidence(
    margins: np.ndarray, labels: np.ndarray, num_classes: int
) -> LabelEvidence:
    """Returns margins, and the classes that are labels and that lead somewhere.

    Args:
      margins: of each label.
      labels: class indices, of the margins' shape.
      num_classes: of the task.
    """
    present, ahead = (np.zeros(num_classes, bool) for _ in range(2))
    present[labels] = True
    ahead[labels[margins > 0]] = True
    return LabelEvidence(margins, present, ahead)


def label_lead(logits: jax.Array, labels: jax.Array, *, unit: Unit) -> jax.Array:
    """Returns `lead` under jit, float32, of logits [..., classes]."""
    scores, least = logits.astype(jnp.float32), -jnp.inf
    if unit == "probability":
        scores, least = jax.nn.softmax(scores), 0.0
    is_label = jax.nn.one_hot(labels, scores.shape[-1], dtype=bool)
    of_label = jnp.max(scores, axis=-1, initial=least, where=is_label)
    return of_label - jnp.max(scores, axis=-1, initial=least, where=~is_label)


def lead(
    logits: np.ndarray, labels: np.ndarray, *, unit: Unit, temperature: float = 1.0
) -> np.ndarray:
    """Returns p_t - max over i != t of p_i, or o_t - max over i != t of o_i.

    Args:
      logits: [n, classes].
      labels: int [n].
      unit: of the lead.
      temperature: of the probabilities; logits count as they are.

    Returns:
      [n], positive where the prediction is right; with one class alone, p_t or
      infinity.
    """
    scores, least = logits.astype(np.float64), -np.inf
    if unit == "probability":
        scores, least = probabilities(logits, temperature), 0.0
    is_label = np.arange(scores.shape[-1]) == labels[:, None]
    of_label = np.max(scores, axis=-1, initial=least, where=is_label)
    return of_label - np.max(scores, axis=-1, initial=least, where=~is_label)


def calibration_error(
    logits: np.ndarray, labels: np.ndarray, temperature: float
) -> float:
    """Returns how far the probability of a prediction is from how often it is right."""
    p = probabilities(logits, temperature)
    return expected_calibration_error(p.max(axis=-1), p.argmax(axis=-1) == labels)
