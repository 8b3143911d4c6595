"""The runs behind a comparison: checked, trained where one misses, and read."""

import argparse
import contextlib
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .command.cli import use_compilation_cache
from .command.lines import duration
from .command.signals import Stopped
from .comparison.cells import keep_cell, read_cell
from .comparison.grid import DECIDED, Cell
from .config import (
    Config,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    TrainingConfig,
)
from .data.records import Records
from .errors import ConfigError, WorkdirError
from .workdir.workdir import check_workdir

if TYPE_CHECKING:
    from .comparison.bootstrap import Interval
    from .comparison.results import Comparison


class Place(NamedTuple):
    """Where runs are made and kept."""

    workdir: Path
    results: Path
    compilation_cache: str | None  # None: as it is set already
    records: Mapping[str, Records] | None = None  # where the data are in memory

    def file(self, cell: Cell) -> Path:
        """Returns where a cell's result is kept."""
        return self.results / f"{cell.name}.json"

    def folder(self, cell: Cell) -> Path:
        """Returns the workdir of a cell's run."""
        return self.workdir / cell.name


def check_flags(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Refuses flags of a comparison that contradict each other or the disk.

    Args:
      flags: with `workdir`, `results`, `markdown` and `section`.
      overrides: of the configuration.

    Raises:
      ConfigError: a flag decides what another one does.
      WorkdirError: a folder is none, or not on this machine.
    """
    for flag in overrides:
        key = flag.partition("=")[0].removeprefix("--config.")
        if key in DECIDED:
            raise ConfigError(
                f"--config.{key}: {DECIDED[key]} decides it here; leave it out"
            )
    for name in ("workdir", "results"):
        folder = getattr(flags, name)
        if folder.exists() and not folder.is_dir():
            raise WorkdirError(f"--{name}: {folder} is a file; name a folder")
        if folder.parts and folder.parts[0] in ("gs:", "s3:"):
            raise WorkdirError(
                f"--{name}: {folder} is an address; a grid's folder must be local"
            )
    if flags.section and not flags.markdown:
        raise ConfigError("--section: there is no file for it; name it with --markdown")


def unfinished(cells: Sequence[Cell], place: Place) -> list[Cell]:
    """Returns the cells to train; refuses what the trainer would refuse later."""
    found = [
        cell
        for cell in cells
        if read_cell(place.file(cell), cell.config) is None
        and check_workdir(place.folder(cell), cell.config) is None
    ]
    if found:
        check_data([cell.config for cell in found], place.records)
    return found


def check_data(
    configs: Sequence[Config], records: Mapping[str, Records] | None = None
) -> None:
    """Refuses, before the first cell writes, what the last one could not train on."""
    from .recipe.recipe import make_recipe
    from .tasks import prepare

    # Cells of equal data read it once here, and one data set is held at a time.
    by_data: dict[str, dict[str, Config]] = {}
    for config in configs:
        seedless = dataclasses.replace(config, seed=0)
        # No task's data depends on these sections.
        shared = dataclasses.replace(
            seedless,
            loss=LossConfig(),
            optimizer=OptimizerConfig(),
            training=TrainingConfig(),
            mesh=MeshConfig(),
        )
        by_data.setdefault(repr(shared), {})[repr(seedless)] = config
    for distinct in by_data.values():
        data = None
        for config in distinct.values():
            data = data or prepare(config, records)
            make_recipe(config, data)


def train_cells(cells: Sequence[Cell], missing: Sequence[Cell], place: Place) -> None:
    """Trains the missing cells in their order, in this process; keeps each."""
    if len(missing) < len(cells):
        done = len(cells) - len(missing)
        rest = "" if missing else "; nothing to train"
        print(f"{done} of {len(cells)} cells are finished already{rest}")
    for cell in cells:
        # A run may have ended just before its cell was kept.
        if cell not in missing and not place.file(cell).exists():
            keep_cell(place.file(cell), place.folder(cell))
    if not missing:
        return
    from .command.programs import forget_many_programs
    from .loop import train_and_evaluate

    if place.compilation_cache is not None:
        use_compilation_cache(place.compilation_cache)
    # On a terminal the trainer shows its bar; a log gets two lines a cell, between
    # which its notes stand.
    quiet = not sys.stderr.isatty()
    start = time.perf_counter()
    for number, cell in enumerate(missing, start=1):
        title = f"[{number}/{len(missing)}] {cell.name}"
        print(title, flush=True)
        forget_many_programs()
        result = train_and_evaluate(
            cell.config, place.folder(cell), quiet=quiet, records=place.records
        )
        keep_cell(place.file(cell), place.folder(cell))
        spent, left = time.perf_counter() - start, len(missing) - number
        rest = f"; about {duration(spent / number * left)} left" if left else ""
        print(f"{title}: {_figures(result)}{rest}", flush=True)


def _figures(result: dict[str, Any]) -> str:
    """Returns the score and the seconds of a run that has ended."""
    metric = result["metric"]
    split = "test" if f"test_{metric}" in result else "validation"
    score = f"{split} {metric} {result[f'{split}_{metric}']:.4f}"
    return f"{score}, {result['seconds']:.1f} s"


def read_comparison(
    name: str, cells: Sequence[Cell], place: Place, interval: "Interval" = "percentile"
) -> "Comparison":
    """Returns the runs of a grid, from the files of its cells."""
    from .comparison.results import Comparison, Run
    from .tasks import find_task

    runs = []
    for cell in cells:
        label, point, config = cell.label, cell.point, cell.config
        result = read_cell(place.file(cell), config)
        if result is None:
            raise WorkdirError(
                f"--results: {place.file(cell)} is gone; give the command again"
            )
        result = _with_inputs(result, place.folder(cell))
        runs.append(Run(label, config.loss.name, point, config.seed, result))
    target = find_task(cells[0].config.task).target
    return Comparison(name, runs, target, interval)


def _with_inputs(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Returns a result whose suspicious rows say what they hold, if the run is here."""
    from .evaluation.result import SUSPICIOUS_INPUTS

    try:
        inputs = json.loads((folder / SUSPICIOUS_INPUTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return result
    entries = result.get("suspicious", [])
    if len(entries) != len(inputs):
        return result
    pairs = zip(entries, inputs, strict=True)
    return result | {"suspicious": [{**entry, "input": text} for entry, text in pairs]}


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """Lets SIGTERM between two runs end the grid as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped(number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # Only a main thread can; others never stop.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
