"""The figures of a run: of a split under parameters, and of the whole in the end."""

import functools
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import as_softmax_jax
from train.config import Config, as_dict, nearest
from train.data.examples import Examples, TaskData
from train.data.pipeline import evaluation_batches
from train.errors import ConfigError
from train.evaluation.label_errors import Suspicion, find_suspicion, note_never_learned
from train.recipe.mesh import put_batch
from train.recipe.recipe import Recipe
from train.targets import Calibration
from train.training.steps import Evaluated, eval_step
from train.training.sums import Sums
from train.workdir.log import finite
from train.workdir.workdir import write_arrays, write_json

_eval_step = jax.jit(eval_step, static_argnums=0)
# Of the histogram of margins that a result keeps.
_MARGIN_EDGES = np.linspace(-1.0, 1.0, 41)


class Evaluation(NamedTuple):
    """A split under the parameters of a moment."""

    means: dict[str, float]  # loss, accuracy, settled_share
    reading: np.ndarray  # what the target read, shape=(n, ...), in the split's order


class Evidence(NamedTuple):
    """What training leaves behind, beside parameters."""

    before: Evaluation  # of validation, under the parameters before the first step
    best: dict[str, Any] | None  # the record of the best checkpoint
    records: list[dict[str, Any]]  # of all evaluations


def evaluate(recipe: Recipe, params: Any, examples: Examples) -> Evaluation:
    """Returns the means and the readings of every example of a split.

    Args:
      recipe: of the run.
      params: of the network at this moment.
      examples: the split; its last batch is padded, and the padding cut off again.
    """
    outputs = jax.device_get(list(_outputs(recipe, params, examples)))
    sums = functools.reduce(Sums.__add__, (output.sums.wide() for output in outputs))
    return Evaluation(sums.means(), in_order(examples, [o.reading for o in outputs]))


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


def final_figures(
    recipe: Recipe,
    data: TaskData,
    params: Any,
    evidence: Evidence,
    workdir: Path,
) -> dict[str, Any]:
    """Returns the figures of the best checkpoint; writes calibration and margins.

    Args:
      recipe: of the run.
      data: of the run.
      params: of the best checkpoint.
      evidence: what training has left behind.
      workdir: for `calibration.json` and `margins.npz`.
    """
    before, best, records = evidence
    assert best is not None, "the last mini-step is always evaluated"
    target, labels = recipe.task.target, data.splits["validation"].labels
    after = evaluate(recipe, params, data.splits["validation"])
    calibration = target.calibrate(after.reading, labels)
    figures = split_figures(recipe, data, "validation", after, calibration)
    if "test" in data.splits:
        test = evaluate(recipe, params, data.splits["test"])
        figures |= split_figures(recipe, data, "test", test, calibration)
    margins = {
        "before": target.margins(before.reading, labels),
        "after": target.margins(after.reading, labels),
    }
    write_arrays(workdir / "margins.npz", **margins)
    suspicion = _suspicion(recipe, data, params)
    note_never_learned(suspicion.never_learned)
    write_json(workdir / "calibration.json", calibration._asdict())
    counters = ("mini_steps", "gradient_steps", "examples_seen", "settled_share")
    return {
        "task": recipe.network.task,
        "metric": recipe.metric,
        "best_epoch": best["epoch"],
        "best_mini_steps": best["mini_steps"],
        **figures,
        **{name: records[-1][name] for name in ("train_loss", "train_accuracy")},
        **{name: records[-1][name] for name in counters},
        "calibration": calibration._asdict(),
        "records": [{k: finite(v) for k, v in r.items()} for r in records],
        "margins": _histograms(margins),
        "suspicious": suspicion.rows,
        "never_learned": suspicion.never_learned,
    }


def origin(config: Config, data: TaskData, recipe: Recipe) -> dict[str, Any]:
    """Returns what a result came from: classes, configuration, versions, machine."""
    return {
        "classes": list(data.classes),
        "config": as_dict(config),
        "versions": _versions(),
        "machine": _machine(recipe),
    }


def _outputs(recipe: Recipe, params: Any, examples: Examples) -> Iterator[Evaluated]:
    """Yields what the evaluation step says of each batch, in `examples.order`."""
    for batch in evaluation_batches(examples, batch_size=recipe.training.batch_size):
        yield _eval_step(recipe, params, put_batch(recipe.mesh, batch))


def _suspicion(recipe: Recipe, data: TaskData, params: Any) -> Suspicion:
    """Returns what the network says against its training labels, if it is asked to."""
    examples, count = data.splits["train"], recipe.training.suspicious_rows
    # The labels of a text are its own tokens, none of which is wrong.
    if not count or data.spec.causal:
        return Suspicion([], [])

    def readings() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order, start = examples.order, 0
        for output in _outputs(recipe, params, examples):
            rows = order[start : start + recipe.training.batch_size]
            yield rows, jax.device_get(output.reading)[: len(rows)]
            start += len(rows)

    return find_suspicion(
        recipe.task.target, examples, readings(), data.classes, count=count
    )


def _histograms(margins: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Returns how many margins lie in each of 40 bins, before and after training."""
    counts = {
        name: np.histogram(np.clip(values, -1.0, 1.0), _MARGIN_EDGES)[0].tolist()
        for name, values in margins.items()
    }
    return {"edges": _MARGIN_EDGES.round(6).tolist()} | counts


def _versions() -> dict[str, str]:
    own = {
        "python": platform.python_version(),
        "as_softmax_jax": as_softmax_jax.__version__,
    }
    packages = ("jax", "jaxlib", "flax", "optax", "grain", "numpy")
    return own | {package: version(package) for package in packages}


def _machine(recipe: Recipe) -> dict[str, Any]:
    """Returns what ran it."""
    return {
        "platform": sys.platform,
        "processor": platform.machine(),
        "device": jax.devices()[0].device_kind,
        "devices": int(recipe.mesh.size),
        "processes": jax.process_count(),
    }
