"""What a run shows and logs: a progress bar, metrics.jsonl, and what loggers take."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import jax
import tqdm

from ..command.lines import duration
from ..command.processes import is_first
from ..storage import finite, write_text
from ..training.gain import in_words
from ..training.state import TrainState
from .loggers import Logger, grouped

_MINI_STEPS_PER_READING = 20


class RunLog:
    """The log of one run; a context manager that leaves whole lines behind.

    Both counters, mini-steps and gradient steps, are logged under those names.

    Args:
      workdir: where `metrics.jsonl` and the events go.
      metric: the validation metric that a line shows with the loss.
      total_examples: where the bar ends.
      records: of evaluations before, where a run goes on; they are written anew.
      loggers: are told of each evaluation, by the first process.
      config: of the run, as nested dicts, for the loggers.
      quiet: no bar and no lines on the terminal.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        metric: str,
        total_examples: int,
        records: Sequence[dict[str, Any]] = (),
        loggers: Sequence[Logger] = (),
        config: Mapping[str, Any] = MappingProxyType({}),
        quiet: bool,
    ):
        self._file, first = workdir / "metrics.jsonl", is_first()
        self._lines: list[str] = []
        write_text(self._file, "")
        self._loggers = loggers if first else ()
        quiet = quiet or not first
        self._quiet, self._metric, self._total = quiet, metric, total_examples
        self.mini_steps = 0  # since this process began
        self._met: set[int] = set()  # lengths of batches
        # disable=None: no bar where the output is no terminal.
        self._bar = tqdm.tqdm(
            total=total_examples,
            unit=" examples",
            disable=True if quiet else None,
        )
        for record in records:
            self._write(record)
        before = [grouped(record) for record in records]
        for logger in self._loggers:
            logger.on_start(workdir, config, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        for logger in self._loggers:
            logger.close()

    def mini_step(self, state: TrainState) -> None:
        """Shows where training stands: means since the last evaluation, steps, speed.

        Every so many mini-steps only, for reading the state waits for the device.
        """
        self.mini_steps += 1
        if self.mini_steps % _MINI_STEPS_PER_READING:
            return
        sums, gradient_step, seen = jax.device_get(
            (state.sums, state.gradient_step, state.examples_seen)
        )
        self._show(sums.means(), int(gradient_step), int(seen))

    def batch_of(self, length: int, lengths: Sequence[int]) -> None:
        """Says that a step waits for the compiler: the first one of its length.

        Args:
          length: of the batch.
          lengths: that there are; of one alone nothing is said.
        """
        if not lengths or length in self._met:
            return
        self._met.add(length)
        done = f"{len(self._met)} of {len(lengths)}"
        self.lines([f"compiling {done}: batches of length {length}"])

    def evaluation(self, record: dict[str, Any]) -> None:
        """Logs an evaluation: a line of JSON, events, a line on the terminal."""
        self._write(record)
        for logger in self._loggers:
            logger.on_evaluation(grouped(_finite(record)))
        means = {
            "loss": record["train_loss"],
            "accuracy": record["train_accuracy"],
            "settled_share": record["settled_share"],
        }
        self._show(means, record["gradient_steps"], record["examples_seen"])
        if not self._quiet:
            line = _as_line(record, self._metric)
            self._bar.write(line + self._left(record))
            if gain := in_words(record):
                self._bar.write(gain)

    def close_bar(self) -> None:
        """Ends the bar, so that what is said from here on stands below it."""
        self._bar.close()

    def end(self, result: Mapping[str, Any]) -> None:
        """Tells the loggers how the run ended."""
        for logger in self._loggers:
            logger.on_end(result)

    def lines(self, lines: Sequence[str]) -> None:
        """Shows some lines, above the bar where there is one."""
        for line in () if self._quiet else lines:
            self._bar.write(line)

    def _left(self, record: dict[str, Any]) -> str:
        """Returns how long the rest takes at the speed since the evaluation before.

        The first stretch compiles, and so tells no speed.
        """
        if len(self._lines) < 2 or not self._total:
            return ""
        before = json.loads(self._lines[-2])
        seen = record["examples_seen"] - before["examples_seen"]
        left = self._total - record["examples_seen"]
        if seen <= 0 or left <= 0:
            return ""
        seconds = (record["seconds"] - before["seconds"]) * left / seen
        return f", about {duration(seconds)} left"

    def _write(self, record: dict[str, Any]) -> None:
        self._lines.append(json.dumps(_finite(record)) + "\n")
        # All lines anew: a file in a bucket cannot grow.
        write_text(self._file, "".join(self._lines))

    def _show(self, means: dict[str, float], gradient_steps: int, seen: int) -> None:
        """Moves the bar, whose own figure is examples a second."""
        figures: dict[str, object] = {n: f"{mean:.3f}" for n, mean in means.items()}
        self._bar.set_postfix(figures | {"gradient_steps": gradient_steps})
        self._bar.update(seen - self._bar.n)


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: finite(value) for name, value in record.items()}


def _as_line(record: dict[str, Any], metric: str) -> str:
    return (
        f"epoch {record['epoch']:>3}  "
        f"train loss {record['train_loss']:.4f} "
        f"accuracy {record['train_accuracy']:.4f}  "
        f"validation loss {record['validation_loss']:.4f} "
        f"{metric} {record[f'validation_{metric}']:.4f}  "
        f"settled {record['settled_share']:.3f}  "
        f"gradient steps {record['gradient_steps']}  {record['seconds']:.1f} s"
    )
