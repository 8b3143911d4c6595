"""Times whole epochs of training: plain, accumulated, and on active examples alone.

    AS_SOFTMAX_DATA=FOLDER python benchmarks/training_speed.py
      --config configs/clinc150_minilm.py --epochs 5 --seed 0
      --config.model.pretrained=ENCODER      # trains, and writes a cell a mode
    python benchmarks/training_speed.py --report    # the tables and the plot from cells

The modes take turns epoch by epoch in one process. Every program is compiled before the
clock starts, and evaluation is not on it. A mode whose cell is there is not trained
again; a ratio is to the softmax that took turns with it. With --untimed, for accuracy
on a busy machine, cells hold no seconds. The report goes into docs/training_speed.md.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from report import machine

from train.command.cli import use_compilation_cache, with_huge_pages
from train.comparison.sections import write_section
from train.config import as_dict, load
from train.data.pipeline import read_batch
from train.evaluation.evaluation import evaluate
from train.loop import initial_state
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.steps import BatchInfo, train_step

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "docs" / "results" / "training_speed"
PAGE = ROOT / "docs" / "training_speed.md"
MODES = {
    "softmax": ["loss.name=softmax"],
    "as_softmax": [],
    "accumulated": ["training.window=settled_ratio"],
    "compact": ["training.mode=compact"],
    # Fewer gradient steps: batches keep their size however few examples are active.
    "compact_full_batches": ["training.mode=compact", "compact.min_batch_size=0"],
    "compact_less_slack": ["training.mode=compact", "compact.slack=0.2"],
    # Nothing but what is active without dropout.
    "compact_no_slack": ["training.mode=compact", "compact.slack=0.0"],
    "compact_skipping": ["training.mode=compact", "compact.max_skipped_epochs=3"],
    # A margin of 1 settles nothing: the price of trying.
    "compact_unsettled": ["training.mode=compact", "loss.delta=1.0"],
}
TITLES = {
    "softmax": "softmax",
    "as_softmax": "AS-Softmax",
    "accumulated": "AS-Softmax, accumulated (the paper)",
    "compact": "AS-Softmax, compact",
    "compact_full_batches": "AS-Softmax, compact, batches do not shrink",
    "compact_less_slack": "AS-Softmax, compact, a slack of 0.2",
    "compact_no_slack": "AS-Softmax, compact, no slack",
    "compact_skipping": "AS-Softmax, compact, looking less often",
    "compact_unsettled": "AS-Softmax, compact, nothing settles",
}

_train_step = jax.jit(train_step, static_argnums=0, donate_argnums=1)


class Trial:
    """One mode's training, an epoch at a time."""

    def __init__(self, config, data):
        self.config, self.data = config, data
        self.recipe = make_recipe(config, data)
        self.state = initial_state(self.recipe, seed=config.seed)
        self.feed = make_feed(self.recipe, data.splits["train"], seed=config.seed)
        self.epochs = []

    def compile(self):
        """Runs a step of each shape that may come, and forgets what it did."""
        held = jax.tree.map(jnp.copy, self.state)
        examples = self.data.splits["train"]
        order, shapes = examples.order, {}
        for size in self.sizes():
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                batch = read_batch(examples, rows, batch_size=size)
                shapes[batch["inputs"].shape] = (batch, rows)
        info = BatchInfo(np.int32(1), np.bool_(True), np.bool_(False))
        for batch, rows in shapes.values():
            batch = put_batch(self.recipe.mesh, batch)
            held = _train_step(self.recipe, held, batch, info)
            if self.config.training.mode == "compact":
                self.feed.look(held, rows, counted=False)
        self.test(held.params)

    def test(self, params):
        """Evaluates the test split."""
        return evaluate(
            self.recipe.scorer,
            params,
            self.data.splits["test"],
            batch_size=self.recipe.training.batch_size,
        )

    def sizes(self):
        """The sizes of batches that may come: those of active examples shrink."""
        size = self.recipe.training.batch_size
        least = self.config.compact.min_batch_size
        yield size
        while self.config.training.mode == "compact" and least and size >= 2 * least:
            size //= 2
            yield size

    def epoch(self):
        """Trains an epoch on the clock, then evaluates off it."""
        start, first = time.perf_counter(), True
        for item in self.feed.items(lambda: self.state):
            batch = put_batch(self.recipe.mesh, item.batch)
            info = BatchInfo(
                np.int32(item.num_seen), np.bool_(first), np.bool_(item.last)
            )
            self.state = _train_step(self.recipe, self.state, batch, info)
            first = False
        sums = jax.device_get(self.state.sums).wide()
        seconds = time.perf_counter() - start
        settled = self.feed.finish_epoch(sums).means()["settled_share"]
        test = self.test(self.state.params)
        self.epochs.append(
            {
                "seconds": seconds,
                "test_accuracy": test.means["accuracy"],
                "settled_share": settled,
                "gradient_steps": int(self.state.gradient_step),
                **self.feed.figures(),
            }
        )


def forward_share(trial, rounds=64):
    """The seconds of a look at some examples, over those of steps on them.

    A look sorts what it looks at by length, as in training.
    """
    size = trial.recipe.training.batch_size
    examples = trial.data.splits["train"]
    rows = [trial.feed.rows[k] for k in range(min(rounds, len(trial.feed.rows)))]
    rows = [part for part in rows if len(part) == size]
    info = BatchInfo(np.int32(1), np.bool_(True), np.bool_(False))
    state = jax.tree.map(jnp.copy, trial.state)
    shares = []
    for _ in range(3):
        start = time.perf_counter()
        for part in rows:
            batch = put_batch(
                trial.recipe.mesh, read_batch(examples, part, batch_size=size)
            )
            state = _train_step(trial.recipe, state, batch, info)
        jax.block_until_ready(state)
        middle = time.perf_counter()
        trial.feed.look(state, np.concatenate(rows), counted=False)
        shares.append((time.perf_counter() - middle) / (middle - start))
    return statistics.median(shares)


def measure(flags, overrides):
    """Trains the modes whose cells are missing, in turn, and writes their cells."""
    trials, data = {}, None
    for mode in flags.modes:
        if not cell_file(flags, mode).exists():
            settings = [f"--config.{setting}" for setting in MODES[mode]]
            settings += [f"--config.training.epochs={flags.epochs}"]
            config = load(flags.config, [*settings, *overrides])
            config = dataclasses.replace(config, seed=flags.seed)
            data = prepare(config) if data is None else data
            trials[mode] = Trial(config, data)
    for trial in trials.values():
        trial.compile()
    for epoch in range(flags.epochs):
        for mode, trial in trials.items():
            trial.epoch()
            print(epoch + 1, mode, json.dumps(trial.epochs[-1]), flush=True)
    for mode, trial in trials.items():
        cell = {
            "mode": mode,
            "task": flags.config.stem,
            "seed": flags.seed,
            "together_with": list(trials),
            "examples": len(data.splits["train"]),
            "epochs": trial.epochs,
            "config": as_dict(trial.config),
            "machine": machine(),
        }
        if flags.untimed:
            for epoch in trial.epochs:
                del epoch["seconds"]
        else:
            if "softmax" in trials:
                cell["softmax_seconds"] = seconds({"epochs": trials["softmax"].epochs})
            if mode.startswith("compact"):
                cell["forward_share"] = forward_share(trial)
        cell_file(flags, mode).parent.mkdir(parents=True, exist_ok=True)
        cell_file(flags, mode).write_text(json.dumps(cell, indent=1) + "\n")


def cell_file(flags, mode):
    """Where a mode's cell lies."""
    name = f"{flags.config.stem}-{mode}-epochs_{flags.epochs}-seed_{flags.seed}.json"
    return CELLS / name


def is_timed(cell):
    """Whether a cell holds seconds."""
    return "seconds" in cell["epochs"][0]


def read_cells():
    """(task, epochs) -> mode -> cells by seed, of all that are there."""
    cells = {}
    for file in sorted(CELLS.glob("*.json")):
        cell = json.loads(file.read_text())
        group = cells.setdefault((cell["task"], len(cell["epochs"])), {})
        group.setdefault(cell["mode"], []).append(cell)
    return cells


def seconds(cell, since=0):
    """The seconds of all epochs, or of those from one on."""
    return sum(epoch["seconds"] for epoch in cell["epochs"][since:])


def ceiling(cell):
    """The ratio to plain training that cannot be passed: epochs / sum min(1, f + a)."""
    shares = [1.0 - epoch["settled_share"] for epoch in cell["epochs"]]
    return len(shares) / sum(min(1.0, cell["forward_share"] + a) for a in shares)


def table(modes):
    """The Markdown table of one task: medians and means over seeds."""
    lines = [
        "| mode | seeds | seconds | softmax's / its | forward alone "
        "| forward and backward | gradient steps | test accuracy |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for mode, title in TITLES.items():
        cells = modes.get(mode, [])
        if not cells:
            continue
        lasts = [cell["epochs"][-1] for cell in cells]
        timed = [cell for cell in cells if is_timed(cell)]
        time = f"{statistics.median(map(seconds, timed)):.0f}" if timed else ""
        ratios = [
            cell["softmax_seconds"] / seconds(cell)
            for cell in timed
            if "softmax_seconds" in cell
        ]
        mean = {
            key: statistics.mean(last[key] for last in lasts)
            for key in ("examples_filtered", "examples_trained", "gradient_steps")
        }
        accuracies = [100 * last["test_accuracy"] for last in lasts]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(cells) > 1 else ""
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        lines.append(
            f"| {title} | {len(cells)} | {time} | {ratio} "
            f"| {mean['examples_filtered']:.0f} "
            f"| {mean['examples_trained']:.0f} | {mean['gradient_steps']:.0f} "
            f"| {statistics.mean(accuracies):.2f}{spread} |"
        )
    return "\n".join(lines)


def notes(modes):
    """What else the cells of one task say, in sentences."""
    modes = {mode: list(filter(is_timed, cells)) for mode, cells in modes.items()}
    plain = {cell["seed"]: cell for cell in modes.get("as_softmax", [])}
    for cell in modes.get("compact_unsettled", []):
        if cell["seed"] in plain:
            after = [seconds(c, since=1) for c in (cell, plain[cell["seed"]])]
            yield (
                f"{TITLES['compact_unsettled']}, seed {cell['seed']}: after the first "
                f"epoch {after[0] / after[1]:.2f} times the seconds of AS-Softmax."
            )
    for mode in ("compact", "compact_skipping"):
        for cell in modes.get(mode, []):
            yield compact_note(mode, cell)


def compact_note(mode, cell):
    """What one compact cell says beside its row of the table."""
    last, best = cell["epochs"][-1], ceiling(cell)
    shares = ", ".join(f"{e['settled_share']:.2f}" for e in cell["epochs"])
    text = (
        f"{TITLES[mode]}, seed {cell['seed']}: settled by epoch {shares}; a pass "
        f"without gradient costs {cell['forward_share']:.2f} of a step. The ceiling is "
        f"{best:.2f} times plain training"
    )
    if "softmax_seconds" in cell:
        ratio = cell["softmax_seconds"] / seconds(cell)
        text += f", of which it reaches {ratio / best:.0%} ({ratio:.2f})"
    text += (
        f". {last['stale_share']:.1%} of the trained examples were looked at before "
        f"the last update, and {last['stale_settled_share']:.1%} of a sample of those "
        "were settled by then"
    )
    if mode == "compact_skipping":
        text += (
            f". {last['skipped_share']:.1%} of all examples were not looked at, and "
            f"{last['wrongly_skipped_share']:.2%} of a sample of those were active"
        )
    return text + "."


def draw(task, modes, file):
    """Test accuracy against seconds of training, of the first seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "the same each time"

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for mode, title in TITLES.items():
        if mode in modes and mode != "compact_unsettled" and is_timed(modes[mode][0]):
            epochs = modes[mode][0]["epochs"]
            times = np.cumsum([epoch["seconds"] for epoch in epochs])
            scores = [100 * epoch["test_accuracy"] for epoch in epochs]
            axes.plot(times, scores, marker="o", label=title)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(task)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def report():
    """Writes each task's table, notes and plot into the page."""
    for (task, epochs), modes in read_cells().items():
        name = f"{task}-epochs_{epochs}"
        first = next(iter(modes.values()))[0]
        lines = [
            f"### {task}, {epochs} epochs",
            f"{first['machine']}; {first['examples']} examples an epoch.",
            table(modes),
            *notes(modes),
        ]
        if any(map(is_timed, modes.get("softmax", []))):
            picture = PAGE.with_name(f"training_speed-{name}.svg")
            draw(f"{task}, {epochs} epochs", modes, picture)
            lines += [f"![Test accuracy against seconds of training]({picture.name})"]
        write_section(PAGE, name, "\n\n".join(lines))


def main():
    """Reads the flags; trains, or reports."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", type=lambda t: t.split(","), default=list(MODES))
    parser.add_argument("--untimed", action="store_true")
    parser.add_argument("--report", action="store_true")
    flags, overrides = parser.parse_known_args()
    if flags.config:
        use_compilation_cache(str(Path.home() / ".cache" / "as_softmax_jax" / "xla"))
        measure(flags, overrides)
    if flags.report:
        report()


if __name__ == "__main__":
    with_huge_pages()
    main()
