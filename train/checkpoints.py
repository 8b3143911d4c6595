"""The best parameters of a run, on disk by orbax: whole, or not there."""

import logging
import math
import shutil
from pathlib import Path
from typing import Any, Self

import orbax.checkpoint as ocp

from train.errors import WorkdirError

# Where a smaller value is the better one.
_LOWER_IS_BETTER = ("loss", "ece")
_FOLDER = "checkpoints"

# Orbax tells of every step that it takes, and warns of what it was asked to do.
logging.getLogger("absl").setLevel(logging.ERROR)


class BestCheckpoint:
    """Keeps the parameters of the best evaluation; a context manager.

    The first of equals stays; an evaluation whose metric is not a number beats none.

    Args:
      workdir: of the run; checkpoints of an unfinished run in it are removed.
      metric: the name of the validation metric, such as accuracy or loss.
    """

    def __init__(self, workdir: Path, *, metric: str):
        folder = (workdir / _FOLDER).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        self._manager = ocp.CheckpointManager(
            folder, options=ocp.CheckpointManagerOptions(max_to_keep=1)
        )
        self._metric = metric
        self._sign = -1.0 if metric in _LOWER_IS_BETTER else 1.0
        self.record: dict[str, Any] | None = None
        self.evaluations_since = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._manager.close()

    def offer(self, record: dict[str, Any], params: Any) -> None:
        """Saves the parameters if no evaluation before was as good.

        Args:
          record: of the evaluation, as in metrics.jsonl.
          params: of the network at that moment; they are copied before this returns.
        """
        if self.record is not None and self._value(record) <= self._value(self.record):
            self.evaluations_since += 1
            return
        self.record, self.evaluations_since = record, 0
        arguments = ocp.args.Composite(params=ocp.args.StandardSave(params))
        self._manager.save(record["mini_steps"], args=arguments)

    def restore(self, like: Any) -> Any:
        """Returns the saved parameters, laid out as `like` is."""
        self._manager.wait_until_finished()
        assert self.record is not None
        return _restore(self._manager, self.record["mini_steps"], like)

    def _value(self, record: dict[str, Any]) -> float:
        value = self._sign * record[f"validation_{self._metric}"]
        return -math.inf if math.isnan(value) else value


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
    folder = (workdir / _FOLDER).absolute()
    if not folder.is_dir():
        raise WorkdirError(
            f"--workdir: {workdir} has no checkpoint; name the folder of a run that "
            "`python -m train` has written"
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
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise WorkdirError(
                f"--workdir: checkpoint {step} of {workdir} cannot be read: {reason}; "
                "train again"
            ) from error


def _restore(manager: ocp.CheckpointManager, step: int, like: Any) -> Any:
    arguments = ocp.args.Composite(params=ocp.args.StandardRestore(like))
    return manager.restore(step, args=arguments).params
