"""Examples of unknown classes: whether answers tell them apart, features group them.

Both are figures of the split that known examples are taken from, test or, without one,
validation.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.metrics import roc_auc_score

from as_softmax_jax.scores import max_mean_entropy_score

from ..data.examples import Examples, in_order
from ..data.pipeline import evaluation_batches
from ..recipe.mesh import put_batch, replicate
from ..recipe.scorer import Scorer
from ..targets import Calibration
from ..targets.metric import OF_OUTSIDE
from ..training.measures import Batch

# The share of known examples that the threshold of the false positive rate takes in.
_TAKEN_IN = 0.95
# Queries whose similarities to all examples are held at once.
_QUERIES = 1024


class Looked(NamedTuple):
    """What a network says of inputs without a known label, float32."""

    outputs: Any  # what the target keeps of the logits, shape=(n, ...)
    features: Any  # what the output layer is on, shape=(n, width)


def look_step(scorer: Scorer, params: Any, batch: Batch) -> Looked:
    """Returns outputs and features of a batch.

    Args:
      scorer: of the run.
      params: of the network.
      batch: `inputs` [n, ...].
    """
    output = scorer.network.apply(params, batch["inputs"], rngs=None)
    scores = scorer.network.class_scores(output.logits().astype(jnp.float32))
    outputs = scorer.target.outputs(scores * scorer.objective.scale, None)
    features = output.features.astype(jnp.float32)
    return replicate(scorer.mesh, Looked(outputs, features))


_look_step = jax.jit(look_step)


def look(scorer: Scorer, params: Any, examples: Examples, *, batch_size: int) -> Looked:
    """Returns outputs and features of every example, NumPy arrays in their order."""
    batches = evaluation_batches(examples, batch_size=batch_size)
    steps = [_look_step(scorer, params, put_batch(scorer.mesh, b)) for b in batches]
    found = jax.device_get(steps)
    return Looked(
        *(in_order(examples, list(part)) for part in zip(*found, strict=True))
    )


def outside_figures(
    scorer: Scorer,
    split: str,
    known: np.ndarray,
    outside: Looked,
    labels: np.ndarray,
    calibration: Calibration,
) -> dict[str, float]:
    """Returns how well confidence keeps what is outside apart, and features group it.

    Confidence is the answer's probability; of distances it is the score of DisMax.

    Args:
      scorer: of the run.
      split: that the known examples are of, by which figures are named.
      known: what the target kept of their logits.
      outside: what `look` returns of the other ones.
      labels: of those, by class [n]; [n, 0] where they have none.
      calibration: of the checkpoint.
    """

    def confidence(outputs: np.ndarray) -> np.ndarray:
        if scorer.objective.row.input == "distances":
            return np.asarray(max_mean_entropy_score(outputs))
        found = scorer.target.class_probabilities(outputs, calibration)
        assert found is not None, "an example has one class here"
        return found.max(axis=-1)

    values: tuple[float, ...] = separation(
        confidence(known), confidence(outside.outputs)
    )
    if labels.ndim == 1:
        values += retrieval(outside.features, labels) or ()
    named = zip(OF_OUTSIDE, values, strict=False)
    return {f"{split}_{metric.name}": value for metric, value in named}


def separation(known: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """Returns AUROC, and the share of outside taken in with 95 % of what is known.

    Args:
      known: scores of known examples, [n]; larger is more surely known.
      outside: scores of the others, [m].
    """
    is_known = np.repeat([True, False], [len(known), len(outside)])
    area = roc_auc_score(is_known, np.concatenate([known, outside]))
    # The least score that must be taken in for 95 % of the known ones.
    last = len(known) - int(np.ceil(_TAKEN_IN * len(known)))
    threshold = np.sort(known)[last]
    return float(area), float((outside >= threshold).mean())


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Returns features [n, width] scaled to length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


def retrieval(features: np.ndarray, labels: np.ndarray) -> tuple[float, float] | None:
    """Returns recall at 1 and mean average precision, by cosine.

    Each example asks all others; one without another of its class asks nothing, and
    where none asks there are no figures. Equally near ones count in their order.

    Args:
      features: [n, width].
      labels: class indices [n].
    """
    rows = unit_rows(features.astype(np.float64))
    first, precisions = [], []
    for start in range(0, len(rows), _QUERIES):
        similarities = rows[start : start + _QUERIES] @ rows.T
        for row, similar in enumerate(similarities, start):
            order = np.argsort(-similar, kind="stable")
            relevant = labels[order[order != row]] == labels[row]
            if not relevant.any():
                continue
            first.append(relevant[0])
            ranks = np.flatnonzero(relevant) + 1
            precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    if not first:
        return None
    return float(np.mean(first)), float(np.mean(precisions))
