"""Trains losses against each other over tasks and seeds, and writes what came out.

python -m train.compare --config configs/digits.py --losses softmax,as_softmax \
  --seeds 0,1,2 --workdir runs/digits

A cell is one configuration with one loss, one point of a sweep and one seed. Its
result is one JSON file in the folder of results, and a cell with a file is not trained
again. Tables and report are written anew each time, from the files of the cells that
the command names; while none is missing, no data is read.
"""

import argparse
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .command.cli import make_parser, run, user_path, with_huge_pages
from .command.names import command_line
from .command.notices import each_once
from .comparison.grid import (
    Cell,
    fitting_losses,
    make_cells,
    make_points,
    parse_losses,
    parse_seeds,
    parse_sweep,
)
from .comparison.sections import check_sections
from .config import load
from .errors import ConfigError
from .runs import (
    Place,
    check_flags,
    read_comparison,
    sigterm_raises,
    train_cells,
    unfinished,
)


class Grid(NamedTuple):
    """The cells of one configuration."""

    name: str
    cells: Sequence[Cell]


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains what is not finished, reports, and returns the process's exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    flags, overrides = _parser().parse_known_args(arguments)
    flags.results = flags.results or flags.workdir / "results"
    command = f"{command_line('compare')} {shlex.join(arguments)}"

    def work() -> int:
        with sigterm_raises(), each_once():
            return _compare(flags, overrides, command)

    return run(
        work,
        interrupted=f"finished cells are kept in {flags.results}: give the same "
        "command again to go on",
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "compare",
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
    from .comparison.report import (
        as_terminal,
        make_chapter,
        write_markdown,
        write_report,
    )

    # Phase 1: everything that can be refused, before anything is written.
    check_flags(flags, overrides)
    if flags.markdown:
        names = [flags.section] if flags.section else map(_name, flags.config)
        check_sections(flags.markdown, names)
    grids = _make_grids(flags, overrides)
    cells = [cell for grid in grids for cell in grid.cells]
    place = Place(flags.workdir, flags.results, flags.compilation_cache)
    missing = unfinished(cells, place)

    # Phase 2: training.
    train_cells(cells, missing, place)

    # Phase 3: what came out.
    comparisons = [read_comparison(grid.name, grid.cells, place) for grid in grids]
    chapters = [make_chapter(comparison) for comparison in comparisons]
    write_report(flags.workdir, chapters, command=command)
    print(f"\n{as_terminal(chapters)}\n")
    for chapter in chapters:
        if chapter.conclusion:
            print(textwrap.fill(chapter.conclusion, 88) + "\n")
    print(textwrap.fill(chapters[0].caveat, 88, initial_indent="note: "))
    if flags.markdown:
        write_markdown(flags.markdown, chapters, section=flags.section, command=command)
        print(f"\ntables: {flags.markdown.resolve()}")
    print(f"\ntable:  {(flags.workdir / 'table.md').resolve()}")
    print(f"report: {(flags.workdir / 'report.html').resolve()}")
    return 0


def _name(path: str) -> str:
    """Returns the name of a configuration: that of its file."""
    return Path(path).stem


def _make_grids(flags: argparse.Namespace, overrides: Sequence[str]) -> list[Grid]:
    """Returns the cells of each configuration, all checked."""
    from as_softmax_jax.losses import LOSSES

    from .tasks import find_task

    names, seeds = parse_losses(flags.losses, LOSSES), parse_seeds(flags.seeds)
    sweeps = [parse_sweep(text) for text in flags.grid]
    grids: list[Grid] = []
    for path in flags.config:
        name = _name(path)
        if any(name == grid.name for grid in grids):
            raise ConfigError(f"--config: two files are called {name}; rename one")
        points = make_points(load(path), overrides, sweeps)
        target = find_task(points[0].config.task).target.loss_target
        losses = fitting_losses(names, target, LOSSES, where=name)
        grids.append(Grid(name, make_cells(name, points, losses, seeds, LOSSES)))
    return grids


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
