"""Any number of classes an example."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import precision_recall_curve

from ..command.lines import escaped
from ..command.notices import notice
from ..config import DataConfig
from ..data.examples import Classes, Encoded
from ..data.records import Records
from ..errors import DataError
from . import (
    Calibration,
    LabelEvidence,
    LossTarget,
    MarginMeaning,
    Unit,
)
from .calibration import (
    binary_probabilities,
    expected_calibration_error,
    fit_binary_temperature,
    probabilities,
)
from .labels import (
    index_of,
    label_lists,
    note_doubtful_classes,
    refuse_unknown,
)
from .metric import Metric, calibration_errors, loss
from .quality import Quality, quality

_FLAGS = frozenset(["0", "1", "0.0", "1.0", "True", "False"])


class MultiLabel:
    """Labels bool [n, classes]; the prediction is every class above 0.

    The logit that a class must exceed is also tuned on validation data, for a settled
    example need not be predicted right at 0.
    """

    loss_target: LossTarget = "multi_hot"
    ordered = False
    one_label = False
    labels_are_given = True
    counted = "example"
    metrics: tuple[Metric, ...] = (
        loss("examples"),
        Metric("micro_f1", "micro F1", counted_over="labels"),
        Metric("macro_f1", "macro F1", counted_over="labels"),
        Metric("accuracy", "accuracy"),
        Metric("precision_at_1", "precision at 1"),
        Metric("micro_f1_tuned", "micro F1, tuned", counted_over="labels"),
        Metric("macro_f1_tuned", "macro F1, tuned", counted_over="labels"),
        *calibration_errors("labels"),
    )
    metric = "micro_f1"
    ranking_metric = "precision_at_1"
    margin_meanings: Mapping[Unit, MarginMeaning] = {
        "probability": MarginMeaning(
            axis=r"margin: least $p_t$ of a label $-$ largest $p_i$ of no label",
            right="each label of an example is likelier than all other classes",
        ),
        "logits": MarginMeaning(
            axis=r"margin: least of $o_t$ of a label and $-o_i$ of no label (logits)",
            right="exactly the labels of an example are predicted",
        ),
    }

    def find_classes(self, train: Records, config: DataConfig) -> Classes:
        """Returns every label that a training example has."""
        _refuse_class_columns(train, config)
        rows = label_lists(train, config, distinct=True)
        classes = tuple(sorted({value for row in rows for value in row}))
        if not classes:
            raise DataError(
                f"{train.origin}: no example has a label in column "
                f"`{config.label_column}`; there is nothing to learn"
            )
        note_doubtful_classes(train, classes)
        return classes

    def encode(
        self, records: Records, encoded: Encoded, classes: Classes, config: DataConfig
    ) -> np.ndarray:
        """Returns the multi-hot labels, bool [n, classes]."""
        index = index_of(classes)
        rows = label_lists(records, config, classes, distinct=True)
        refuse_unknown(records, [v for row in rows for v in row], classes)
        labels = np.zeros((len(rows), len(classes)), bool)
        for row, values in zip(labels, rows, strict=True):
            row[[index[value] for value in values]] = True
        return labels

    def class_counts(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Returns how often each class is a label."""
        return labels.sum(axis=0, dtype=np.float32)

    def where(self, batch: dict[str, jax.Array]) -> jax.Array:
        """Returns the rows that are no padding, [n]."""
        return batch["where"]

    def correct(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns whether exactly the labels are above 0, [n]."""
        return jnp.all((logits > 0) == labels, axis=-1)

    def lead(self, logits: jax.Array, labels: jax.Array, *, unit: Unit) -> jax.Array:
        """Returns what `margins` does, under jit, [n]."""
        if unit == "logits":
            return jnp.min(jnp.where(labels, logits, -logits), axis=-1)
        p = jax.nn.softmax(logits)
        of_labels = jnp.min(p, axis=-1, initial=1.0, where=labels)
        return of_labels - jnp.max(p, axis=-1, initial=0.0, where=~labels)

    def note_settling(self, labels: np.ndarray, delta: float) -> None:
        """Says so where some rows have too many labels to settle: p sums to 1."""
        num_labels = labels.sum(axis=1)
        most, stuck = int(num_labels.max()), num_labels * delta >= 1.0
        if stuck.any():
            notice(
                f"`loss.delta`={delta:g}: {stuck.sum()} of {len(labels)} training "
                f"examples have 1 / delta labels or more (up to {most}) and can never "
                f"settle; a delta under {1 / most:.3g} lets them, and so does "
                "`loss.logit_margin`"
            )

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
        """Returns F1, exact matches and calibration error of [n, classes].

        And how often the strongest class is a label, which needs no threshold.
        """
        figures = _f1(logits > 0, labels)
        figures["accuracy"] = float(np.mean(np.all((logits > 0) == labels, axis=1)))
        strongest = labels[np.arange(len(labels)), logits.argmax(axis=1)]
        figures["precision_at_1"] = float(strongest.mean())
        figures["ece"] = _ece(logits, labels, 1.0)
        if calibration:
            tuned = _f1(logits > calibration.threshold, labels)
            figures |= {f"{name}_tuned": value for name, value in tuned.items()}
            figures["ece_calibrated"] = _ece(logits, labels, calibration.temperature)
        return figures

    def quality(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration,
    ) -> Quality | None:
        """Returns how good it is to predict what is above 0."""
        p = binary_probabilities(logits, calibration.temperature)
        return quality(labels, logits > 0, classes, confidence=p, right=labels)

    def margins(
        self, logits: np.ndarray, labels: np.ndarray, *, unit: Unit
    ) -> np.ndarray:
        """Returns the least p_t less the largest p_i, of one softmax, [n].

        Without a label p_t is 1, and with every label p_i is 0. In logits it is the
        least of o_t of a label and -o_i of another class: how far each class lies on
        its side of 0.
        """
        if unit == "logits":
            return np.min(np.where(labels, logits, -logits), axis=-1)
        p = probabilities(logits)
        of_labels = np.min(p, axis=-1, initial=1.0, where=labels)
        return of_labels - np.max(p, axis=-1, initial=0.0, where=~labels)

    def evidence(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        *,
        unit: Unit,
    ) -> LabelEvidence:
        """Returns the margins, the classes that are labels and those that lead."""
        others = np.max(logits, axis=-1, initial=-np.inf, where=~labels)
        leads = labels & (logits > others[:, None])
        present, ahead = np.any(labels, axis=0), np.any(leads, axis=0)
        margins = self.margins(logits, labels, unit=unit)
        return LabelEvidence(margins, present, ahead)

    def contradiction(
        self, logits: np.ndarray, label: np.ndarray, classes: Classes, *, unit: Unit
    ) -> dict[str, Any]:
        """Returns the labels, and as many of the likeliest classes, one at least."""
        likeliest = np.argsort(-logits, kind="stable")[: max(int(label.sum()), 1)]
        return {
            "label": [classes[k] for k in np.flatnonzero(label)],
            "predicted": [classes[k] for k in likeliest],
        }

    def calibrate(self, logits: np.ndarray, labels: np.ndarray) -> Calibration:
        """Returns the temperature, and the threshold of the largest micro F1."""
        return Calibration(
            fit_binary_temperature(logits, labels), _best_threshold(logits, labels)
        )

    def class_probabilities(
        self, logits: np.ndarray, calibration: Calibration
    ) -> np.ndarray | None:
        """Returns the calibrated probability of each class, [n, classes]."""
        return binary_probabilities(logits, calibration.temperature)

    def answers(
        self,
        logits: np.ndarray,
        encoded: Encoded,
        classes: Classes,
        calibration: Calibration,
        *,
        unit: Unit,
    ) -> list[dict[str, Any]]:
        """Returns the labels above the threshold, the likeliest first.

        The margin is that of the weakest label over the strongest class left out; in
        logits, the least distance of a class from the threshold.
        """
        p = binary_probabilities(logits, calibration.temperature)
        distances = np.abs(logits - calibration.threshold).min(axis=-1)
        answers = []
        decided = zip(p, logits > calibration.threshold, distances, strict=True)
        for row, chosen, distance in decided:
            order = [k for k in np.argsort(-row, kind="stable") if chosen[k]]
            margin = np.min(row, initial=1.0, where=chosen)
            margin -= np.max(row, initial=0.0, where=~chosen)
            if unit == "logits":
                margin = distance
            answers.append(
                {
                    "labels": [classes[k] for k in order],
                    "probabilities": [float(row[k]) for k in order],
                    "margin": float(margin),
                }
            )
        return answers


def _refuse_class_columns(train: Records, config: DataConfig) -> None:
    """Refuses a table with a column of 0 and 1 a class in place of the label column."""
    if config.label_column in train.columns:
        return
    flags = [
        name
        for name, column in train.columns.items()
        if column.ndim == 1 and set(map(str, column)) <= _FLAGS
    ]
    if len(flags) > 1:
        names = ", ".join(f"`{escaped(name)}`" for name in flags)
        raise DataError(
            f"{train.origin}: no column `{escaped(config.label_column)}`, and {names} "
            "hold 0 and 1, a column a class; name those that are labels with "
            f"--config.data.label_columns={','.join(flags)}"
        )


def _f1(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns F1 over all decisions, and the mean of the classes'.

    By sums over columns: scikit-learn, called once a class, takes a minute for
    thousands of them. Without a label and a prediction the F1 is 0, as there.
    """
    hits = np.sum(predictions & labels, axis=0, dtype=np.int64)
    said = np.sum(predictions, axis=0, dtype=np.int64)
    said_or_so = said + np.sum(labels, axis=0, dtype=np.int64)
    of_classes = 2.0 * hits / np.maximum(said_or_so, 1)
    micro = 2.0 * hits.sum() / max(int(said_or_so.sum()), 1)
    return {"micro_f1": float(micro), "macro_f1": float(np.mean(of_classes))}


def _best_threshold(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the logit above which predicting gives the largest micro F1."""
    if not labels.any() or not np.isfinite(logits).all():
        return 0.0
    precision, recall, thresholds = precision_recall_curve(
        labels.ravel(), logits.ravel()
    )
    total = np.maximum(precision + recall, np.finfo(np.float64).tiny)
    best = int(np.argmax((2 * precision * recall / total)[:-1]))
    # The curve predicts at the threshold too; we predict above it, half-way down to
    # the next logit, where small differences between machines change nothing.
    below = thresholds[best - 1] if best else thresholds[0] - 1.0
    return float((thresholds[best] + below) / 2)


def _ece(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    p = binary_probabilities(logits, temperature)
    return expected_calibration_error(p.ravel(), labels.ravel())
