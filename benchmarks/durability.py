"""Kills runs at random moments, resumes them, and compares with one left alone.

    python benchmarks/durability.py             # its table into docs/reliability.md
    python benchmarks/durability.py --kills 3   # fewer; --dry-run prints

Each case trains `configs/digits.py` by the command line, in a folder of its own. Two
runs are equal when the records of all evaluations and the parameters of the best
checkpoint are, to the bit. On other devices sums round otherwise, and losses are
compared. A full disk takes a user who may mount one.
"""

import argparse
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
    end: str  # beside the run that was left alone
    resumed: float  # seconds of the command that finished it


def start(workdir, *flags, devices=1):
    """Starts the command, silently."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [*COMMAND, "--workdir", str(workdir), *flags],
        cwd=ROOT,
        env=environment,
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


def compared(workdir, whole):
    """How a run ended, beside the one that was left alone."""
    import jax

    records, parameters = outcome(workdir)
    same = jax.tree.map(np.array_equal, parameters, whole[1])
    if records == whole[0] and all(jax.tree.leaves(same)):
        return "the same bits"
    found, wanted = (
        np.array([[r["train_loss"], r["validation_loss"]] for r in of])
        for of in (records, whole[0])
    )
    return f"losses within {np.max(abs(found - wanted) / wanted):.0e}"


def interrupt(workdir, number, after, **options):
    """Starts the command and sends it a signal; returns where it was, and its code."""
    process = start(workdir, **options)
    time.sleep(after)
    process.send_signal(number)
    process.communicate()
    return where(workdir, f"{after:.1f} s"), process.returncode


def where(workdir, moment):
    """What a workdir holds of a run that was ended, in words."""
    latest = workdir / "checkpoints" / "latest"
    saved = [path.name for path in latest.glob("*")] if latest.is_dir() else []
    unfinished = any(not name.isdigit() for name in saved)
    steps = max((int(name) for name in saved if name.isdigit()), default=0)
    return f"{moment}, {steps} mini-steps saved" + (
        ", while saving" if unfinished else ""
    )


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
        yield Case(name, moment, code, compared(workdir, whole), seconds)
        shutil.rmtree(workdir)
    workdir = folder / "truncated"
    moment, code = interrupt(workdir, signal.SIGTERM, 0.8 * length)
    truncate_newest(workdir)
    seconds = finish(workdir)
    end = compared(workdir, whole)
    yield Case("newest checkpoint cut in half", moment, code, end, seconds)
    yield fewer_devices(folder / "devices", whole, length)
    yield fewer_processes(folder / "processes", whole, length)
    yield from full_disk(folder / "disk", whole)


def fewer_devices(workdir, whole, length):
    """From eight devices to four to one."""
    after = 0.8 * length
    first, code = interrupt(workdir, signal.SIGTERM, after, devices=8)
    second, code = interrupt(workdir, signal.SIGTERM, after, devices=4)
    seconds = finish(workdir)
    end = compared(workdir, whole)
    return Case("8 devices, 4, then 1", f"{first}; {second}", code, end, seconds)


def fewer_processes(workdir, whole, length):
    """From two processes to one."""
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    flags = ("--coordinator", f"localhost:{port}", "--num-processes", "2")
    both = [start(workdir, *flags, "--process-id", f"{k}") for k in (0, 1)]
    latest = workdir / "checkpoints" / "latest"
    begin = time.perf_counter()
    while not (latest.is_dir() and any(p.name.isdigit() for p in latest.iterdir())):
        time.sleep(0.1)
    for process in both:
        process.kill()
    for process in both:
        process.communicate()
    moment = where(workdir, f"{time.perf_counter() - begin:.1f} s")
    seconds = finish(workdir)
    end, code = compared(workdir, whole), both[0].returncode
    return Case("2 processes killed, then 1", moment, code, end, seconds)


def full_disk(disk, whole):
    """A disk that is full in the middle of a run, and later has room."""
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", str(disk), "-o"]
    if subprocess.run([*mount, "size=2600k"], capture_output=True).returncode:
        return
    try:
        process = start(disk / "run")
        errors = process.communicate()[1]
        assert errors.startswith("error: --workdir"), errors
        moment, code = where(disk / "run", "when full"), process.returncode
        subprocess.run([*mount, "remount,size=50m"], check=True)
        seconds = finish(disk / "run")
        end = compared(disk / "run", whole)
        yield Case("full disk, then room", moment, code, end, seconds)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


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
        f"{machine()}. `python benchmarks/durability.py`: {len(done)} runs of "
        f"`configs/digits.py`, {length:.0f} s each when left alone; "
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
