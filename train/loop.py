"""The loop: `train_and_evaluate`, in phases."""

import functools
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import as_softmax_jax
from train.checkpoints import BestCheckpoint
from train.config import Config, as_dict, nearest
from train.data.examples import Examples, TaskData
from train.data.pipeline import evaluation_batches, training_batches
from train.errors import ConfigError
from train.metrics import Sums
from train.optimizer import learning_rate_schedule
from train.progress import Progress, finite
from train.recipe import Recipe, make_recipe
from train.sharding import put_batch
from train.signals import StopRequest, stop_requests
from train.state import TrainState, create_state, load_pretrained
from train.steps import eval_step, train_step
from train.targets import Calibration
from train.tasks import prepare
from train.workdir import check_workdir, open_workdir, write_arrays, write_json

# The recipe is static: runs with equal recipes in one process compile once.
_train_step = jax.jit(train_step, static_argnums=0, donate_argnums=1)
_eval_step = jax.jit(eval_step, static_argnums=0)
# Initialisation runs once: on a CPU, compiling it well costs seconds and saves none.
_QUICK_COMPILE = {"xla_backend_optimization_level": 0}


# Of the histogram of margins that a result keeps.
_MARGIN_EDGES = np.linspace(-1.0, 1.0, 41)


class Evaluation(NamedTuple):
    """A split under the parameters of a moment."""

    means: dict[str, float]  # loss, accuracy, settled_share
    logits: np.ndarray  # shape=(n, ..., classes), in the order of the split


def train_and_evaluate(
    config: Config, workdir: str | Path, *, quiet: bool = False
) -> dict[str, Any]:
    """Trains as `config` says and returns what `workdir/result.json` holds.

    A finished run of the same configuration is not trained again.

    Args:
      config: a checked configuration.
      workdir: the folder for config, class names, metrics, the best checkpoint,
        margins and result.
      quiet: show nothing on the terminal.

    Returns:
      The figures of the best checkpoint, the configuration, versions and machine.

    Raises:
      TrainerError: a bad input; the workdir is then as it was.
      Stopped: a signal ended the run; what was logged is kept.
    """
    start, workdir = time.perf_counter(), Path(workdir)

    # Phase 1: everything that can be refused, before anything is written.
    finished = check_workdir(workdir, config)
    if finished is not None:
        if not quiet:
            print(f"{workdir}: this run is finished already; nothing to train")
        return finished
    data = prepare(config)
    recipe = make_recipe(config, data)

    # Phase 2: how things stand before the first step, then the run's folder.
    state = initial_state(recipe, seed=config.seed)
    before = evaluate(recipe, state.params, data.splits["validation"])
    _check_metric(recipe, before, data)
    open_workdir(workdir, config, data)

    # Phase 3: training. A signal that comes later finds the result about to be whole.
    with stop_requests() as stop:
        metric, total = recipe.metric, recipe.total_examples
        with (
            Progress(workdir, metric=metric, total_examples=total, quiet=quiet) as log,
            BestCheckpoint(workdir, metric=metric) as best,
        ):
            run = _Run(recipe, data, log, best, stop, start)
            state, records = _train(run, state, seed=config.seed)
            params = best.restore(state.params)

        # Phase 4: the figures of the best checkpoint.
        result = _figures(run, records, params, before, workdir)
        result |= {"seconds": time.perf_counter() - start}
        result |= {"classes": list(data.classes), "config": as_dict(config)}
        result |= {"versions": _versions(), "machine": _machine(recipe)}
        write_json(workdir / "result.json", result)
    return result


def initial_state(recipe: Recipe, *, seed: int) -> TrainState:
    """Returns the state before the first step, on the mesh."""
    options = _QUICK_COMPILE if jax.default_backend() == "cpu" else {}
    create = jax.jit(create_state, static_argnums=0, compiler_options=options)
    state = create(recipe, np.uint32(seed))
    return load_pretrained(recipe, state)


def evaluate(recipe: Recipe, params: Any, examples: Examples) -> Evaluation:
    """Returns the means and the logits of every example of a split.

    Args:
      recipe: of the run.
      params: of the network at this moment.
      examples: the split; its last batch is padded, and the padding cut off again.
    """
    outputs = []
    for batch in evaluation_batches(examples, batch_size=recipe.training.batch_size):
        outputs.append(_eval_step(recipe, params, put_batch(recipe.mesh, batch)))
    outputs = jax.device_get(outputs)
    sums = functools.reduce(Sums.__add__, (_wide(output.sums) for output in outputs))
    return Evaluation(sums.means(), in_order(examples, [o.logits for o in outputs]))


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


class _Run(NamedTuple):
    """What training works with and does not change."""

    recipe: Recipe
    data: TaskData
    log: Progress
    best: BestCheckpoint
    stop: StopRequest
    start: float  # of the run, by time.perf_counter


def _train(
    run: _Run, state: TrainState, *, seed: int
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Takes every mini-step; evaluates, logs and keeps the best at its time."""
    recipe, patience = run.recipe, run.recipe.training.patience
    records: list[dict[str, Any]] = []
    batches = training_batches(
        run.data.splits["train"],
        batch_size=recipe.training.batch_size,
        epochs=recipe.training.epochs,
        seed=seed,
    )
    for mini_step, batch in enumerate(batches, start=1):
        state = _train_step(recipe, state, put_batch(recipe.mesh, batch))
        run.log.mini_step(state)
        run.stop.check(f"{mini_step} mini-steps done, {len(records)} evaluations kept")
        last = mini_step == recipe.total_mini_steps
        if last or mini_step % recipe.mini_steps_per_evaluation == 0:
            records.append(_record(run, state))
            run.log.evaluation(records[-1])
            run.best.offer(records[-1], state.params)
            if patience and run.best.evaluations_since >= patience:
                break
    return state, records


def _record(run: _Run, state: TrainState) -> dict[str, Any]:
    """Returns the object of `metrics.jsonl` for this moment."""
    recipe = run.recipe
    sums, mini_step, gradient_step, seen = jax.device_get(
        (state.sums, state.mini_step, state.gradient_step, state.examples_seen)
    )
    train = sums.means()
    validation = evaluate(recipe, state.params, run.data.splits["validation"])
    rate = learning_rate_schedule(
        recipe.optimizer, total_examples=recipe.total_examples
    )
    return {
        "mini_steps": int(mini_step),
        "gradient_steps": int(gradient_step),
        "examples_seen": int(seen),
        "epoch": int(mini_step) // recipe.mini_steps_per_epoch,
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        "settled_share": train["settled_share"],
        **split_figures(recipe, run.data, "validation", validation, None),
        "delta": round(float(recipe.objective.delta_at(int(mini_step))), 6),
        "learning_rate": float(rate(int(seen))),
        "seconds": time.perf_counter() - run.start,
    }


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
        evaluation.logits, labels, data.classes, calibration
    )
    return {f"{split}_{name}": value for name, value in figures.items()}


def _wide(sums: Sums) -> Sums:
    """Returns sums that do not lose digits over many batches."""
    return Sums(*(np.float64(value) for value in sums))


def _check_metric(recipe: Recipe, before: Evaluation, data: TaskData) -> None:
    """Refuses a metric that no evaluation will have."""
    there = split_figures(recipe, data, "validation", before, None)
    names = [name.removeprefix("validation_") for name in there]
    if recipe.metric not in names:
        raise ConfigError(
            f"`training.metric`: no {recipe.metric!r}; {nearest(recipe.metric, names)}"
        )


def _figures(
    run: _Run,
    records: list[dict[str, Any]],
    params: Any,
    before: Evaluation,
    workdir: Path,
) -> dict[str, Any]:
    """Returns the figures of the best checkpoint; writes calibration and margins."""
    recipe, data, target = run.recipe, run.data, run.recipe.task.target
    labels, best = data.splits["validation"].labels, run.best.record
    assert best is not None, "the last mini-step is always evaluated"
    after = evaluate(recipe, params, data.splits["validation"])
    calibration = target.calibrate(after.logits, labels)
    figures = split_figures(recipe, data, "validation", after, calibration)
    if "test" in data.splits:
        test = evaluate(recipe, params, data.splits["test"])
        figures |= split_figures(recipe, data, "test", test, calibration)
    margins = {
        "before": target.margins(before.logits, labels),
        "after": target.margins(after.logits, labels),
    }
    write_arrays(workdir / "margins.npz", **margins)
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
    }


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
