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
from train.config import Config, as_dict
from train.data.examples import TaskData
from train.evaluation.evaluation import Evaluation, evaluate, outputs_of, split_figures
from train.evaluation.label_errors import Suspicion, find_suspicion, note_never_learned
from train.recipe.recipe import Recipe
from train.storage import finite, write_arrays, write_json

# Of the histogram of margins that a result keeps.
_MARGIN_EDGES = np.linspace(-1.0, 1.0, 41)


class Evidence(NamedTuple):
    """What training leaves behind, beside parameters."""

    before: Evaluation  # of validation, under the parameters before the first step
    best: dict[str, Any] | None  # the record of the best checkpoint
    records: list[dict[str, Any]]  # of all evaluations


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


def _suspicion(recipe: Recipe, data: TaskData, params: Any) -> Suspicion:
    """Returns what the network says against its training labels, if it is asked to."""
    examples, count = data.splits["train"], recipe.training.suspicious_rows
    # The labels of a text are its own tokens, none of which is wrong.
    if not count or data.spec.causal:
        return Suspicion([], [])

    def readings() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order, start = examples.order, 0
        for output in outputs_of(recipe, params, examples):
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
