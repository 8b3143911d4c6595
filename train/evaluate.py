"""The metrics of a finished run on a split.

python -m train.evaluate --workdir DIR --split test [--config.data.path=FOLDER]
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from .command.cli import make_parser, run, use_compilation_cache, with_huge_pages
from .data.records import Records
from .errors import ConfigError
from .evaluation.evaluation import evaluate, split_figures
from .storage import as_json, finite
from .tasks.task import encode_labelled, read_records
from .workdir.finished_run import FinishedRun, read_run


def evaluate_run(
    workdir: str | os.PathLike, split: str, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the metrics of a run's best checkpoint on one split.

    Args:
      workdir: the folder that the trainer wrote.
      split: train, validation or test.
      overrides: flags such as `--config.data.path=FOLDER`, where the data has moved.

    Returns:
      Loss and metrics, the number of examples, and which checkpoint it was.

    Raises:
      TrainerError: the run or the data cannot be read, or has no such split.
    """
    finished = read_run(workdir, overrides)
    splits = read_records(finished.task, finished.config.data)
    if split not in splits:
        raise ConfigError(
            f"--split: no {split!r}; the run's data has {', '.join(splits)}"
        )
    return evaluate_records(finished, splits[split])


def evaluate_records(finished: FinishedRun, records: Records) -> dict[str, Any]:
    """Returns the metrics of a run's best checkpoint on records with labels.

    Args:
      finished: of `read_run`.
      records: of a split, by which the metrics are named.

    Raises:
      DataError: they cannot be read.
    """
    config, classes, scorer = finished.config, finished.classes, finished.scorer
    examples = encode_labelled(
        finished.task, finished.codec, classes, records, config.data
    )
    evaluation = evaluate(
        scorer,
        finished.params,
        examples,
        batch_size=config.training.batch_size,
        held=finished.held,
    )
    figures = split_figures(
        scorer.target,
        classes,
        records.split,
        evaluation,
        examples.labels,
        finished.calibration,
    )
    return {
        **figures,
        "examples": len(examples),
        "checkpoint": finished.checkpoint,
        "workdir": str(finished.workdir),
    }


def main(arguments: list[str] | None = None) -> int:
    """Evaluates, and returns the process's exit code."""
    parser = make_parser(
        "evaluate",
        "The metrics of a finished run on a split.",
        "Where the data has moved: --config.data.path=FOLDER",
    )
    parser.add_argument("--workdir", required=True, help="the run's folder")
    parser.add_argument("--split", default="test", help="train, validation or test")
    flags, overrides = parser.parse_known_args(arguments)
    return run(lambda: _evaluate(flags, overrides), interrupted="nothing is written")


def _evaluate(flags: argparse.Namespace, overrides: list[str]) -> int:
    use_compilation_cache(flags.compilation_cache)
    figures = evaluate_run(flags.workdir, flags.split, overrides)
    print(as_json({name: finite(figure) for name, figure in figures.items()}), end="")
    return 0


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
