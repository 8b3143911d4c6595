"""The loop: `train_and_evaluate`, in phases."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .command.notices import notice
from .command.signals import StopRequest, stop_requests
from .config import Config, as_dict, with_margin
from .data.examples import TaskData
from .data.records import Records
from .errors import TrainerError
from .evaluation.evaluation import (
    Evaluation,
    check_metric,
    evaluate,
    split_figures,
)
from .evaluation.label_errors import note_settled_from_the_start
from .evaluation.result import Evidence, final_figures, origin
from .recipe.mesh import put_batch
from .recipe.network import with_pretrained
from .recipe.recipe import Recipe, count_labels, make_recipe
from .storage import as_folder, as_json, finite, write_json
from .targets.metric import by_name
from .tasks import prepare
from .training.bad_steps import BadStepWatch
from .training.feed import PlainFeed
from .training.feeds import make_feed
from .training.measures import hold_inputs
from .training.state import TrainState, create_state
from .training.steps import BatchInfo, train_step
from .training.sums import Sums
from .workdir.checkpoints import BestCheckpoint, LatestCheckpoint, Progress
from .workdir.finished_run import (
    ACTIVE_CLASSES,
    CLASS_COUNTS,
    OF_MARGINS,
    RUN_STATES,
)
from .workdir.log import RunLog
from .workdir.loggers import Logger, make_loggers
from .workdir.opening import opening_lines
from .workdir.workdir import (
    check_data,
    check_workdir,
    hold_workdir,
    open_workdir,
)

# Runs whose recipes differ in numbers alone compile once in one process.
_train_step = jax.jit(train_step, donate_argnums=1)
# Initialisation runs once: on a CPU, compiling it well costs seconds and saves none.
_QUICK_COMPILE = {"xla_backend_optimization_level": 0}


def train_and_evaluate(
    config: Config,
    workdir: str | os.PathLike,
    *,
    quiet: bool = False,
    records: Mapping[str, Records] | None = None,
    loggers: Sequence[Logger] = (),
) -> dict[str, Any]:
    """Trains as `config` says and returns what `workdir/result.json` holds.

    A finished run of the same configuration is not trained again, and one that was
    stopped or killed goes on from its latest checkpoint.

    Args:
      config: a checked configuration.
      workdir: the folder for all that the run writes, or an address of one.
      quiet: show nothing on the terminal.
      records: of each split, where the data are in memory.
      loggers: are told of the run, with those that the configuration names.

    Returns:
      The figures of the best checkpoint, the configuration, versions and machine.

    Raises:
      TrainerError: a bad input; the workdir is then as it was.
      Stopped: a signal ended the run; the next one goes on from there.
    """
    start, workdir = time.perf_counter(), as_folder(workdir)
    config = with_margin(config)

    # Phase 1: everything that can be refused, before anything is written.
    finished = check_workdir(workdir, config)
    if finished is not None:
        _check_finished(workdir, config, records, quiet=quiet)
        return finished
    data = prepare(config, records)
    recipe = make_recipe(config, data)
    told = [*make_loggers(config.training.loggers), *loggers]

    # Phase 2: how things stand before the first step.
    state = initial_state(recipe, seed=config.seed, labels=data.splits["train"].labels)
    before = _first_evaluation(recipe, data, state)

    # Phase 3: training. A signal that comes later finds the result about to be whole.
    with (
        hold_workdir(workdir),
        stop_requests() as stop,
        LatestCheckpoint(workdir, keep=recipe.training.keep_checkpoints) as latest,
    ):
        files = _files(data) | _loss_files(config, data, recipe, state)
        open_workdir(workdir, config, data.classes, files)
        feed = make_feed(recipe, data.splits["train"], seed=config.seed)
        state, history = _resume(latest, recipe, state, feed, start)
        with _log(workdir, config, recipe, history, told, quiet=quiet) as log:
            with _best(workdir, recipe, history) as best:
                log.lines(opening_lines(recipe, data, state.params, workdir))
                watch = _watch(recipe, state)
                run = _Run(recipe, data, feed, log, best, latest, stop, watch)
                state = _train(run, state, history)
                params = best.restore(state.params)
            log.close_bar()

            # Phase 4: the figures of the best checkpoint.
            evidence = Evidence(before, best.record, history.records)
            result = final_figures(recipe, data, params, evidence, workdir, state.held)
            result |= origin(config, data, recipe) | {"seconds": history.seconds()}
            _write_held(workdir, recipe, state)
            write_json(workdir / "result.json", result)
            log.end(result)
        latest.remove()
    return result


def _first_evaluation(recipe: Recipe, data: TaskData, state: TrainState) -> Evaluation:
    """Returns validation under the first parameters; refuses a metric it lacks."""
    before = _evaluate(recipe, data, state.params, state.held)
    check_metric(recipe.metric, _validation_figures(recipe, data, before))
    return before


def _best(workdir: Path, recipe: Recipe, history: "_History") -> BestCheckpoint:
    metric = by_name(recipe.task.target.metrics, recipe.metric)
    return BestCheckpoint(workdir, metric=metric, **history.best)


def initial_state(
    recipe: Recipe, *, seed: int, labels: np.ndarray | None = None
) -> TrainState:
    """Returns the state before the first step, on the mesh.

    Args:
      recipe: of the run.
      seed: of the parameters and of dropout.
      labels: of the training split, for a loss with extra inputs that are held.
    """
    options = _QUICK_COMPILE if jax.default_backend() == "cpu" else {}
    create = jax.jit(
        create_state,
        static_argnames="num_rows",
        compiler_options=options,
    )
    held = None
    if labels is not None:
        scorer = recipe.scorer
        num_classes = scorer.network.spec.num_classes
        held = hold_inputs(
            scorer.objective.row,
            scorer.target,
            labels,
            num_classes,
            dict(scorer.objective.keywords),
        )
    num_rows = 0 if labels is None else len(labels)
    state = create(recipe, np.uint32(seed), held, num_rows=num_rows)
    params = with_pretrained(recipe.network, state.params)
    if params is state.params:
        return state
    # A copy, for the training step donates both.
    average = None if state.average is None else jax.tree.map(jnp.copy, params)
    return state._replace(params=params, average=average)


def _check_finished(
    workdir: Path, config: Config, records: Mapping[str, Records] | None, *, quiet: bool
) -> None:
    """Says that a run is finished; refuses other data than its own, if readable.

    Raises:
      WorkdirError: they are others.
    """
    try:
        data = prepare(config, records)
    except TrainerError:
        pass  # A result may outlive its data.
    else:
        check_data(workdir, data.classes, _files(data))
    if not quiet:
        print(f"{workdir}: this run is finished already; nothing to train")


def _files(data: TaskData) -> dict[str, str]:
    """Returns what a workdir keeps of the data: the task's files, and digests."""
    digests = {k: examples.digest() for k, examples in data.every_split.items()}
    return data.files | {"data.json": as_json(digests)}


def _loss_files(
    config: Config, data: TaskData, recipe: Recipe, state: TrainState
) -> dict[str, str]:
    """Returns what a workdir keeps of the loss: class counts, where it takes them."""
    held, names = state.held or {}, recipe.objective.class_counts
    counts = {name: np.asarray(held[name]).tolist() for name in names}
    if config.loss.class_margin_power:
        counts[OF_MARGINS] = count_labels(config, data).tolist()
    return {CLASS_COUNTS: as_json(counts)} if counts else {}


def _write_held(workdir: Path, recipe: Recipe, state: TrainState) -> None:
    """Writes what the run holds at its end, where the loss takes it."""
    held, objective = state.held or {}, recipe.objective
    if names := objective.active_classes:
        met = {name: np.asarray(held[name]).tolist() for name in names}
        write_json(workdir / ACTIVE_CLASSES, met)
    if states := objective.run_states:
        leaves = {name: jax.tree.leaves(held[name]) for name in states}
        numbers = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), leaves)
        write_json(workdir / RUN_STATES, numbers)


class _Run(NamedTuple):
    """What training works with."""

    recipe: Recipe
    data: TaskData
    feed: PlainFeed
    log: RunLog
    best: BestCheckpoint
    latest: LatestCheckpoint
    stop: StopRequest
    watch: BadStepWatch


@dataclasses.dataclass
class _History:
    """What a run remembers in addition to its state; a checkpoint holds it."""

    start: float  # by time.perf_counter, as if it had never been stopped
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    best: dict[str, Any] = dataclasses.field(default_factory=dict)
    # Of the epochs since the last evaluation.
    sums: Sums = dataclasses.field(default_factory=Sums)

    def seconds(self) -> float:
        """Returns how long the run has taken, pauses left out."""
        return time.perf_counter() - self.start


def _resume(
    latest: LatestCheckpoint,
    recipe: Recipe,
    state: TrainState,
    feed: PlainFeed,
    start: float,
) -> tuple[TrainState, _History]:
    """Returns the state to go on from; what is restored also goes into the feed.

    Positions in the data are those of global batches, and so the same for any number
    of processes.
    """
    restored = latest.restore(state, feed.state_type)
    if restored is None:
        return state, _History(start)
    state, progress = restored
    history = _History(
        start=start - progress.seconds,
        records=progress.records,
        best=progress.best,
        sums=progress.sums,
    )
    there, here = progress.layout or _layout(recipe), _layout(recipe)
    feed.state = progress.feed
    notice(f"going on after {int(state.mini_step)} mini-steps")
    if there != here:
        notice(
            f"saved by {_in_words(there)}, now {_in_words(here)}: the data go on after "
            f"{feed.state.examples_seen} examples seen, and sums may round otherwise"
        )
    return state, history


def _layout(recipe: Recipe) -> dict[str, int]:
    """Returns what a run may go on with more or fewer of."""
    return {"processes": jax.process_count(), **recipe.mesh.shape}


def _in_words(layout: dict[str, int]) -> str:
    return (
        f"{layout['processes']} process(es) with {layout['data']} x {layout['model']} "
        "devices"
    )


def _log(
    workdir: Path,
    config: Config,
    recipe: Recipe,
    history: _History,
    loggers: Sequence[Logger],
    *,
    quiet: bool,
) -> RunLog:
    return RunLog(
        workdir,
        metric=recipe.metric,
        total_examples=recipe.total_examples,
        records=history.records,
        loggers=loggers,
        config=as_dict(config),
        quiet=quiet,
    )


def _watch(recipe: Recipe, state: TrainState) -> BadStepWatch:
    return BadStepWatch(
        recipe.training.max_bad_steps,
        mini_step=int(state.mini_step),
        total=int(state.bad.total),
    )


def _save(run: _Run, state: TrainState, history: _History) -> None:
    """Saves everything that the run needs to go on from here."""
    best = run.best
    best.wait()  # A state that speaks of a checkpoint must not outlive it.
    if best.record is not None:
        record = {k: finite(v) for k, v in best.record.items()}
        history.best = {"record": record, "evaluations_since": best.evaluations_since}
    progress = Progress(
        seconds=history.seconds(),
        records=[{k: finite(v) for k, v in r.items()} for r in history.records],
        best=history.best,
        sums=history.sums,
        layout=_layout(run.recipe),
        feed=run.feed.state,
    )
    run.latest.save(state, progress)


def _train(run: _Run, state: TrainState, history: _History) -> TrainState:
    """Takes every mini-step; evaluates, logs and saves at its time."""
    epochs, steps = run.recipe.training.epochs, run.recipe.training.evaluate_steps
    while run.feed.state.epoch < epochs and not _is_out_of_patience(run):
        state = _train_epoch(run, state, history)
        run.watch.look(state.bad, run.latest.described())
        trained = jax.device_get(state.sums).wide()
        history.sums += run.feed.finish_epoch(trained)
        now = run.feed.state.epoch
        due = not steps and now % run.recipe.training.evaluate_every == 0
        if due or (now == epochs and not _is_evaluated(run, history)):
            _evaluate_and_save(run, state, history)
    return state


def _is_evaluated(run: _Run, history: _History) -> bool:
    """Whether nothing was trained on since the last evaluation."""
    seen = run.feed.state.examples_seen
    return bool(history.records) and history.records[-1]["examples_seen"] == seen


def _evaluate_and_save(run: _Run, state: TrainState, history: _History) -> None:
    """Evaluates, logs, keeps the best and saves; ends the run where it was asked to."""
    history.records.append(_record(run, state, history))
    if len(history.records) == 1:
        note_settled_from_the_start(
            history.records[0]["settled_share"], run.recipe.objective.margin
        )
    history.sums = Sums()
    run.log.evaluation(history.records[-1])
    run.best.offer(history.records[-1], state.evaluated)
    _save(run, state, history)
    _check_stop(run, state, history)


def _is_out_of_patience(run: _Run) -> bool:
    patience = run.recipe.training.patience
    return bool(patience) and run.best.evaluations_since >= patience


def _train_epoch(run: _Run, state: TrainState, history: _History) -> TrainState:
    """Takes the mini-steps that are left of an epoch."""
    every, mesh = run.recipe.training.checkpoint_every, run.recipe.mesh
    steps = run.recipe.training.evaluate_steps
    first, lengths = not run.feed.has_begun, run.feed.examples.batch_lengths

    def latest() -> TrainState:
        return state

    for item in run.feed.items(latest):
        if lengths:
            run.log.batch_of(item.batch["inputs"].shape[1], lengths)
        info = BatchInfo(np.int32(item.num_seen), np.bool_(first), np.bool_(item.last))
        state = _train_step(run.recipe, state, put_batch(mesh, item.batch), info)
        first = False
        run.log.mini_step(state)
        run.watch.remember(run.feed.examples.row_numbers(item.rows))
        if run.watch.is_due:
            run.watch.look(state.bad, run.latest.described())
        if steps and run.feed.state.position % steps == 0:
            run.watch.look(state.bad, run.latest.described())
            history.sums += jax.device_get(state.sums).wide()
            # They are in the record now; the rest of the epoch adds up anew.
            state = state._replace(sums=jax.tree.map(lambda x: x * 0, state.sums))
            _evaluate_and_save(run, state, history)
            if _is_out_of_patience(run):
                break
        if run.stop.has_come(run.log.mini_steps):
            _save(run, state, history)
            _check_stop(run, state, history)
        elif every and run.log.mini_steps % every == 0:
            _save(run, state, history)
    return state


def _check_stop(run: _Run, state: TrainState, history: _History) -> None:
    """Ends the run where a signal asked for it; what there is has been saved."""
    if run.stop.has_come(run.log.mini_steps):
        run.latest.wait()
    kept = len(history.records)
    run.stop.check(f"{int(state.mini_step)} mini-steps done, {kept} evaluations kept")


def _record(run: _Run, state: TrainState, history: _History) -> dict[str, Any]:
    """Returns the object of `metrics.jsonl` for where training stands."""
    recipe, feed = run.recipe, run.feed
    mini_step, gradient_step = jax.device_get((state.mini_step, state.gradient_step))
    train, seen = history.sums.means(), feed.state.examples_seen
    validation = _evaluate(recipe, run.data, state.evaluated, state.held)
    margin = recipe.margin_at(seen)
    return {
        "mini_steps": int(mini_step),
        "gradient_steps": int(gradient_step),
        "examples_seen": seen,
        "epoch": _epochs(run),
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        "settled_share": train["settled_share"],
        **_validation_figures(recipe, run.data, validation),
        **feed.figures(),
        **{name: finite(round(value, 6)) for name, value in margin.items()},
        "learning_rate": float(recipe.rate.at(seen, seen)),
        "seconds": history.seconds(),
    }


def _epochs(run: _Run) -> int | float:
    """Returns the epochs so far; between their ends, with a fraction."""
    if not run.recipe.training.evaluate_steps:
        return run.feed.state.epoch
    return round(run.feed.state.position / run.recipe.mini_steps_per_epoch, 4)


def _evaluate(recipe: Recipe, data: TaskData, params: Any, held: Any) -> Evaluation:
    """Returns the validation split under some parameters."""
    return evaluate(
        recipe.scorer,
        params,
        data.splits["validation"],
        batch_size=recipe.training.batch_size,
        held=held,
    )


def _validation_figures(
    recipe: Recipe, data: TaskData, evaluation: Evaluation
) -> dict[str, float]:
    """Returns loss and metrics of the validation split."""
    labels, target = data.splits["validation"].labels, recipe.task.target
    return split_figures(target, data.classes, "validation", evaluation, labels)
