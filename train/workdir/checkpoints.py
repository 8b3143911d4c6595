"""Checkpoints by orbax, whole or not there: the best parameters, and the latest state.

The best parameters are for use, see `train.workdir.finished_run`. The latest state is
all that a run needs to go on as if it had never stopped; it goes when the run is
finished.
"""

import logging
import math
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from ..command.notices import notice
from ..command.processes import is_first, wait_for_all
from ..errors import WorkdirError, reason
from ..storage import absolute, check_space
from ..targets.metric import Metric
from ..training.feed import FeedState
from ..training.state import TrainState
from ..training.sums import Sums

_BEST, _LATEST = "checkpoints/best", "checkpoints/latest"

# Orbax tells of every step that it takes, warns of what it was asked to do, and shows
# in full what it then raises.
logging.getLogger("absl").setLevel(logging.CRITICAL)


class Progress(NamedTuple):
    """What a run knows of itself in addition to its training state."""

    seconds: float  # so far, pauses left out
    records: list[dict[str, Any]]  # of all evaluations
    best: dict[str, Any]  # the best record, and how many evaluations came after it
    sums: Sums  # of the epochs since the last evaluation
    layout: dict[str, int]  # processes and devices; empty where none was saved
    feed: FeedState

    def saved(self) -> dict[str, Any]:
        """Returns the fields as numbers, lists, dicts and arrays; the feed's, too."""
        fields = {k: v for k, v in self._asdict().items() if k != "feed"}
        sums = [float(value) for value in self.sums]
        return fields | {"sums": sums} | self.feed.saved()

    @classmethod
    def restored(cls, saved: dict[str, Any], feed: type[FeedState]) -> Self:
        """Returns what `saved` gave; a field that it has not raises KeyError."""
        return cls(
            seconds=saved["seconds"],
            records=saved["records"],
            best=saved["best"],
            sums=Sums(*saved["sums"]),
            layout=saved.get("layout", {}),
            feed=feed.restored(saved),
        )


class BestCheckpoint:
    """Keeps the parameters of the best evaluation; a context manager.

    Of equals that with the least loss stays, the first where losses are equal too; an
    evaluation whose metric is not a number beats none.

    Args:
      workdir: of the run.
      metric: of validation; it says whether a larger value is the better one.
      record: of the best evaluation so far, where a run goes on; without it what the
        folder holds is of no use, and is removed.
      evaluations_since: how many came after it.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        metric: Metric,
        record: dict[str, Any] | None = None,
        evaluations_since: int = 0,
    ):
        # Two, for a run that is killed before its state is saved needs the one before.
        self._manager = _open(workdir / _BEST, keep=2, fresh=record is None)
        for step in self._manager.all_steps():
            if record is not None and step > record["mini_steps"]:
                self._manager.delete(step)
        self._metric = metric
        self._sign = 1.0 if metric.larger_is_better else -1.0
        self.record, self.evaluations_since = record, evaluations_since

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def offer(self, record: dict[str, Any], params: Any) -> None:
        """Saves the parameters if no evaluation before was as good.

        One that is better by its loss alone is saved, and is no news for patience.

        Args:
          record: of the evaluation, as in metrics.jsonl.
          params: of the network; they are copied before this returns.
        """
        best = self.record
        better = best is None or self._value(record) > self._value(best)
        self.evaluations_since = 0 if better else self.evaluations_since + 1
        if best is not None and self._rank(record) <= self._rank(best):
            return
        self.record = record
        arguments = ocp.args.Composite(params=ocp.args.StandardSave(params))
        _save(self._manager, record["mini_steps"], arguments, size=_size(params))

    def wait(self) -> None:
        """Returns once what was saved is on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> Any:
        """Returns the saved parameters, laid out as `like` is."""
        self.wait()
        assert self.record is not None
        return _restore(self._manager, self.record["mini_steps"], like)

    def _rank(self, record: dict[str, Any]) -> tuple[float, float, int]:
        """Returns what is larger for the better of two records.

        Where all of validation is settled nothing tells them apart, and the later one
        has seen more.
        """
        loss = record["validation_loss"]
        least = loss is None or math.isnan(loss)
        later = record["mini_steps"] if loss == 0 else 0
        return self._value(record), -math.inf if least else -loss, later

    def _value(self, record: dict[str, Any]) -> float:
        value = record[f"validation_{self._metric.name}"]
        # A record that was read again has None where there was no number.
        return -math.inf if value is None or math.isnan(value) else self._sign * value


class LatestCheckpoint:
    """Keeps the whole state of a run that is not finished; a context manager.

    Args:
      workdir: of the run.
      keep: how many of the newest.
    """

    def __init__(self, workdir: Path, *, keep: int):
        self._folder = workdir / _LATEST
        self._manager = _open(self._folder, keep=keep, fresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def save(self, state: TrainState, progress: Progress) -> None:
        """Saves in the background what a run needs to go on.

        Args:
          state: of training; it is copied before this returns.
          progress: what the host knows.
        """
        saved = progress.saved()
        arrays = {k: v for k, v in saved.items() if isinstance(v, np.ndarray)}
        plain = {k: v for k, v in saved.items() if k not in arrays}
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(_as_saved(state)),
            progress=ocp.args.JsonSave(plain | {"arrays": sorted(arrays)}),
            **{name: ocp.args.ArraySave(value) for name, value in arrays.items()},
        )
        size = _size((state, arrays))
        _save(self._manager, int(state.mini_step), arguments, size=size)

    def wait(self) -> None:
        """Returns once what was saved is on disk."""
        self._manager.wait_until_finished()

    def restore(
        self, like: TrainState, feed: type[FeedState]
    ) -> tuple[TrainState, Progress] | None:
        """Returns the newest state that is whole; None where there is none.

        One that cannot be read is named and put aside, and the one before it taken.

        Args:
          like: how the state is laid out.
          feed: the kind of feed that goes on.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return self._restore(step, like, feed)
            except Exception as error:  # Orbax wraps what it meets in a bare one.
                self._put_aside(step, error)
        return None

    def described(self) -> str:
        """Returns which checkpoint a run would go on from, in words."""
        step = self._manager.latest_step()
        if step is None:
            return "no checkpoint was saved before"
        return f"the last good checkpoint is {self._folder / str(step)}"

    def remove(self) -> None:
        """Removes the state of a run that is finished."""
        self._manager.close()
        if is_first():
            _remove(self._folder)

    def _put_aside(self, step: int, error: Exception) -> None:
        """Moves a checkpoint away: orbax saves no step below one that it sees."""
        folder = self._folder / str(step)
        aside = self._folder.with_name(f"unread-{step}")
        if is_first():
            _remove(aside)
            folder.rename(aside)
        wait_for_all(f"unread-{step}")
        self._manager.reload()
        notice(f"{folder}: cannot be read, put aside as {aside.name}: {reason(error)}")

    def _restore(
        self, step: int, like: TrainState, feed: type[FeedState]
    ) -> tuple[TrainState, Progress]:
        wanted = _as_saved(like)
        # What steps remember of examples came later than the first checkpoints.
        there = self._manager.item_metadata(step).state
        wanted = {k: v for k, v in wanted.items() if k != "seen" or k in there}
        first = ocp.args.Composite(
            state=ocp.args.StandardRestore(wanted), progress=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=first)
        saved = dict(restored.progress)
        names = saved.pop("arrays")
        second = {name: ocp.args.ArrayRestore() for name in names}
        if second:
            arrays = self._manager.restore(step, args=ocp.args.Composite(**second))
            saved |= {name: np.asarray(arrays[name]) for name in names}
        key = jax.random.wrap_key_data(restored.state["key"])
        state = like._replace(**restored.state | {"key": key})
        return state, Progress.restored(saved, feed)


def _as_saved(state: TrainState) -> dict[str, Any]:
    """Returns the state's fields; a key as the numbers that it is made of.

    Without a field that came later where it is empty, as in older checkpoints.
    """
    fields = state._asdict() | {"key": jax.random.key_data(state.key)}
    later = ("held", "seen")
    return {k: v for k, v in fields.items() if k not in later or v is not None}


def _open(folder: Path, *, keep: int, fresh: bool) -> ocp.CheckpointManager:
    """Returns a manager of a folder, which is made where it is not there."""
    if fresh and is_first():
        _remove(folder)
    wait_for_all(f"open-{folder.name}")
    # Without names of their own, processes that save to two folders at once can wait
    # for each other at different places, forever.
    apart = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=folder.name)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, multiprocessing_options=apart
    )
    return ocp.CheckpointManager(absolute(folder), options=options)


def _save(
    manager: ocp.CheckpointManager, step: int, arguments: Any, *, size: int
) -> None:
    """Saves a step, in place of one of that number that a killed run has left."""
    manager.wait_until_finished()
    check_space(manager.directory, size)
    if step in manager.all_steps():
        manager.delete(step)
    manager.save(step, args=arguments)


def _remove(folder: Path) -> None:
    """Removes a folder, if it is there."""
    if folder.exists():
        epath.Path(folder).rmtree()


def _size(tree: Any) -> int:
    """Returns the bytes of all arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def read_checkpoint(workdir: Path, like: Any) -> tuple[int, Any]:
    """Returns the number and the parameters of the checkpoint in a run's folder.

    Args:
      workdir: of a run.
      like: the parameters' shapes, dtypes and shardings.

    Returns:
      The mini-step after which it was saved, and the parameters.

    Raises:
      WorkdirError: there is none, or it does not fit.
    """
    folder = absolute(workdir / _BEST)
    if not folder.is_dir():
        raise WorkdirError(
            f"--workdir: {workdir} has no checkpoint; name the folder of a run that "
            "the trainer has written"
        )
    options = ocp.CheckpointManagerOptions(read_only=True)
    with ocp.CheckpointManager(folder, options=options) as manager:
        step = manager.latest_step()
        if step is None:
            raise WorkdirError(
                f"--workdir: {folder} holds no whole checkpoint; train again"
            )
        try:
            return step, _restore(manager, step, like)
        except Exception as error:  # Orbax wraps what it meets in a bare one.
            raise WorkdirError(
                f"--workdir: checkpoint {step} of {workdir} cannot be read: "
                f"{reason(error)}; train again"
            ) from error


def _restore(manager: ocp.CheckpointManager, step: int, like: Any) -> Any:
    arguments = ocp.args.Composite(params=ocp.args.StandardRestore(like))
    return manager.restore(step, args=arguments).params
