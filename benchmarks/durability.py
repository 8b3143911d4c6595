"""Kills runs at random moments, resumes them, and compares with one left alone.

    python benchmarks/durability.py             # its table into docs/reliability.md
    python benchmarks/durability.py --kills 3   # fewer; --dry-run prints

Each case trains `configs/digits.py` by the command line, in a folder of its own. Two
runs are equal when the records of all evaluations and the parameters of the best
checkpoint are, to the bit. On other devices sums round otherwise and losses are
compared, of a perceptron that SGD trains on the same digits: AdamW and a maximum over
neighbours make large steps of rounding. A full disk takes a user who may mount one.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from report import machine
from sklearn.datasets import load_digits

from train.comparison.sections import write_section

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
DIGITS = (
    *("--config", "configs/digits.py", "--config.training.epochs=8"),
    # Saving is most of what such a run does: many a kill falls into it.
    "--config.training.checkpoint_every=3",
)


class Case(NamedTuple):
    """What was done to a run, and what became of it."""

    name: str
    moment: str  # when, in words
    exit_code: int
    end: str  # beside the run that was left alone
    resumed: float  # seconds of the command that finished it


def table(folder):
    """Writes the digits as tables of numbers; returns the flags that train on them."""
    images, labels = load_digits(return_X_y=True)
    header = ",".join([*(f"pixel_{k}" for k in range(images.shape[1])), "label"])
    rows = np.column_stack([images, labels])
    folder.mkdir()
    for split, part in (("train", rows[:1500]), ("validation", rows[1500:])):
        name = folder / f"{split}.csv"
        np.savetxt(name, part, "%d", delimiter=",", header=header, comments="")
    return (
        *("--config", "configs/csv_features.py", f"--config.data.path={folder}"),
        *("--config.training.epochs=8", "--config.training.checkpoint_every=3"),
        *("--config.optimizer.name=sgd", "--config.optimizer.learning_rate=0.1"),
    )


def start(flags, workdir, devices=1):
    """Starts the command, silently."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "train", *flags, "--workdir", str(workdir)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(flags, workdir):
    """Gives the command that finishes a run; returns its seconds."""
    begin = time.perf_counter()
    process = start(flags, workdir)
    _, errors = process.communicate(timeout=600)
    if process.returncode:
        raise RuntimeError(f"{workdir} did not finish: {errors[-2000:]}")
    return time.perf_counter() - begin


def records(workdir):
    """The records of all evaluations, without the clock."""
    result = json.loads((workdir / "result.json").read_text())
    return [{k: v for k, v in r.items() if k != "seconds"} for r in result["records"]]


def parameters(workdir):
    """The leaves of the best checkpoint's parameters."""
    result = json.loads((workdir / "result.json").read_text())
    best = workdir / "checkpoints" / "best" / str(result["best_mini_steps"]) / "params"
    return jax.tree.leaves(ocp.StandardCheckpointer().restore(best.absolute()))


def compared(workdir, whole):
    """How a run ended, beside the one that was left alone."""
    ended, alone = records(workdir), records(whole)
    if ended == alone:
        pairs = zip(parameters(workdir), parameters(whole), strict=True)
        if all(np.array_equal(found, wanted) for found, wanted in pairs):
            return "the same bits"
    found, wanted = (
        np.array([[r["train_loss"], r["validation_loss"]] for r in of])
        for of in (ended, alone)
    )
    return f"losses within {np.max(abs(found - wanted) / wanted):.0e}"


def interrupt(flags, workdir, number, after):
    """Starts the command and sends it a signal; returns where it was, and its code."""
    process = start(flags, workdir)
    time.sleep(after)
    process.send_signal(number)
    process.communicate()
    return where(workdir, f"{after:.1f} s"), process.returncode


def where(workdir, moment):
    """What a workdir holds of a run that was ended, in words."""
    unfinished = any(not path.name.isdigit() for path in saved(workdir))
    moment += f", {saved_steps(workdir)} mini-steps saved"
    return f"{moment}, while saving" if unfinished else moment


def saved(workdir):
    """The folders of the latest checkpoints, unfinished ones included."""
    latest = workdir / "checkpoints" / "latest"
    return list(latest.iterdir()) if latest.is_dir() else []


def saved_steps(workdir):
    """The mini-steps of the newest checkpoint that is whole; 0 where there is none."""
    names = (path.name for path in saved(workdir))
    return max((int(name) for name in names if name.isdigit()), default=0)


def truncate_newest(workdir):
    """Cuts the largest file of the newest checkpoint in half."""
    newest = workdir / "checkpoints" / "latest" / f"{saved_steps(workdir)}"
    file = max(
        (p for p in newest.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def cases(folder, whole, length, flags):
    """Yields what became of each run on one device."""
    generator = random.Random(flags.seed)
    kinds = [("kill -9", signal.SIGKILL)] * flags.kills
    kinds += [("SIGTERM", signal.SIGTERM)] * max(flags.kills // 4, 1)
    for number, (name, which) in enumerate(kinds):
        workdir = folder / f"{number}"
        after = generator.uniform(0.3, 0.95) * length
        moment, code = interrupt(DIGITS, workdir, which, after)
        seconds = finish(DIGITS, workdir)
        yield Case(name, moment, code, compared(workdir, whole), seconds)
        shutil.rmtree(workdir)
    workdir = folder / "truncated"
    moment, code = interrupt(DIGITS, workdir, signal.SIGTERM, 0.8 * length)
    truncate_newest(workdir)
    seconds = finish(DIGITS, workdir)
    end = compared(workdir, whole)
    yield Case("newest checkpoint cut in half", moment, code, end, seconds)
    yield from full_disk(folder / "disk", whole)


def full_disk(disk, whole):
    """A disk that is full in the middle of a run, and later has room."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(disk), "-o"]
    if subprocess.run([*mount, "size=2600k"], capture_output=True).returncode:
        return
    try:
        process = start(DIGITS, disk / "run")
        errors = process.communicate()[1]
        assert errors.startswith("error: --workdir"), errors
        moment, code = where(disk / "run", "when full"), process.returncode
        subprocess.run([*mount, "remount,size=50m"], check=True)
        seconds = finish(DIGITS, disk / "run")
        end = compared(disk / "run", whole)
        yield Case("full disk, then room", moment, code, end, seconds)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def cases_elsewhere(folder):
    """Yields what became of runs that went on on other devices."""
    flags = table(folder / "table")
    whole = folder / "whole_table"
    finish(flags, whole)
    workdir = folder / "devices"
    eight = end_at(40, [start(flags, workdir, devices=8)], workdir, signal.SIGTERM)
    four = end_at(160, [start(flags, workdir, devices=4)], workdir, signal.SIGTERM)
    seconds = finish(flags, workdir)
    moments, end = f"{eight[0]}; {four[0]}", compared(workdir, whole)
    yield Case("8 devices, 4, then 1", moments, four[1], end, seconds)
    workdir = folder / "processes"
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    both = (*flags, "--coordinator", f"localhost:{port}", "--num-processes", "2")
    processes = [start((*both, "--process-id", f"{k}"), workdir) for k in (0, 1)]
    moment, code = end_at(160, processes, workdir, signal.SIGKILL)
    seconds = finish(flags, workdir)
    end = compared(workdir, whole)
    yield Case("2 processes killed, then 1", moment, code, end, seconds)


def end_at(mini_steps, processes, workdir, number):
    """Sends processes a signal when so much is saved; returns where, and their code."""
    begin = time.perf_counter()
    while saved_steps(workdir) < mini_steps:
        if any(process.poll() is not None for process in processes):
            raise RuntimeError(f"{workdir} ended: {processes[0].communicate()[1]}")
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    for process in processes:
        process.send_signal(number)
    for process in processes:
        process.communicate()
    return where(workdir, f"{seconds:.1f} s"), processes[0].returncode


def main():
    """Runs every case, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        finish(DIGITS, folder / "warm")  # fills the compilation cache
        whole = folder / "whole"
        length = finish(DIGITS, whole)
        done = []
        for case in itertools.chain(
            cases(folder, whole, length, flags), cases_elsewhere(folder)
        ):
            done.append(case)
            print(case, flush=True)
    resumed = statistics.median(case.resumed for case in done)
    lines = [
        f"{machine()}. `python benchmarks/durability.py`: {len(done)} runs, the last "
        f"two of a perceptron, the others of `configs/digits.py`, {length:.0f} s each "
        "when left alone; "
        f"{sum(case.end == 'the same bits' for case in done)} of them ended in the "
        f"same bits as it. The command that went on took {resumed:.0f} s (median).",
        "",
        "| what | when | exit code | end | seconds to go on |",
        "|---|---|---:|---|---:|",
        *(
            f"| {c.name} | {c.moment} | {c.exit_code} | {c.end} | {c.resumed:.1f} |"
            for c in done
        ),
    ]
    if flags.dry_run:
        print("\n".join(lines))
    else:
        write_section(PAGE, "durability", "\n".join(lines))


if __name__ == "__main__":
    main()
