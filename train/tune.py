"""Compares losses with equal means: a search for each, then fresh seeds of its choice.

python -m train.tune --config configs/digits.py --losses softmax,as_softmax \
  --seeds 5 --workdir runs/digits_tuned

Every loss has the same number of trials over the same learning rates and epochs, and
over one parameter of its own. Validation chooses, on one seed; the choice is frozen,
and fresh seeds of it are compared on the test split, which nothing has looked at
before. Each run is a file in the folder of results; one that is there is not trained
again.
"""

import argparse
import dataclasses
import json
import math
import re
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from .command.cli import make_parser, run, user_path, with_huge_pages
from .command.names import command_line
from .command.notices import each_once
from .comparison.grid import Cell
from .comparison.search import (
    SEARCH_SEED,
    Contender,
    Trial,
    best_trial,
    chosen_cell,
    make_trials,
    parse_contenders,
    trial_cell,
)
from .comparison.sections import check_sections
from .config import Config, load
from .errors import ConfigError
from .runs import (
    Place,
    check_data,
    check_flags,
    read_comparison,
    sigterm_raises,
    train_cells,
    unfinished,
)
from .storage import read_json, write_text

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# A budget takes trials first, down to this, then seeds.
_FEWEST = 3
# Of the run that tells how long others take.
_SHORT_EXAMPLES = 512
_PLAN = "plan.json"


class Search(NamedTuple):
    """What is searched: a configuration, and the trials of each contender."""

    name: str
    config: Config
    trials: dict[Contender, list[Trial]]
    seeds: list[int]  # fresh ones


def main(arguments: Sequence[str] | None = None) -> int:
    """Searches, compares, reports, and returns the process's exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    flags, overrides = _parser().parse_known_args(arguments)
    flags.results = flags.results or flags.workdir / "results"
    command = f"{command_line('tune')} {shlex.join(arguments)}"

    def work() -> int:
        with sigterm_raises(), each_once():
            return _tune(flags, overrides, command)

    return run(
        work,
        interrupted=f"finished runs are kept in {flags.results}: give the same "
        "command again to go on",
    )


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "tune",
        "Compares losses with equal means: a search for each, then fresh seeds.",
        "Any key of the configuration: --config.data.path=FOLDER",
    )
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="such as configs/digits.py")
    add(
        "--losses",
        required=True,
        help="softmax,as_softmax,as_softmax:delta; a margin after a colon",
    )
    add("--trials", default="6", help="of each loss (default: %(default)s)")
    add("--seeds", help="how many fresh ones of each choice (default: 5)")
    add(
        "--folds",
        help="in place of seeds, part the training examples in so many and test on "
        "each once; for small data without a test split",
    )
    add(
        "--budget",
        metavar="TIME",
        help="fit trials and seeds into about that time: 30m, 2h",
    )
    add("--dry-run", action="store_true", help="say how many runs, and about how long")
    add("--workdir", required=True, type=user_path, help="for runs and the report")
    add(
        "--results",
        type=user_path,
        help="for the runs' results (default: WORKDIR/results)",
    )
    add("--markdown", type=user_path, metavar="FILE", help="write the table into it")
    add("--section", help="of FILE (default: the name of the configuration)")
    return parser


def _read_numbers(flags: argparse.Namespace) -> None:
    """Reads the flags that are numbers, in their place."""
    for name, least in (("trials", 1), ("seeds", 1), ("folds", 3)):
        text = getattr(flags, name)
        if text is None:
            continue
        if not re.fullmatch(r"[0-9]+", text) or int(text) < least:
            raise ConfigError(
                f"--{name}: {text!r}; give a whole number from {least} on"
            )
        setattr(flags, name, int(text))
    if flags.budget is not None:
        flags.budget = _seconds(flags.budget)


def _seconds(text: str) -> float:
    """Returns the seconds in `30m`."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh])", text)
    if not found or not float(found[1]):
        raise ConfigError(f"--budget: {text!r}; write 900s, 30m or 2h")
    return float(found[1]) * _UNITS[found[2]]


def _tune(flags: argparse.Namespace, overrides: list[str], command: str) -> int:
    """Trials, choice, fresh seeds, report: one direction."""
    from as_softmax_jax.losses import LOSSES

    # Phase 1: everything that can be refused, before anything is written.
    _read_numbers(flags)
    check_flags(flags, overrides)
    if flags.folds and flags.seeds:
        raise ConfigError("--folds: each fold has a seed of its own; leave --seeds out")
    if flags.markdown:
        check_sections(flags.markdown, [flags.section or Path(flags.config).stem])
    search = _make_search(flags, overrides)
    cells = {
        contender: [
            trial_cell(search.name, search.config, contender, trial, LOSSES)
            for trial in trials
        ]
        for contender, trials in search.trials.items()
    }
    place = Place(flags.workdir, flags.results, flags.compilation_cache)
    every = [cell for of_one in cells.values() for cell in of_one]
    missing = unfinished(every, place)
    if flags.dry_run:
        check_data([cell.config for cell in every])
        print(_estimate(search, _time_a_run(every[0].config)))
        return 0

    # Phase 2: the search, on one seed, without a look at the test split.
    train_cells(every, missing, place)
    chosen = {
        contender: _choose(search, contender, of_one, place)
        for contender, of_one in cells.items()
    }
    _say_choice(chosen)

    # Phase 3: fresh seeds of what was chosen.
    finals = [
        chosen_cell(search.name, search.config, contender, trial, seed, LOSSES)
        for contender, trial in chosen.items()
        for seed in search.seeds
    ]
    train_cells(finals, unfinished(finals, place), place)

    # Phase 4: what came out.
    _report(flags, search, cells, chosen, finals, place, command)
    return 0


def _make_search(flags: argparse.Namespace, overrides: Sequence[str]) -> Search:
    """Returns what is searched; a budget decides how much of it."""
    from as_softmax_jax.losses import LOSSES

    from .tasks import find_task

    config, name = load(flags.config, overrides), Path(flags.config).stem
    if flags.folds:
        data = dataclasses.replace(config.data, folds=flags.folds)
        config = dataclasses.replace(config, data=data)
    target = find_task(config.task).target.loss_target
    contenders = parse_contenders(flags.losses, target, LOSSES, where=name)

    def search(num_trials: int, num_seeds: int) -> Search:
        trials = {c: make_trials(config, c.row(LOSSES), num_trials) for c in contenders}
        seeds = [SEARCH_SEED + k for k in range(1, num_seeds + 1)]
        return Search(name, config, trials, seeds)

    num_seeds = flags.folds or flags.seeds or 5
    wanted = search(flags.trials, num_seeds)
    if not flags.budget:
        return wanted
    plan = flags.workdir / _PLAN
    if plan.exists():
        held = read_json(plan, flag="--workdir", cure="remove it to plan anew")
        return search(held["trials"], held["seeds"])
    first, trials = next(iter(wanted.trials.items()))
    cell = trial_cell(name, config, first, trials[0], LOSSES)
    check_data([cell.config])
    fitted = _fitting(flags, search, num_seeds, _time_a_run(cell.config))
    sizes = {"trials": len(fitted.trials[first]), "seeds": len(fitted.seeds)}
    print(f"--budget: {sizes['trials']} trials and {sizes['seeds']} seeds of each loss")
    if not flags.dry_run:
        flags.workdir.mkdir(parents=True, exist_ok=True)
        write_text(plan, json.dumps(sizes))
    return fitted


def _fitting(
    flags: argparse.Namespace,
    search: Callable[[int, int], Search],
    num_seeds: int,
    cost: "Cost",
) -> Search:
    """Returns the largest search that a budget has time for.

    Raises:
      ConfigError: there is no time for the smallest.
    """
    few_trials, few_seeds = min(_FEWEST, flags.trials), min(_FEWEST, num_seeds)
    few_seeds = num_seeds if flags.folds else few_seeds
    sizes = [
        *((trials, num_seeds) for trials in range(flags.trials, few_trials, -1)),
        *((few_trials, seeds) for seeds in range(num_seeds, few_seeds, -1)),
        *((trials, few_seeds) for trials in range(few_trials, 0, -1)),
    ]
    for size in sizes:
        found = search(*size)
        if _seconds_in_all(found, cost) <= flags.budget:
            return found
    needed = _in_words(_seconds_in_all(search(1, few_seeds), cost))
    raise ConfigError(
        f"--budget: one trial and {few_seeds} seeds of each loss take about {needed}; "
        "give that, or fewer epochs or losses"
    )


class Cost(NamedTuple):
    """What a run costs, in seconds."""

    start: float  # before the first epoch is through, without its steps
    epoch: float


def _time_a_run(config: Config) -> Cost:
    """Returns what a run costs, from two epochs of some of its examples."""
    from .command.cli import use_compilation_cache
    from .loop import train_and_evaluate
    from .tasks import prepare

    use_compilation_cache("")
    splits = prepare(config).splits
    size, held = len(splits["train"]), len(splits["validation"])
    few = min(size, _SHORT_EXAMPLES)
    data = dataclasses.replace(config.data, train_examples=few if few < size else 0)
    training = dataclasses.replace(config.training, epochs=2, suspicious_rows=0)
    short = dataclasses.replace(config, data=data, training=training)
    with tempfile.TemporaryDirectory() as folder:
        result = train_and_evaluate(short, Path(folder) / "run", quiet=True)
    first, second = (record["seconds"] for record in result["records"])
    # A pass over validation costs about a third of one with steps.
    share = (size + held / 3) / (few + held / 3)
    return Cost(max(first - (second - first), 0.0), (second - first) * share)


def _seconds_in_all(search: Search, cost: Cost) -> float:
    """Returns the seconds of all runs, about."""
    epochs = [t.epochs for trials in search.trials.values() for t in trials]
    finals = len(search.seeds) * len(search.trials)
    epochs += [search.config.training.epochs] * finals
    return sum(cost.start + n * cost.epoch for n in epochs)


def _estimate(search: Search, cost: Cost) -> str:
    """Returns how many runs there are, and about how long they take."""
    losses, trials = len(search.trials), len(next(iter(search.trials.values())))
    runs = losses * (trials + len(search.seeds))
    seconds = _in_words(_seconds_in_all(search, cost))
    return (
        f"{losses} losses x ({trials} trials + {len(search.seeds)} fresh seeds) = "
        f"{runs} runs, about {seconds} on this machine"
    )


def _in_words(seconds: float) -> str:
    """Returns a time with one unit, rounded up."""
    if seconds < 90:
        return f"{math.ceil(seconds)} seconds"
    if seconds < 90 * 60:
        return f"{math.ceil(seconds / 60)} minutes"
    return f"{math.ceil(seconds / 360) / 10} hours"


def _choose(
    search: Search, contender: Contender, cells: Sequence[Cell], place: Place
) -> Trial:
    """Returns the trial of a contender that validation likes best."""
    comparison = read_comparison(search.name, cells, place)
    results = [run.result for run in comparison.runs]
    return best_trial(search.trials[contender], results, comparison.metric)


def _say_choice(chosen: dict[Contender, Trial]) -> None:
    from as_softmax_jax.losses import LOSSES

    for contender, trial in chosen.items():
        settings = ", ".join(f"{k} {v}" for k, v in trial.settings.items())
        print(f"chosen for {contender.label(LOSSES)}: {settings}", flush=True)


def _report(
    flags: argparse.Namespace,
    search: Search,
    cells: dict[Contender, list[Cell]],
    chosen: dict[Contender, Trial],
    finals: Sequence[Cell],
    place: Place,
    command: str,
) -> None:
    """Writes and prints table, plots and conclusion."""
    from as_softmax_jax.losses import LOSSES

    from .comparison.report import as_terminal, write_markdown, write_report
    from .comparison.search_report import Searched, make_search_chapter

    searched = {
        contender.label(LOSSES): Searched(
            search.trials[contender],
            read_comparison(search.name, of_one, place),
            chosen[contender],
        )
        for contender, of_one in cells.items()
    }
    comparison = read_comparison(search.name, finals, place, "BCa")
    chapter = make_search_chapter(comparison, searched)
    write_report(flags.workdir, [chapter], command=command)
    print(f"\n{as_terminal([chapter])}\n")
    print(textwrap.fill(chapter.caveat, 88, initial_indent="note: "))
    print(f"\n{textwrap.fill(chapter.conclusion, 88)}")
    if flags.markdown:
        write_markdown(
            flags.markdown, [chapter], section=flags.section, command=command
        )
        print(f"\ntables: {flags.markdown.resolve()}")
    print(f"\ntable:  {(flags.workdir / 'table.md').resolve()}")
    print(f"report: {(flags.workdir / 'report.html').resolve()}")


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
