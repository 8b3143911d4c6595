"""What a finished run reports: the figures of its best checkpoint, and where from."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import as_softmax_jax

from ..config import Config, as_dict
from ..data.examples import TaskData
from ..recipe.recipe import Recipe
from ..storage import finite, write_arrays, write_json
from ..targets import Calibration, Unit
from ..targets.metric import OF_OUTSIDE, OF_SETS, Metric
from ..training.measures import Held
from .evaluation import Evaluation, calibrate, evaluate, outputs_of, split_figures
from .label_errors import Suspicion, find_suspicion, note_never_learned
from .outside import look, outside_figures

# What the rows under `suspicious` hold, in their order.
SUSPICIOUS_INPUTS = "suspicious_inputs.json"
# Of the histograms of margins that a result keeps, in each unit.
_MARGIN_EDGES: dict[Unit, np.ndarray] = {
    "probability": np.linspace(-1.0, 1.0, 41),
    "logits": np.linspace(-10.0, 10.0, 41),
}

# As many names as a result holds.
_MOST_CLASSES = 1000


class Evidence(NamedTuple):
    """What training leaves behind in addition to parameters."""

    before: Evaluation  # of validation, under the parameters before the first step
    best: dict[str, Any] | None  # the record of the best checkpoint
    records: list[dict[str, Any]]  # of all evaluations


def final_figures(
    recipe: Recipe,
    data: TaskData,
    params: Any,
    evidence: Evidence,
    workdir: Path,
    held: Held | None = None,
) -> dict[str, Any]:
    """Returns the figures of the best checkpoint; writes calibration and margins.

    Args:
      recipe: of the run.
      data: of the run.
      params: of the best checkpoint.
      evidence: what training has left behind.
      workdir: for `calibration.json` and `margins.npz`.
      held: extra inputs of the loss, of the run.
    """
    best, records = evidence.best, evidence.records
    assert best is not None, "the last mini-step is always evaluated"
    splits = _splits(recipe, data, params, evidence, held)
    calibration, figures, margins = splits.calibration, splits.figures, splits.margins
    unit = recipe.objective.unit
    write_arrays(workdir / "margins.npz", **margins[unit])
    write_json(workdir / "calibration.json", calibration._asdict())
    suspicion = _suspicion(recipe, data, params, held)
    # Apart from the result, which may go where the data must not.
    write_json(workdir / SUSPICIOUS_INPUTS, suspicion.inputs)
    note_never_learned(
        suspicion.never_learned,
        num_classes=len(data.classes),
        accuracy=records[-1]["train_accuracy"],
        steps=records[-1]["gradient_steps"],
    )
    counters = ("mini_steps", "gradient_steps", "examples_seen", "settled_share")
    return {
        "task": recipe.network.task,
        "metric": recipe.metric,
        "metrics": _described(recipe, data),
        "best_epoch": best["epoch"],
        "best_mini_steps": best["mini_steps"],
        **figures,
        **{name: records[-1][name] for name in ("train_loss", "train_accuracy")},
        **{name: records[-1][name] for name in counters},
        "calibration": calibration._asdict(),
        "quality": splits.quality,
        "records": [{k: finite(v) for k, v in r.items()} for r in records],
        # Of `margins.npz`, and of the margins of `suspicious`.
        "margin_unit": unit,
        "margins": _histograms(margins, "probability"),
        "logit_margins": _histograms(margins, "logits"),
        "suspicious": suspicion.rows,
        "never_learned": suspicion.never_learned,
    }


def origin(config: Config, data: TaskData, recipe: Recipe) -> dict[str, Any]:
    """Returns what a result came from: classes, configuration, versions, machine."""
    return {
        "num_classes": len(data.classes),
        # Of a vocabulary the first ones; `classes.json` has all.
        "classes": list(data.classes[:_MOST_CLASSES]),
        "examples": {split: len(rows) for split, rows in data.every_split.items()},
        "config": as_dict(config),
        "versions": _versions(),
        "machine": _machine(recipe),
    }


class _Splits(NamedTuple):
    """What the splits say of the best checkpoint."""

    quality: dict[str, Any] | None  # of test, or of validation where there is none

    calibration: Calibration
    figures: dict[str, float]
    # Of validation, before and after training, in each unit.
    margins: dict[Unit, dict[str, np.ndarray]]


def _splits(
    recipe: Recipe,
    data: TaskData,
    params: Any,
    evidence: Evidence,
    held: Held | None,
) -> _Splits:
    """Evaluates validation, which calibrates, and the test split where there is one."""
    target, size = recipe.task.target, recipe.training.batch_size
    evaluated = {
        split: evaluate(recipe.scorer, params, examples, batch_size=size, held=held)
        for split, examples in data.splits.items()
        if split != "train"
    }
    labels = data.splits["validation"].labels
    after = evaluated["validation"].outputs
    calibration = calibrate(recipe.scorer, evaluated["validation"], labels)
    figures: dict[str, float] = {}
    for split, evaluation in evaluated.items():
        figures |= split_figures(
            target,
            data.classes,
            split,
            evaluation,
            data.splits[split].labels,
            calibration,
        )
    outputs = {"before": evidence.before.outputs, "after": after}
    margins: dict[Unit, dict[str, np.ndarray]] = {
        unit: {
            when: target.margins(kept, labels, unit=unit)
            for when, kept in outputs.items()
        }
        for unit in _MARGIN_EDGES
    }
    last = list(evaluated)[-1]
    if data.outside is not None:
        figures |= outside_figures(
            recipe.scorer,
            last,
            evaluated[last].outputs,
            look(recipe.scorer, params, data.outside, batch_size=size),
            data.outside.labels,
            calibration,
        )
    found = target.quality(
        evaluated[last].outputs, data.splits[last].labels, data.classes, calibration
    )
    quality = None if found is None else {"split": last, **found._asdict()}
    return _Splits(quality, calibration, figures, margins)


def _described(recipe: Recipe, data: TaskData) -> dict[str, dict[str, Any]]:
    """Returns what each metric says of itself, as JSON can hold it."""
    more: tuple[Metric, ...] = OF_SETS if recipe.scorer.answers_sets else ()
    more += OF_OUTSIDE if data.outside is not None else ()
    return {
        metric.name: {k: v for k, v in metric._asdict().items() if k != "name"}
        for metric in (*recipe.task.target.metrics, *more)
    }


def _suspicion(
    recipe: Recipe, data: TaskData, params: Any, held: Held | None
) -> Suspicion:
    """Returns what the network says against its training labels, if it is asked to."""
    examples, count = data.splits["train"], recipe.training.suspicious_rows
    target, size = recipe.task.target, recipe.training.batch_size
    if not count or not target.labels_are_given:
        return Suspicion([], [])

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order, start = examples.order, 0
        for found in outputs_of(
            recipe.scorer, params, examples, batch_size=size, held=held
        ):
            rows = order[start : start + size]
            yield rows, jax.device_get(found.outputs)[: len(rows)]
            start += len(rows)

    return find_suspicion(
        target,
        examples,
        batches(),
        data.classes,
        unit=recipe.objective.unit,
        count=count,
    )


def _histograms(
    margins: dict[Unit, dict[str, np.ndarray]], unit: Unit
) -> dict[str, list[float]]:
    """Returns how many margins lie in each of 40 bins, before and after training.

    What is beyond the outer edges is in the outer bins.
    """
    edges = _MARGIN_EDGES[unit]
    counts = {
        name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
        for name, values in margins[unit].items()
    }
    return {"edges": edges.round(6).tolist()} | counts


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
