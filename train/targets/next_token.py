"""The token that follows each token of a text."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..config import DataConfig
from ..data.examples import NO_LABEL, NO_TOKEN, Classes, Encoded
from ..data.records import Records
from ..errors import DataError
from . import Calibration, Unit
from .metric import Metric, loss
from .one_class import label_lead
from .quality import Quality
from .tags import Tags

# The order in which leads are kept.
_UNITS: tuple[Unit, ...] = ("probability", "logits")


class NextToken(Tags):
    """Labels int32 [n, length]: each token's successor, NO_LABEL at the last.

    They count as tags do, one by one. Of the logits, which have a class for each token
    of the vocabulary, a few numbers a position are kept.
    """

    labels_are_given = False
    metrics: tuple[Metric, ...] = (
        loss("tokens"),
        Metric("log_likelihood", "log likelihood", "nats", counted_over="tokens"),
        Metric("perplexity", "perplexity", "", False, counted_over="tokens"),
        Metric("accuracy", "accuracy", counted_over="tokens"),
    )
    metric = "log_likelihood"
    ranking_metric = "log_likelihood"

    def find_classes(self, train: Records, config: DataConfig) -> Classes:
        """Returns none: the classes are the vocabulary."""
        return ()

    def encode(
        self, records: Records, encoded: Encoded, classes: Classes, config: DataConfig
    ) -> np.ndarray:
        """Returns the tokens, moved up by one."""
        labels = np.full(encoded.inputs.shape, NO_LABEL, np.int32)
        following = encoded.inputs[:, 1:]
        labels[:, :-1] = np.where(following == NO_TOKEN, NO_LABEL, following)
        if (labels == NO_LABEL).all():
            raise DataError(
                f"{records.origin}: the {records.split} split has no text of two "
                "tokens or more, so no token that follows another; add one"
            )
        return labels

    def outputs(self, logits: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Returns log p_t and the label's lead in each unit, [n, length, 3].

        Without labels: the likeliest token, its probability and its lead over the
        runner-up in each unit, [n, length, 4].
        """
        if labels is None:
            best = jnp.argmax(logits, axis=-1)
            prob = jnp.max(jax.nn.softmax(logits), axis=-1)
            kept = [best.astype(jnp.float32), prob]
            return jnp.stack([*kept, *_leads(logits, best)], axis=-1)
        known = jnp.maximum(labels, 0)
        log_prob = jnp.take_along_axis(
            jax.nn.log_softmax(logits), known[..., None], axis=-1
        )
        return jnp.stack([log_prob[..., 0], *_leads(logits, known)], axis=-1)

    def score(
        self,
        outputs: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration | None = None,
    ) -> dict[str, float]:
        """Returns the mean of log p_t, the perplexity e^-mean, and the accuracy."""
        log_prob, lead, _ = outputs[labels != NO_LABEL].astype(np.float64).T
        mean = float(log_prob.mean())
        return {
            "log_likelihood": mean,
            "perplexity": float(np.exp(-mean)),
            "accuracy": float(np.mean(lead > 0)),
        }

    def quality(
        self,
        outputs: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration,
    ) -> Quality | None:
        """Returns None: no logits are kept."""
        return None

    def margins(
        self, outputs: np.ndarray, labels: np.ndarray, *, unit: Unit
    ) -> np.ndarray:
        """Returns the label's lead of every token but a text's first."""
        return outputs[labels != NO_LABEL][:, 1 + _UNITS.index(unit)]

    def contradiction(
        self, outputs: np.ndarray, label: np.ndarray, classes: Classes, *, unit: Unit
    ) -> dict[str, Any]:
        """Returns the token that leads least; what was predicted is not kept."""
        worst = self.margins(outputs, label, unit=unit).argmin()
        return {"label": classes[label[label != NO_LABEL][worst]]}

    def calibrate(self, outputs: np.ndarray, labels: np.ndarray) -> Calibration:
        """Returns a temperature of 1: no logits are kept to fit another."""
        return Calibration(temperature=1.0, threshold=0.0)

    def answers(
        self,
        outputs: np.ndarray,
        encoded: Encoded,
        classes: Classes,
        calibration: Calibration,
        *,
        unit: Unit,
    ) -> list[dict[str, Any]]:
        """Returns what follows each text: a token, its probability and its margin."""
        assert encoded.lengths is not None, "texts are sequences"
        answers: list[dict[str, Any]] = []
        for row, length in zip(outputs, encoded.lengths, strict=True):
            if not length:
                answers.append({"next": None, "probability": None, "margin": None})
                continue
            token, prob, *margins = row[length - 1].tolist()
            margin = margins[_UNITS.index(unit)]
            answers.append(
                {"next": classes[int(token)], "probability": prob, "margin": margin}
            )
        return answers


def _leads(logits: jax.Array, labels: jax.Array) -> list[jax.Array]:
    """Returns the lead of labels, in each unit."""
    return [label_lead(logits, labels, unit=unit) for unit in _UNITS]
