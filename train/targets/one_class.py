"""One class an example."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from train.config import DataConfig
from train.data.examples import NO_LABEL, Classes, Encoded
from train.data.records import Records
from train.targets import Calibration, LabelEvidence, LossTarget, MarginMeaning
from train.targets.calibration import (
    expected_calibration_error,
    fit_temperature,
    probabilities,
)
from train.targets.labels import (
    index_of,
    label_values,
    note_doubtful_classes,
    refuse_unknown,
)
from train.targets.metric import Metric, calibration_errors, loss

ONE_OF_ALL = MarginMeaning(
    axis=r"margin $p_t - \max\ p_i$ over $i \neq t$ (probability)",
    right="the prediction is right",
)


class OneClass:
    """Labels int32 [n]; the prediction is the largest logit."""

    loss_target: LossTarget = "labels"
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
    margin = ONE_OF_ALL

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

    def lead(self, logits: jax.Array, labels: jax.Array, where: jax.Array) -> jax.Array:
        """Returns p_t - max over i != t of p_i, [n]."""
        return jnp.where(where, label_lead(logits, labels), 1.0)

    def note_settling(
        self, labels: np.ndarray, margin: float, keyword: str | None
    ) -> None:
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

    def margins(self, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns p_t - max over i != t of p_i, [n]; with one class alone, p_t."""
        return lead(probabilities(logits), labels)

    def evidence(
        self, logits: np.ndarray, labels: np.ndarray, num_classes: int
    ) -> LabelEvidence:
        """Returns the margins, and the classes that there are and that lead."""
        return label_evidence(self.margins(logits, labels), labels, num_classes)

    def contradiction(
        self, logits: np.ndarray, label: np.ndarray, classes: Classes
    ) -> dict[str, Any]:
        """Returns the label and the largest logit's class."""
        return {"label": classes[int(label)], "predicted": classes[logits.argmax()]}

    def calibrate(self, logits: np.ndarray, labels: np.ndarray) -> Calibration:
        """Returns the temperature; there is no threshold."""
        return Calibration(fit_temperature(logits, labels), threshold=0.0)

    def answers(
        self,
        logits: np.ndarray,
        encoded: Encoded,
        classes: Classes,
        calibration: Calibration,
    ) -> list[dict[str, Any]]:
        """Returns label, calibrated probability and lead over the runner-up."""
        p = probabilities(logits, calibration.temperature)
        best = p.argmax(axis=-1)
        margins = lead(p, best)
        return [
            {
                "label": classes[k],
                "probability": float(p[row, k]),
                "margin": float(margins[row]),
            }
            for row, k in enumerate(best)
        ]


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


def label_lead(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns p_t - max over i != t of p_i, float32, of logits [..., classes]."""
    p = jax.nn.softmax(logits)
    is_label = jax.nn.one_hot(labels, p.shape[-1], dtype=bool)
    of_label = jnp.max(p, axis=-1, initial=0.0, where=is_label)
    return of_label - jnp.max(p, axis=-1, initial=0.0, where=~is_label)


def lead(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns p_t - max over i != t of p_i.

    Args:
      probs: [n, classes].
      labels: int [n].

    Returns:
      [n], positive where the prediction is right; with one class alone, p_t.
    """
    is_label = np.arange(probs.shape[-1]) == labels[:, None]
    of_label = np.max(probs, axis=-1, initial=0.0, where=is_label)
    return of_label - np.max(probs, axis=-1, initial=0.0, where=~is_label)


def calibration_error(
    logits: np.ndarray, labels: np.ndarray, temperature: float
) -> float:
    """Returns how far the probability of a prediction is from how often it is right."""
    p = probabilities(logits, temperature)
    return expected_calibration_error(p.max(axis=-1), p.argmax(axis=-1) == labels)
