"""A split under some parameters: its means, its metrics, and what is kept of it."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..config import nearest
from ..data.examples import Classes, Examples, in_order
from ..data.pipeline import evaluation_batches
from ..errors import ConfigError
from ..recipe.mesh import put_batch, replicate
from ..recipe.network import Network
from ..recipe.scorer import Scorer
from ..targets import Calibration, Target
from ..tasks import find_task
from ..training.measures import Batch, Held, measure
from ..training.sums import Sums
from .answer_sets import set_figures, set_level


class Evaluated(NamedTuple):
    """What an evaluation step says of its batch."""

    sums: Sums
    outputs: jax.Array  # what the target keeps of the logits, shape=(n, ...)
    # Logits of a second output layer that answers with sets, shape=(n, classes).
    set_logits: jax.Array | None = None


class Evaluation(NamedTuple):
    """A split under some parameters."""

    means: dict[str, float]  # loss, accuracy, settled_share
    outputs: np.ndarray  # what the target kept, shape=(n, ...), in the split's order
    set_logits: np.ndarray | None = None  # shape=(n, classes), in that order


def eval_step(
    scorer: Scorer, params: Any, batch: Batch, held: Held | None = None
) -> Evaluated:
    """Returns the sums of a batch, and what the target keeps of its logits.

    The loss is the training loss under the margin's value between a warm-up and a
    cool-down, so that all evaluations of a run compare.

    Args:
      scorer: of the run.
      params: of the network.
      batch: as for `train_step`.
      held: extra inputs of the loss, of the run.

    Returns:
      Sums over the valid rows; outputs of all, padding included.
    """
    target, objective = scorer.target, scorer.objective
    output = scorer.network.apply(params, batch["inputs"], rngs=None)
    logits = output.logits()
    measures = measure(
        scorer,
        logits,
        batch,
        objective.for_labels(objective.final_keywords, batch["labels"]),
        output=output,
        held=held,
    )
    scores = scorer.network.class_scores(logits.astype(jnp.float32))
    kept = target.outputs(scores * objective.scale, batch["labels"])
    sums = measures.sums(target.where(batch))
    sets = output.other_logits() if scorer.answers_sets else None
    sets = None if sets is None else sets.astype(jnp.float32)
    return replicate(scorer.mesh, Evaluated(sums, kept, sets))


class Predicted(NamedTuple):
    """What a network says of inputs without labels."""

    outputs: jax.Array  # what the target keeps of the logits, shape=(n, ...)
    # Logits of a second output layer, where there is one, shape=(n, ..., classes).
    other_logits: jax.Array | None


def predict_step(network: Network, params: Any, batch: Batch) -> Predicted:
    """Returns what the network says of inputs without labels.

    Args:
      network: static under jit.
      params: of the network.
      batch: `inputs` [n, ...].
    """
    output = network.apply(params, batch["inputs"], rngs=None)
    target = find_task(network.task).target
    scores = network.class_scores(output.logits().astype(jnp.float32))
    other = output.other_logits()
    other = None if other is None else other.astype(jnp.float32)
    return Predicted(target.outputs(scores, None), other)


_eval_step = jax.jit(eval_step)


def evaluate(
    scorer: Scorer,
    params: Any,
    examples: Examples,
    *,
    batch_size: int,
    held: Held | None = None,
) -> Evaluation:
    """Returns the means of a split, and what is kept of every example.

    Args:
      scorer: of the run.
      params: of the network.
      examples: the split; its last batch is padded, and the padding cut off again.
      batch_size: of a batch over all devices.
      held: extra inputs of the loss, of the run.
    """
    steps = outputs_of(scorer, params, examples, batch_size=batch_size, held=held)
    found = jax.device_get(list(steps))
    sums = functools.reduce(Sums.__add__, (output.sums.wide() for output in found))
    kept = in_order(examples, [output.outputs for output in found])
    sets = None
    if scorer.answers_sets:
        sets = in_order(examples, [output.set_logits for output in found])
    return Evaluation(sums.means(), kept, sets)


def outputs_of(
    scorer: Scorer,
    params: Any,
    examples: Examples,
    *,
    batch_size: int,
    held: Held | None = None,
) -> Iterator[Evaluated]:
    """Yields what the evaluation step says of each batch, in `examples.order`."""
    for batch in evaluation_batches(examples, batch_size=batch_size):
        yield _eval_step(scorer, params, put_batch(scorer.mesh, batch), held)


def split_figures(
    target: Target,
    classes: Classes,
    split: str,
    evaluation: Evaluation,
    labels: np.ndarray,
    calibration: Calibration | None = None,
) -> dict[str, float]:
    """Returns loss and metrics of a split, under names such as test_accuracy.

    Args:
      target: the kind of answer.
      classes: by number.
      split: its name.
      evaluation: what `evaluate` says of it.
      labels: of the split.
      calibration: of the checkpoint, where there is one.
    """
    figures = {"loss": evaluation.means["loss"]} | target.score(
        evaluation.outputs, labels, classes, calibration
    )
    named = {f"{split}_{name}": value for name, value in figures.items()}
    if calibration is None or evaluation.set_logits is None:
        return named
    level = calibration.threshold
    return named | set_figures(split, evaluation.set_logits, labels, level)


def calibrate(
    scorer: Scorer, evaluation: Evaluation, labels: np.ndarray
) -> Calibration:
    """Returns what fits the validation split best.

    Args:
      scorer: of the run.
      evaluation: of the split.
      labels: of the split.
    """
    found = scorer.target.calibrate(evaluation.outputs, labels)
    sets, size = evaluation.set_logits, scorer.objective.set_size
    if sets is None or size is None:
        return found
    return found._replace(threshold=set_level(sets, size))


def check_metric(metric: str, figures: dict[str, float]) -> None:
    """Refuses a metric that no evaluation will have.

    Args:
      metric: of `training.metric`.
      figures: of an evaluation of the validation split.

    Raises:
      ConfigError: it has no such metric.
    """
    names = [name.removeprefix("validation_") for name in figures]
    if metric not in names:
        raise ConfigError(f"`training.metric`: no {metric!r}; {nearest(metric, names)}")
