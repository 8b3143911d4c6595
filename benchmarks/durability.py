"""Kills runs at random moments, resumes them, and compares with one left alone.

    python benchmarks/durability.py             # its table into docs/reliability.md
    python benchmarks/durability.py --kills 3   # fewer; --dry-run prints

Each case trains `configs/digits.py` by the command line, in a folder of its own. Two
runs are equal when the records of all evaluations and the parameters of the best
checkpoint are, to the bit. A command that was killed is given again until it finishes.
"""

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orbax.checkpoint as ocp
from report import machine

from train.sections import write_section

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
COMMAND = [
    *(sys.executable, "-m", "train", "--config", "configs/digits.py"),
    # Saving is most of what such a run does: many a kill falls into it.
    "--config.training.checkpoint_every=3",
    "--config.training.epochs=8",
]


class Case(NamedTuple):
    """What was done to a run, and what became of it."""

    name: str
    moment: str  # when, in words
    exit_code: int
    equal: bool
    resumed: float  # seconds of the command that finished it


def start(workdir, *flags):
    """Starts the command, silently."""
    return subprocess.Popen(
        [*COMMAND, "--workdir", str(workdir), *flags],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(workdir, *flags):
    """Gives the command until it finishes; returns the last one's seconds."""
    begin = time.perf_counter()
    process = start(workdir, *flags)
    _, errors = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"{workdir} did not finish: {errors[-2000:]}")
    return time.perf_counter() - begin


def outcome(workdir):
    """What equal runs agree in: records without the clock, and parameters."""
    result = json.loads((workdir / "result.json").read_text())
    records = [
        {k: v for k, v in r.items() if k != "seconds"} for r in result["records"]
    ]
    best = workdir / "checkpoints" / "best" / str(result["best_mini_steps"]) / "params"
    parameters = ocp.StandardCheckpointer().restore(best.absolute())
    return records, parameters


def equal(one, other):
    """Whether two outcomes are the same to the bit."""
    import jax

    same = jax.tree.map(np.array_equal, one[1], other[1])
    return one[0] == other[0] and all(jax.tree.leaves(same))


def interrupt(workdir, number, after):
    """Starts the command and sends it a signal; returns where it was, and its code."""
    process = start(workdir)
    time.sleep(after)
    process.send_signal(number)
    process.communicate()
    latest = workdir / "checkpoints" / "latest"
    saved = [path.name for path in latest.glob("*")] if latest.is_dir() else []
    unfinished = any(not name.isdigit() for name in saved)
    steps = max((int(name) for name in saved if name.isdigit()), default=0)
    moment = f"{after:.1f} s, {steps} mini-steps saved"
    return moment + (", while saving" if unfinished else ""), process.returncode


def truncate_newest(workdir):
    """Cuts the largest file of the newest checkpoint in half."""
    latest = workdir / "checkpoints" / "latest"
    newest = max(
        (p for p in latest.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)
    )
    file = max(
        (p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def cases(folder, whole, length, flags):
    """Yields what became of each run."""
    generator = random.Random(flags.seed)
    kinds = [("kill -9", signal.SIGKILL)] * flags.kills
    kinds += [("SIGTERM", signal.SIGTERM)] * max(flags.kills // 4, 1)
    for number, (name, which) in enumerate(kinds):
        workdir = folder / f"{number}"
        after = generator.uniform(0.3, 0.95) * length
        moment, code = interrupt(workdir, which, after)
        seconds = finish(workdir)
        yield Case(name, moment, code, equal(outcome(workdir), whole), seconds)
        shutil.rmtree(workdir)
    workdir = folder / "truncated"
    moment, code = interrupt(workdir, signal.SIGTERM, 0.8 * length)
    truncate_newest(workdir)
    seconds = finish(workdir)
    same = equal(outcome(workdir), whole)
    yield Case("newest checkpoint cut in half", moment, code, same, seconds)


def main():
    """Runs every case, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finish(folder / "warm")  # fills the compilation cache
        length = finish(folder / "whole")
        whole = outcome(folder / "whole")
        done = []
        for case in cases(folder, whole, length, flags):
            done.append(case)
            print(case, flush=True)
    resumed = statistics.median(case.resumed for case in done)
    lines = [
        "## Runs that were interrupted",
        "",
        f"{machine()}. `python benchmarks/durability.py`: {len(done)} runs of "
        f"`configs/digits.py`, {length:.0f} s each when left alone; "
        f"{sum(case.equal for case in done)} of them ended equal to the bit. The "
        f"command that went on took {resumed:.0f} s (median).",
        "",
        "| what | when | exit code | equal | seconds to go on |",
        "|---|---|---:|---|---:|",
        *(
            f"| {c.name} | {c.moment} | {c.exit_code} | {'yes' if c.equal else 'NO'} "
            f"| {c.resumed:.1f} |"
            for c in done
        ),
    ]
    if flags.dry_run:
        print("\n".join(lines))
    else:
        write_section(PAGE, "durability", "\n".join(lines))


if __name__ == "__main__":
    main()
