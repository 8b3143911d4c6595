"""What saving costs a run, and how soon a run that was stopped takes its next step.

    AS_SOFTMAX_DATA=FOLDER python benchmarks/checkpoints.py
      --config configs/clinc150_minilm.py --config.model.pretrained=ENCODER

Stretches of training of a minute each, in turn with a save in their middle and without.
Then the command itself is stopped and given again; every step of it is saved, and the
clock stops when the first new checkpoint is whole. Into docs/reliability.md.
"""

import argparse
import dataclasses
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from report import machine

from train.command.cli import use_compilation_cache, with_huge_pages
from train.comparison.sections import write_section
from train.config import load
from train.loop import initial_state
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.steps import BatchInfo, train_step
from train.training.sums import Sums
from train.workdir.checkpoints import LatestCheckpoint, Progress

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
_step = jax.jit(train_step, donate_argnums=1)


class Training:
    """A run without its end: steps on batches of one length, over and over."""

    def __init__(self, config):
        data = prepare(config)
        self.recipe = make_recipe(config, data)
        self.state = initial_state(self.recipe, seed=config.seed)
        feed = make_feed(self.recipe, data.splits["train"], seed=config.seed)
        items = feed.items(lambda: self.state)
        batches = [item.batch for item in itertools.islice(items, 64)]
        self.progress = Progress(0.0, [], {}, Sums(), {}, feed.state)
        shapes = [batch["inputs"].shape for batch in batches]
        shape = max(set(shapes), key=shapes.count)
        batches = [batch for batch in batches if batch["inputs"].shape == shape]
        self.batches = itertools.cycle(batches)

    def steps(self, count):
        """Takes so many steps, and waits for the last."""
        info = BatchInfo(np.int32(1), np.bool_(True), np.bool_(False))
        for _ in range(count):
            batch = put_batch(self.recipe.mesh, next(self.batches))
            self.state = _step(self.recipe, self.state, batch, info)
        jax.block_until_ready(self.state)


def saving_cost(config, seconds, rounds):
    """The times of stretches with a save over those without, and the bytes saved."""
    training = Training(config)
    training.steps(20)
    start = time.perf_counter()
    training.steps(20)
    half = max(round(seconds / (time.perf_counter() - start) * 10), 1)
    times = {"with": [], "without": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        LatestCheckpoint(Path(folder), keep=2) as latest,
    ):
        for kind in ("with", "without") * rounds:
            start = time.perf_counter()
            training.steps(half)
            if kind == "with":
                latest.save(training.state, training.progress)
            training.steps(half)
            times[kind].append(time.perf_counter() - start)
            latest.wait()
            print(kind, f"{times[kind][-1]:.2f} s", flush=True)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(training.state))
    return times, size


def newest(workdir):
    """The number of the newest whole checkpoint; -1: none."""
    latest = workdir / "checkpoints" / "latest"
    there = latest.iterdir() if latest.is_dir() else ()
    return max((int(p.name) for p in there if p.name.isdigit()), default=-1)


def seconds_to_first_step(flags, overrides):
    """The seconds from the command to its first new checkpoint, after a stop."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        command = [sys.executable, "-m", "train", "--config", str(flags.config)]
        command += ["--workdir", str(workdir), *overrides]
        command += ["--config.training.checkpoint_every=1"]
        took = []
        for _ in range(4):
            before, start = newest(workdir), time.perf_counter()
            process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
            while newest(workdir) <= max(before, 0):
                if process.poll() is not None:
                    raise RuntimeError(f"the run ended with {process.returncode}")
                time.sleep(0.05)
            took.append(time.perf_counter() - start)
            process.send_signal(signal.SIGTERM)
            process.wait()
        return took[1:]  # The first one began anew, and filled the cache.


def main():
    """Measures both, and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a stretch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry-run", action="store_true", help="print, do not write")
    flags, overrides = parser.parse_known_args()
    use_compilation_cache(str(Path.home() / ".cache" / "as_softmax_jax" / "xla"))
    config = load(flags.config, overrides)
    config = dataclasses.replace(config, seed=0)
    times, size = saving_cost(config, flags.seconds, flags.rounds)
    print(json.dumps(times))
    ratio = statistics.median(times["with"]) / statistics.median(times["without"])
    took = seconds_to_first_step(flags, overrides)
    content = (
        f"{machine()}. `python benchmarks/checkpoints.py --config {flags.config}`: "
        f"{flags.rounds} stretches of {statistics.median(times['without']):.0f} s "
        f"with a save of {size / 1e6:.0f} MB in the middle take {ratio:.3f} times as "
        "long as those without, in turn with them (medians). The command, given again "
        f"after SIGTERM, has taken its first step and saved it after "
        f"{statistics.median(took):.1f} s (median of {len(took)}; the compilation "
        "cache is warm)."
    )
    print(content)
    if not flags.dry_run:
        write_section(PAGE, "checkpoints", content)


if __name__ == "__main__":
    with_huge_pages()
    main()
