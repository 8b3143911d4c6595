"""A split under the parameters of a moment: its means and its metrics."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from train.config import nearest
from train.data.examples import Examples, TaskData, in_order
from train.data.pipeline import evaluation_batches
from train.errors import ConfigError
from train.recipe.mesh import put_batch
from train.recipe.recipe import Recipe
from train.targets import Calibration
from train.training.steps import Evaluated, eval_step
from train.training.sums import Sums

_eval_step = jax.jit(eval_step, static_argnums=0)


class Evaluation(NamedTuple):
    """A split under the parameters of a moment."""

    means: dict[str, float]  # loss, accuracy, settled_share
    reading: np.ndarray  # what the target read, shape=(n, ...), in the split's order


def evaluate(recipe: Recipe, params: Any, examples: Examples) -> Evaluation:
    """Returns the means and the readings of every example of a split.

    Args:
      recipe: of the run.
      params: of the network at this moment.
      examples: the split; its last batch is padded, and the padding cut off again.
    """
    outputs = jax.device_get(list(outputs_of(recipe, params, examples)))
    sums = functools.reduce(Sums.__add__, (output.sums.wide() for output in outputs))
    return Evaluation(sums.means(), in_order(examples, [o.reading for o in outputs]))


def split_figures(
    recipe: Recipe,
    data: TaskData,
    split: str,
    evaluation: Evaluation,
    calibration: Calibration | None,
) -> dict[str, float]:
    """Returns loss and metrics of a split, under names such as test_accuracy.

    Args:
      recipe: of the run.
      data: with the split.
      split: its name.
      evaluation: what `evaluate` says of it.
      calibration: of the checkpoint, where there is one.
    """
    labels = data.splits[split].labels
    figures = {"loss": evaluation.means["loss"]} | recipe.task.target.metrics(
        evaluation.reading, labels, data.classes, calibration
    )
    return {f"{split}_{name}": value for name, value in figures.items()}


def check_metric(recipe: Recipe, before: Evaluation, data: TaskData) -> None:
    """Refuses a metric that no evaluation will have.

    Raises:
      ConfigError: `training.metric` is such a metric.
    """
    there = split_figures(recipe, data, "validation", before, None)
    names = [name.removeprefix("validation_") for name in there]
    if recipe.metric not in names:
        raise ConfigError(
            f"`training.metric`: no {recipe.metric!r}; {nearest(recipe.metric, names)}"
        )


def outputs_of(recipe: Recipe, params: Any, examples: Examples) -> Iterator[Evaluated]:
    """Yields what the evaluation step says of each batch, in `examples.order`."""
    for batch in evaluation_batches(examples, batch_size=recipe.training.batch_size):
        yield _eval_step(recipe, params, put_batch(recipe.mesh, batch))
