"""The trainer from Python: what the commands do, with data in memory or in files.

It is `as_softmax_train.api` where the package is installed, `train.api` in a clone::

    from as_softmax_train.api import fit

    run = fit(frame, label="species", workdir="runs/iris")
    run.predict(new_frame)
    run.evaluate(test_frame)
"""

import html
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from as_softmax_jax.losses import LOSSES

from .command.cli import default_cache, use_compilation_cache
from .command.notices import each_once
from .comparison.grid import (
    fitting_losses,
    make_cells,
    make_points,
    parse_sweep,
)
from .comparison.report import as_terminal, make_chapter, write_report
from .comparison.results import Comparison
from .comparison.results import Run as Result
from .config import Config, load, with_flags
from .data.memory import as_inputs, as_records, read_memory
from .data.records import Records
from .errors import ConfigError
from .evaluate import evaluate_records, evaluate_run
from .export import export_run
from .loop import train_and_evaluate
from .predict import Predictor
from .runs import Place, read_comparison, train_cells, unfinished
from .survey.proposal import Given, propose, propose_for
from .tasks import find_task
from .workdir.loggers import Logger

__all__ = ("Compared", "Run", "compare", "fit")


def fit(
    data: Any = None,
    *,
    workdir: str | os.PathLike,
    config: Config | str | os.PathLike | None = None,
    task: str = "",
    label: str = "",
    input: str = "",
    pretrained: str = "",
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
    loggers: Sequence[Logger] = (),
) -> "Run":
    """Trains, and returns the run; one that is finished already is read back.

    Args:
      data: a file or folder; or what is in memory: a pandas or Polars frame, an Arrow
        table, a data set of Hugging Face, a dict of columns, a list of dicts, a pair of
        inputs and labels, or a dict of such for `train`, `validation` and `test`. None:
        what the configuration names.
      workdir: the run's folder. A run that was stopped goes on there.
      config: a configuration, its file, or the name of one that comes with the trainer;
        None: one that fits the data, as the command `init` writes it.
      task: of the data, where it is not to be found out; like the next three not with a
        configuration.
      label: the column to predict.
      input: the column to predict it from.
      pretrained: an encoder of texts, images or recordings, a folder or a name.
      settings: keys and values in place of the configuration's:
        ``{"training.epochs": 5, "loss.logit_margin": 3.0}``.
      quiet: show nothing on the terminal.
      loggers: objects of your own that are told of the run, with the methods of
        `train.workdir.loggers.Logger`.

    Raises:
      TrainerError: something cannot be trained on; the message says what, and the
        workdir is as it was.
    """
    given = Given(task, label, input, pretrained)
    chosen, records = _configured(data, config, given, settings or {})
    _keep_programs()
    train_and_evaluate(chosen, workdir, quiet=quiet, records=records, loggers=loggers)
    return Run(workdir, records)


def compare(
    data: Any = None,
    *,
    workdir: str | os.PathLike,
    losses: Sequence[str] = ("softmax", "as_softmax"),
    seeds: Sequence[int] = (0, 1, 2),
    grid: Mapping[str, Sequence[Any]] | None = None,
    config: Config | str | os.PathLike | None = None,
    task: str = "",
    label: str = "",
    input: str = "",
    pretrained: str = "",
    settings: Mapping[str, Any] | None = None,
) -> "Compared":
    """Trains losses against each other on equal seeds, and returns what came out.

    Args:
      data: as for `fit`, and so the other arguments that are not named here.
      workdir: for runs, tables and report; cells that are finished there are kept.
      losses: names of `as_softmax_jax.losses.LOSSES`.
      seeds: of the runs.
      grid: values of other keys: ``{"loss.logit_margin": [1, 2, 3]}``.
      config: see `fit`.
      task: see `fit`.
      label: see `fit`.
      input: see `fit`.
      pretrained: see `fit`.
      settings: see `fit`.

    Raises:
      TrainerError: something cannot be trained on.
    """
    given = Given(task, label, input, pretrained)
    chosen, records = _configured(data, config, given, settings or {})
    name = Path(workdir).name
    sweeps = [
        parse_sweep(f"{k}={_as_flag(values)}") for k, values in (grid or {}).items()
    ]
    points = make_points(chosen, [], sweeps)
    target = find_task(chosen.task).target.loss_target
    fitting = fitting_losses(losses, target, LOSSES, where=name)
    cells = make_cells(name, points, fitting, seeds, LOSSES)
    folder = Path(workdir).expanduser()
    _keep_programs()
    place = Place(folder, folder / "results", None, records)
    with each_once():
        train_cells(cells, unfinished(cells, place), place)
    comparison = read_comparison(name, cells, place)
    chapter = make_chapter(comparison)
    write_report(folder, [chapter], command=f"compare, workdir {folder}")
    return Compared(folder, comparison, as_terminal([chapter]))


class Run:
    """A finished run: its figures, and its best checkpoint, ready to answer.

    Args:
      workdir: its folder.
      records: its data, where those were in memory.

    Attributes:
      workdir: its folder.
      result: what `result.json` there holds: figures, configuration, versions.

    Raises:
      WorkdirError: the folder holds no finished run.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        records: Mapping[str, Records] | None = None,
    ):
        self._predictor = Predictor(workdir)
        self._records = records
        self.workdir = self._predictor.run.workdir
        self.result: dict[str, Any] = json.loads(
            (self.workdir / "result.json").read_text(encoding="utf-8")
        )

    def predict(
        self, inputs: Any, *, top_k: int = 0, all_probabilities: bool = False
    ) -> list[dict[str, Any]]:
        """Returns an answer for each input; see `train.predict.Predictor`.

        Args:
          inputs: a table with the columns of training, in any form that `fit` takes, or
            a list or array of inputs.
          top_k: adds so many classes with their probabilities.
          all_probabilities: adds those of all classes.
        """
        given, more = as_inputs(inputs), {"top_k": top_k}
        if isinstance(given, Records):
            return self._predictor.answers(
                given, all_probabilities=all_probabilities, **more
            )
        return self._predictor(given, all_probabilities=all_probabilities, **more)

    def evaluate(self, data: Any = "test") -> dict[str, Any]:
        """Returns loss and metrics.

        Args:
          data: a split of the run's data by its name, or other data with labels, in any
            form that `fit` takes.
        """
        run = self._predictor.run
        if not isinstance(data, str):
            return evaluate_records(run, as_records(data, "test"))
        if self._records is None:
            return evaluate_run(self.workdir, data)
        if data not in self._records:
            raise ConfigError(
                f"no split {data!r}; there are {', '.join(self._records)}, and what "
                "was held out of training has its figures in `result`"
            )
        return evaluate_records(run, self._records[data])

    def export(self, folder: str | os.PathLike, format: str = "transformers") -> Path:
        """Writes the model as a folder that others load; returns it.

        Args:
          folder: made where it is not there.
          format: `transformers` and `sentence-transformers` of a pretrained encoder,
            `stablehlo`, any model for jax and NumPy alone, or `onnx`.
        """
        export_run(self.workdir, Path(folder), format)
        return Path(folder)

    def report(self) -> Path:
        """Writes tables and plots of the run into its folder; returns the page."""
        config = self._predictor.run.config
        loss = config.loss.name
        result = Result(loss, loss, {}, config.seed, self.result)
        target = find_task(config.task).target
        chapter = make_chapter(Comparison(self.workdir.name, [result], target))
        write_report(self.workdir / "report", [chapter], command=str(self.workdir))
        return self.workdir / "report" / "report.html"

    def __repr__(self) -> str:
        """Returns the headline."""
        figures = ", ".join(f"{name} {value}" for name, value in self._figures())
        return f"Run({str(self.workdir)!r}, {figures})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{value}</td></tr>"
            for name, value in self._figures()
        )
        title = html.escape(str(self.workdir))
        return f"<table><caption>{title}</caption>{rows}</table>"

    def _figures(self) -> list[tuple[str, str]]:
        """Returns what a person asks for first."""
        metric = self.result["metric"]
        names = [f"{split}_{metric}" for split in ("validation", "test")]
        names += ["best_epoch", "gradient_steps", "seconds"]
        return [(n, f"{self.result[n]:.6g}") for n in names if n in self.result]


class Compared(NamedTuple):
    """What a comparison came to."""

    workdir: Path  # with table.md, report.html, and a folder a run
    comparison: Comparison
    table: str

    def __repr__(self) -> str:
        """Returns the table."""
        return self.table

    def _repr_markdown_(self) -> str:
        return (self.workdir / "table.md").read_text(encoding="utf-8")


def _configured(
    data: Any,
    config: Config | str | os.PathLike | None,
    given: Given,
    settings: Mapping[str, Any],
) -> tuple[Config, Mapping[str, Records] | None]:
    """Returns the configuration, and the records where they are in memory."""
    path = Path(data) if isinstance(data, str | os.PathLike) else None
    records = None if data is None or path is not None else read_memory(data)
    if config is not None:
        if any(given):
            raise ConfigError(
                "`task`, `label`, `input` and `pretrained` say how to make a "
                "configuration, and one is given; set its keys with `settings`"
            )
        chosen = config if isinstance(config, Config) else load(Path(config))
        place = {"data.path": str(path)} if path else {}
        if records is not None:
            place = {"data.source": "memory", "data.validation": "", "data.test": ""}
            place |= {f"data.{k}": k for k in records}
        settings = {**place, **settings}
    elif records is not None:
        chosen = propose_for(records, given).config
    elif path is not None:
        chosen = propose(path, given).config
    else:
        raise ConfigError("give `data`, `config`, or both")
    flags = [f"--config.{key}={_as_flag(value)}" for key, value in settings.items()]
    return with_flags(chosen, flags), records


def _keep_programs() -> None:
    """Keeps compiled programs as the commands do, where the caller has not said."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        use_compilation_cache(default_cache())


def _as_flag(value: Any) -> str:
    """Returns a value as it is written on the command line."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)
