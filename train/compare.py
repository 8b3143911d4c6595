"""Trains losses against each other over tasks and seeds, and writes what came out.

python -m train.compare --config configs/digits.py --losses softmax,as_softmax \
  --seeds 0,1,2 --workdir runs/digits

A cell is one configuration with one loss, one point of a sweep and one seed. Its
result is one JSON file in the folder of results, and a cell with a file is not trained
again. Tables and report are written anew each time, from the files of the cells that
the command names; while none is missing, no data is read.
"""

import argparse
import contextlib
import dataclasses
import shlex
import signal
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from train.command.cli import (
    make_parser,
    run,
    use_compilation_cache,
    user_path,
    with_huge_pages,
)
from train.command.signals import Stopped
from train.comparison.cells import keep_cell, read_cell
from train.comparison.grid import (
    DECIDED,
    Cell,
    fitting_losses,
    make_cells,
    make_points,
    parse_losses,
    parse_seeds,
    parse_sweep,
)
from train.comparison.sections import check_sections
from train.config import (
    Config,
    LossConfig,
    MeshConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.errors import ConfigError, WorkdirError
from train.workdir.workdir import check_workdir

if TYPE_CHECKING:
    from train.comparison.results import Comparison


class Grid(NamedTuple):
    """The cells of one configuration."""

    name: str
    cells: Sequence[Cell]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what is not finished, reports, and returns the process's exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    flags, overrides = _parser().parse_known_args(arguments)
    flags.results = flags.results or flags.workdir / "results"
    command = shlex.join(["python", "-m", "train.compare", *arguments])

    def work() -> int:
        with _sigterm_raises():
            return _compare(flags, overrides, command)

    return run(
        work,
        interrupted=f"finished cells are kept in {flags.results}: give the same "
        "command again to go on",
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "train.compare",
        "Trains losses against each other over tasks and seeds.",
        "Any key of the configurations: --config.training.epochs=3",
    )
    add = parser.add_argument
    add(
        "--config",
        required=True,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="one task each, such as configs/digits.py",
    )
    add("--losses", required=True, help="softmax,as_softmax")
    add("--seeds", required=True, help="0,1,2")
    add(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="sweep a key: loss.delta=0.05,0.1; several times: their product",
    )
    add("--workdir", required=True, type=user_path, help="for runs and the report")
    add(
        "--results",
        type=user_path,
        help="for the cells' files (default: WORKDIR/results)",
    )
    add(
        "--markdown",
        type=user_path,
        metavar="FILE",
        help="write the tables into it, too",
    )
    add(
        "--section",
        help="the section of FILE for all tables (default: one each, named as its "
        "configuration)",
    )
    return parser


def _compare(flags: argparse.Namespace, overrides: list[str], command: str) -> int:
    """Grids, cells, runs, tables, report: one direction."""
    from train.comparison.report import (
        as_terminal,
        make_chapter,
        write_markdown,
        write_report,
    )

    # Phase 1: everything that can be refused, before anything is written.
    _refuse_flags(flags, overrides)
    grids = _make_grids(flags, overrides)
    cells = [cell for grid in grids for cell in grid.cells]
    unfinished = _unfinished(cells, flags)

    # Phase 2: training.
    _train(cells, unfinished, flags)

    # Phase 3: what came out.
    chapters = [make_chapter(_comparison(grid, flags.results)) for grid in grids]
    write_report(flags.workdir, chapters, command=command)
    print(f"\n{as_terminal(chapters)}\n")
    print(textwrap.fill(chapters[0].caveat, 88, initial_indent="note: "))
    if flags.markdown:
        write_markdown(flags.markdown, chapters, section=flags.section, command=command)
        print(f"\ntables: {flags.markdown.resolve()}")
    print(f"\ntable:  {(flags.workdir / 'table.md').resolve()}")
    print(f"report: {(flags.workdir / 'report.html').resolve()}")
    return 0


def _refuse_flags(flags: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Refuses flags that contradict each other or the disk."""
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
    if flags.markdown:
        names = [flags.section] if flags.section else map(_name, flags.config)
        check_sections(flags.markdown, names)


def _name(path: str) -> str:
    """Returns the name of a configuration: that of its file."""
    return Path(path).stem


def _make_grids(flags: argparse.Namespace, overrides: Sequence[str]) -> list[Grid]:
    """Returns the cells of each configuration, all checked."""
    from as_softmax_jax.losses import LOSSES
    from train.tasks import find_task

    names, seeds = parse_losses(flags.losses, LOSSES), parse_seeds(flags.seeds)
    sweeps = [parse_sweep(text) for text in flags.grid]
    grids: list[Grid] = []
    for path in flags.config:
        name = _name(path)
        if any(name == grid.name for grid in grids):
            raise ConfigError(f"--config: two files are called {name}; rename one")
        points = make_points(path, overrides, sweeps)
        target = find_task(points[0].config.task).target.loss_target
        losses = fitting_losses(names, target, LOSSES, where=name)
        grids.append(Grid(name, make_cells(name, points, losses, seeds, LOSSES)))
    return grids


def _unfinished(cells: Sequence[Cell], flags: argparse.Namespace) -> list[Cell]:
    """Returns the cells to train; refuses what the trainer would refuse later."""
    unfinished = [
        cell
        for cell in cells
        if read_cell(_file(cell, flags.results), cell.config) is None
        and check_workdir(flags.workdir / cell.name, cell.config) is None
    ]
    if unfinished:
        _check_data([cell.config for cell in unfinished])
    return unfinished


def _check_data(configs: Sequence[Config]) -> None:
    """Refuses, before the first cell writes, what the last one could not train on."""
    from train.recipe.recipe import make_recipe
    from train.tasks import prepare

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
            data = data or prepare(config)
            make_recipe(config, data)


def _file(cell: Cell, results: Path) -> Path:
    return results / f"{cell.name}.json"


def _train(
    cells: Sequence[Cell], unfinished: Sequence[Cell], flags: argparse.Namespace
) -> None:
    """Trains the unfinished cells in their order, in this process; keeps each."""
    if len(unfinished) < len(cells):
        done = len(cells) - len(unfinished)
        rest = "" if unfinished else "; nothing to train"
        print(f"{done} of {len(cells)} cells are finished already{rest}")
    for cell in cells:
        # A run may have ended just before its cell was kept.
        if cell not in unfinished and not _file(cell, flags.results).exists():
            keep_cell(_file(cell, flags.results), flags.workdir / cell.name)
    if not unfinished:
        return
    from train.loop import train_and_evaluate

    use_compilation_cache(flags.compilation_cache)
    # On a terminal the trainer shows its bar; a log gets two lines a cell, between
    # which its notes stand.
    quiet = not sys.stderr.isatty()
    for number, cell in enumerate(unfinished, start=1):
        place = f"[{number}/{len(unfinished)}] {cell.name}"
        print(place, flush=True)
        folder = flags.workdir / cell.name
        result = train_and_evaluate(cell.config, folder, quiet=quiet)
        keep_cell(_file(cell, flags.results), folder)
        print(f"{place}: {_figures(result)}", flush=True)


def _figures(result: dict[str, Any]) -> str:
    """Returns the score and the seconds of a run that has ended."""
    metric = result["metric"]
    split = "test" if f"test_{metric}" in result else "validation"
    score = f"{split} {metric} {result[f'{split}_{metric}']:.4f}"
    return f"{score}, {result['seconds']:.1f} s"


def _comparison(grid: Grid, results: Path) -> "Comparison":
    """Returns the runs of a grid, from the files of its cells."""
    from train.comparison.results import Comparison, Run
    from train.tasks import find_task

    runs = []
    for cell in grid.cells:
        label, point, config = cell.label, cell.point, cell.config
        result = read_cell(_file(cell, results), config)
        if result is None:
            raise WorkdirError(
                f"--results: {_file(cell, results)} is gone; give the command again"
            )
        runs.append(Run(label, config.loss.name, point, config.seed, result))
    return Comparison(grid.name, runs, find_task(grid.cells[0].config.task).target)


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
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


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
