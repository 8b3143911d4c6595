"""Where the figures of a run go beside its folder: TensorBoard, W&B, MLflow, yours."""

import functools
import importlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import tensorboardX

from ..config import flatten, nearest
from ..errors import ConfigError

Figures = Mapping[str, float]
"""Numbers by grouped names: train/loss, validation/accuracy, progress/seconds."""

_GROUPS = ("train", "validation", "test")


class Logger(Protocol):
    """What is told of a run as it goes; the first process alone tells it."""

    def on_start(
        self, workdir: Path, config: Mapping[str, Any], before: Sequence[Figures]
    ) -> None:
        """Takes note of a run that begins, or goes on.

        Args:
          workdir: the run's folder, whose name is the run's.
          config: its configuration, as nested dicts.
          before: the evaluations that were before it was stopped; empty: it begins.
        """

    def on_evaluation(self, figures: Figures) -> None:
        """Takes note of an evaluation, at `progress/mini_steps`."""

    def on_end(self, result: Mapping[str, Any]) -> None:
        """Takes note of what `result.json` holds; not called where the run stops."""

    def close(self) -> None:
        """Lets go of what is held, however the run ended."""


def make_loggers(names: Sequence[str]) -> list[Logger]:
    """Returns loggers by their names.

    Raises:
      ConfigError: there is no such logger, or its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise ConfigError(
                f"`training.loggers`: no {name!r}; {nearest(name, LOGGERS)}"
            )
    return [LOGGERS[name]() for name in names]


def grouped(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a record of metrics.jsonl, or of a result, by group."""
    found = {}
    for name, value in record.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        group, _, rest = name.partition("_")
        found[f"{group}/{rest}" if group in _GROUPS else f"progress/{name}"] = value
    return found


class TensorBoard:
    """Events in the run's folder, with settings and test figures as hyper-parameters.

    A run that goes on writes them anew, so that no step is there twice.
    """

    def __init__(self) -> None:
        self._writer: Any = None
        self._config: dict[str, Any] = {}

    def on_start(
        self, workdir: Path, config: Mapping[str, Any], before: Sequence[Figures]
    ) -> None:
        """Begins a file of events."""
        for events in workdir.glob("events.out.tfevents.*"):
            events.unlink()
        self._config = flatten(config)
        self._writer = tensorboardX.SummaryWriter(str(workdir))
        for figures in before:
            self.on_evaluation(figures)

    def on_evaluation(self, figures: Figures) -> None:
        """Writes a scalar for each figure."""
        for name, value in figures.items():
            step = int(figures["progress/mini_steps"])
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def on_end(self, result: Mapping[str, Any]) -> None:
        """Writes test figures, and what they were reached with."""
        final = {k: v for k, v in grouped(result).items() if k.startswith("test/")}
        step = int(result["mini_steps"])
        for name, value in final.items():
            self._writer.add_scalar(name, value, step)
        plain = {k: v for k, v in self._config.items() if _is_plain(v)}
        summaries = tensorboardX.summary.hparams(plain, dict.fromkeys(final, 0.0))
        for summary in summaries:
            self._writer.file_writer.add_summary(summary)

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; its own variables say where, such as WANDB_MODE."""

    def __init__(self) -> None:
        self._wandb, self._run = _import("wandb", extra="wandb"), None

    def on_start(
        self, workdir: Path, config: Mapping[str, Any], before: Sequence[Figures]
    ) -> None:
        """Begins the run, or takes up the one of this folder."""
        kept = workdir / "wandb_id.txt"
        own = kept.read_text() if kept.exists() else secrets.token_hex(8)
        kept.write_text(own)
        self._run = self._wandb.init(
            name=workdir.name,
            id=own,
            dir=str(workdir),
            resume="allow",
            config=flatten(config),
        )

    def on_evaluation(self, figures: Figures) -> None:
        """Logs the figures."""
        assert self._run is not None, "on_start comes first"
        self._run.log(dict(figures), step=int(figures["progress/mini_steps"]))

    def on_end(self, result: Mapping[str, Any]) -> None:
        """Puts the final figures into the summary."""
        assert self._run is not None, "on_start comes first"
        self._run.summary.update(grouped(result))

    def close(self) -> None:
        """Sends what is left."""
        if self._run is not None:
            self._run.finish()


class MLflow:
    """A run of MLflow, at MLFLOW_TRACKING_URI, in MLFLOW_EXPERIMENT_NAME."""

    def __init__(self) -> None:
        self._mlflow = _import("mlflow", extra="mlflow")

    def on_start(
        self, workdir: Path, config: Mapping[str, Any], before: Sequence[Figures]
    ) -> None:
        """Begins the run, or takes up the one of this folder."""
        kept = workdir / "mlflow_id.txt"
        own = kept.read_text() if before and kept.exists() else None
        run = self._mlflow.start_run(run_id=own, run_name=workdir.name)
        kept.write_text(run.info.run_id)
        if own is None:
            self._mlflow.log_params(flatten(config))

    def on_evaluation(self, figures: Figures) -> None:
        """Logs the figures."""
        step = int(figures["progress/mini_steps"])
        self._mlflow.log_metrics(dict(figures), step=step)

    def on_end(self, result: Mapping[str, Any]) -> None:
        """Logs the final figures."""
        self._mlflow.log_metrics(grouped(result), step=int(result["mini_steps"]))

    def close(self) -> None:
        """Ends the run."""
        self._mlflow.end_run()


LOGGERS: dict[str, Callable[[], Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str)


@functools.cache
def _import(package: str, *, extra: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`training.loggers`: {package} is not installed; pip install "
            f"'as_softmax_jax[{extra}]'"
        ) from error
