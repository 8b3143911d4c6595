"""The command line: flags, then `train_and_evaluate`."""

import argparse
import os
import signal
import sys
from pathlib import Path

from .command.cli import make_parser, run, use_compilation_cache, with_huge_pages
from .command.processes import add_process_flags, is_first, join_processes
from .config import load


def main(arguments: list[str] | None = None) -> int:
    """Trains, and returns the process's exit code."""
    parser = make_parser(
        "train",
        "Trains as a configuration says.",
        "Any key of the configuration: --config.loss.delta=0.2",
    )
    parser.add_argument(
        "--config", required=True, help="a file such as configs/digits.py"
    )
    parser.add_argument(
        "--workdir",
        help="the run's folder, or an address such as gs://bucket/run; default: runs/ "
        "and the configuration's name",
    )
    add_process_flags(parser)
    flags, overrides = parser.parse_known_args(arguments)
    return run(
        lambda: _train(flags, overrides),
        interrupted="before the first step; nothing is kept",
    )


def _train(flags: argparse.Namespace, overrides: list[str]) -> int:
    """Trains and says how it ended."""
    config = load(flags.config, overrides)
    workdir = os.path.expanduser(flags.workdir or f"runs/{Path(flags.config).stem}")
    from .command.signals import Stopped
    from .loop import train_and_evaluate

    use_compilation_cache(flags.compilation_cache)
    join_processes(flags)
    try:
        result = train_and_evaluate(config, workdir)
    except Stopped as stopped:
        print(
            f"{stopped} in {workdir}; the same command goes on from there",
            file=sys.stderr,
        )
        return 128 + stopped.signal_number
    if not is_first():
        return 0
    metric = result["metric"]
    names = [f"validation_{metric}", f"test_{metric}", "gradient_steps", "seconds"]
    figures = ", ".join(f"{n} {result[n]:.6g}" for n in names if n in result)
    best = f"checkpoint of epoch {result['best_epoch']}"
    print(f"finished: {best}: {figures}; see {workdir}/result.json")
    return 0


if __name__ == "__main__":
    with_huge_pages()
    # A signal before the loop takes over ends the run as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
