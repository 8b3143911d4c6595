"""Times whole epochs of training: plain, accumulated, compact, and as rivals do it.

    AS_SOFTMAX_DATA=FOLDER python benchmarks/training_speed.py
      --config configs/clinc150_minilm.py --epochs 5 --seed 0
      --config.model.pretrained=ENCODER      # trains, and writes a cell a mode
    python benchmarks/training_speed.py --report    # the tables and the plot from cells

The modes take turns epoch by epoch in one process. Every program is compiled before the
clock starts, and evaluation is not on it. A mode whose cell is there is not trained
again; a ratio is to a baseline that took turns with it. With --untimed, for accuracy
on a busy machine, cells hold no seconds. The report goes into docs/training_speed.md.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from report import machine

from train.command.cli import use_compilation_cache, with_huge_pages
from train.comparison.sections import write_section
from train.config import as_dict, load
from train.data.pipeline import read_batch
from train.evaluation.evaluation import evaluate, split_figures
from train.loop import initial_state
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.targets.metric import by_name
from train.tasks import find_task, prepare
from train.training.feeds import make_feed
from train.training.steps import BatchInfo, train_step

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "docs" / "results" / "training_speed"
PAGE = ROOT / "docs" / "training_speed.md"


class Mode(NamedTuple):
    """One way to train, under the configuration of the task."""

    title: str
    settings: tuple[str, ...] = ()
    epochs: int = 0  # over which the learning rate decays; 0: as many as the others
    plotted: bool = False


_GROUPED = "training.group_by_length=true"
_DELTA = ("loss.delta=0.1",)
_MARGIN = ("loss.logit_margin=2.0",)
_SOFTMAX = ("loss.name=softmax", _GROUPED)
_OF_DELTA = (*_DELTA, "training.mode=compact", "compact.decide_every=0")
_COMPACT = (*_MARGIN, "training.mode=compact", "compact.decide_every=0")
_LOOK = ("compact.look_rows=2048", "compact.batch_size=128")
_BATCHES = ("compact.min_batch_size=0", "compact.scale_learning_rate=true")
_SKIP = "compact.max_skipped_epochs=3"
_WITHIN = "compact.decide_every=2048"
_ALL = (*_COMPACT, _GROUPED, *_LOOK, _WITHIN, _SKIP)

MODES = {
    "softmax": Mode("softmax", ("loss.name=softmax",), plotted=True),
    "softmax_grouped": Mode("softmax, grouped by length", _SOFTMAX, plotted=True),
    "softmax_in_2": Mode("softmax, grouped, 2 epochs", _SOFTMAX, 2, plotted=True),
    "softmax_in_3": Mode("softmax, grouped, 3 epochs", _SOFTMAX, 3, plotted=True),
    "random": Mode(
        "softmax, grouped, a random third of the examples",
        (*_SOFTMAX, "training.mode=random", "selection.share=0.33"),
        plotted=True,
    ),
    "selective_backprop": Mode(
        "softmax, grouped, Selective-Backprop of a third",
        (*_SOFTMAX, "training.mode=selective_backprop", "selection.share=0.33"),
        plotted=True,
    ),
    "selective_backprop_stale": Mode(
        "softmax, grouped, Selective-Backprop of a third, a look each third epoch",
        (
            *(*_SOFTMAX, "training.mode=selective_backprop", "selection.share=0.33"),
            "selection.look_every=3",
        ),
    ),
    "infobatch": Mode(
        "softmax, grouped, InfoBatch",
        (*_SOFTMAX, "training.mode=infobatch"),
        plotted=True,
    ),
    "margin_infobatch": Mode(
        "AS-Softmax, m = 2, grouped, InfoBatch",
        (*_MARGIN, _GROUPED, "training.mode=infobatch"),
    ),
    "as_softmax": Mode("AS-Softmax", _DELTA),
    "margin": Mode("AS-Softmax, m = 2", _MARGIN),
    "paper": Mode(
        "AS-Softmax, accumulated as in the paper, up to 2 mini-batches",
        (*_DELTA, "training.window=settled_ratio", "training.max_mini_steps=2"),
    ),
    "accumulated": Mode(
        "AS-Softmax, accumulated, up to 8 mini-batches",
        (*_DELTA, "training.window=settled_ratio", "training.max_mini_steps=8"),
    ),
    "compact": Mode("AS-Softmax, compact", _OF_DELTA),
    # Fewer gradient steps: batches keep their size however few examples are active.
    "compact_full_batches": Mode(
        "AS-Softmax, compact, batches do not shrink",
        (*_OF_DELTA, "compact.min_batch_size=0"),
    ),
    "compact_less_slack": Mode(
        "AS-Softmax, compact, a slack of 0.2", (*_OF_DELTA, "compact.slack=0.2")
    ),
    # Nothing but what is active without dropout.
    "compact_no_slack": Mode(
        "AS-Softmax, compact, no slack", (*_OF_DELTA, "compact.slack=0.0")
    ),
    "compact_skipping": Mode(
        "AS-Softmax, compact, looking less often", (*_OF_DELTA, _SKIP)
    ),
    # A margin of 1 settles nothing: the price of trying.
    "compact_unsettled": Mode(
        "AS-Softmax, compact, nothing settles",
        ("training.mode=compact", "loss.delta=1.0"),
    ),
    # Each lever alone, and all of them.
    "margin_compact": Mode("AS-Softmax, m = 2, compact", _COMPACT),
    "margin_compact_within": Mode(
        "the same, from within the first epoch on", (*_COMPACT, _WITHIN)
    ),
    "margin_compact_look": Mode(
        "the same, looks at 2,048 rows by 128", (*_COMPACT, *_LOOK)
    ),
    "margin_compact_grouped": Mode(
        "the same, batches grouped by length", (*_COMPACT, _GROUPED)
    ),
    "margin_compact_batches": Mode(
        "the same, whole batches with a larger rate", (*_COMPACT, *_BATCHES)
    ),
    "margin_compact_skipping": Mode("the same, looking less often", (*_COMPACT, _SKIP)),
    "margin_compact_small": Mode(
        "AS-Softmax, m = 2, compact, all levers, batches shrink", _ALL, plotted=True
    ),
    "margin_compact_all": Mode(
        "AS-Softmax, m = 2, compact, all levers", (*_ALL, *_BATCHES), plotted=True
    ),
    # For inputs of one size.
    "margin_compact_ungrouped": Mode(
        "AS-Softmax, m = 2, compact, all levers but lengths",
        (*_COMPACT, *_LOOK, _WITHIN, _SKIP, *_BATCHES),
    ),
}
# What ratios are to, each of the same run.
BASELINES = {
    "softmax": "softmax's",
    "softmax_grouped": "grouped softmax's",
    "margin_compact": "plain compact's",
}

_train_step = jax.jit(train_step, donate_argnums=1)


class Trial:
    """One mode's training, an epoch at a time."""

    def __init__(self, config, data):
        self.config, self.data = config, data
        self.recipe = make_recipe(config, data)
        examples = data.splits["train"]
        self.state = initial_state(
            self.recipe, seed=config.seed, labels=examples.labels
        )
        self.feed = make_feed(self.recipe, examples, seed=config.seed)
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
        mode = self.config.training.mode
        for batch, rows in shapes.values():
            if mode == "infobatch":
                batch["weights"] = np.ones(len(batch["where"]), np.float32)
            batch = put_batch(self.recipe.mesh, batch)
            held = _train_step(self.recipe, held, batch, info)
            if mode in ("compact", "selective_backprop"):
                self.feed.look(held, rows, counted=False)
        self.test(held.params)
        # The clock of what compact training wins has not begun.
        self.feed.state = self.feed.first_state()

    def test(self, params):
        """Returns the figures of the test split."""
        examples = self.data.splits["test"]
        found = evaluate(
            self.recipe.scorer,
            params,
            examples,
            batch_size=self.recipe.training.batch_size,
        )
        target, classes = self.recipe.task.target, self.data.classes
        return split_figures(target, classes, "test", found, examples.labels)

    def sizes(self):
        """The sizes of batches that may come: those of active examples shrink."""
        size, looks = self.recipe.training.batch_size, self.config.compact.batch_size
        least = self.config.compact.min_batch_size
        yield size
        if looks:
            yield looks
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
        score = f"test_{self.recipe.task.target.metric}"
        self.epochs.append(
            {
                "seconds": seconds,
                score: self.test(self.state.params)[score],
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
    for name in flags.modes:
        mode = MODES[name]
        if not cell_file(flags, overrides, name).exists():
            settings = [f"--config.{setting}" for setting in mode.settings]
            settings += [f"--config.training.epochs={mode.epochs or flags.epochs}"]
            config = load(flags.config, [*settings, *overrides])
            config = dataclasses.replace(config, seed=flags.seed)
            data = prepare(config) if data is None else data
            trials[name] = Trial(config, data)
    for trial in trials.values():
        trial.compile()
    for epoch in range(flags.epochs):
        for mode, trial in trials.items():
            if epoch < trial.recipe.training.epochs:
                trial.epoch()
                print(epoch + 1, mode, json.dumps(trial.epochs[-1]), flush=True)
    for mode in trials:
        file = cell_file(flags, overrides, mode)
        file.parent.mkdir(parents=True, exist_ok=True)
        cell = as_cell(flags, overrides, mode, trials)
        file.write_text(json.dumps(cell, indent=1) + "\n")


def as_cell(flags, overrides, name, trials):
    """What is kept of one mode's training."""
    trial = trials[name]
    cell = {
        "mode": name,
        "task": flags.config.stem,
        "seed": flags.seed,
        "of_epochs": flags.epochs,
        "overrides": shown(overrides),
        "together_with": list(trials),
        "examples": len(trial.data.splits["train"]),
        "epochs": trial.epochs,
        "config": as_dict(trial.config),
        "machine": machine(),
    }
    if flags.untimed:
        for epoch in trial.epochs:
            del epoch["seconds"]
        return cell
    cell["baselines"] = {
        baseline: seconds({"epochs": trials[baseline].epochs})
        for baseline in BASELINES
        if baseline in trials
    }
    if trial.config.training.mode == "compact":
        cell["forward_share"] = forward_share(trial)
    return cell


def shown(overrides):
    """The overrides as a cell's name has them: of a path, its last part."""
    settings = [override.removeprefix("--config.") for override in overrides]
    parts = [setting.partition("=") for setting in settings]
    return sorted(f"{key}={value.rpartition('/')[2]}" for key, _, value in parts)


def cell_file(flags, overrides, mode):
    """Where a mode's cell lies; its name says all that it was run with."""
    parts = [flags.config.stem, mode, f"epochs_{flags.epochs}", *shown(overrides)]
    return CELLS / f"{'-'.join([*parts, f'seed_{flags.seed}'])}.json"


def metric_of(cell):
    """The metric of a cell's task."""
    target = find_task(cell["config"]["task"]).target
    return by_name(target.metrics, target.metric)


def scores_of(cell):
    """The metric of the test split after each epoch, in percent."""
    name = f"test_{metric_of(cell).name}"
    return [100 * epoch[name] for epoch in cell["epochs"]]


def is_timed(cell):
    """Whether a cell holds seconds."""
    return "seconds" in cell["epochs"][0]


def read_cells():
    """(task, epochs, overrides) -> mode -> cells by seed, of all that are there."""
    cells = {}
    for file in sorted(CELLS.glob("*.json")):
        cell = json.loads(file.read_text())
        overrides = [o for o in cell["overrides"] if not o.startswith("model.pre")]
        key = cell["task"], cell["of_epochs"], *overrides
        cells.setdefault(key, {}).setdefault(cell["mode"], []).append(cell)
    return cells


def seconds(cell, since=0):
    """The seconds of all epochs, or of those from one on."""
    return sum(epoch["seconds"] for epoch in cell["epochs"][since:])


def shown_seconds(number):
    """Seconds as a table has them, so many digits that ratios can be read off."""
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}"


def ceiling(cell):
    """The ratio to plain training that cannot be passed: epochs / sum min(1, f + a)."""
    shares = [1.0 - epoch["settled_share"] for epoch in cell["epochs"]]
    return len(shares) / sum(min(1.0, cell["forward_share"] + a) for a in shares)


def table(modes):
    """The Markdown table of one task: medians and means over seeds."""
    there = [cell for cells in modes.values() for cell in cells if is_timed(cell)]
    baselines = [b for b in BASELINES if any(b in c["baselines"] for c in there)]
    names = ["mode", "seeds", "seconds"]
    for baseline in baselines:
        names += [f"{BASELINES[baseline]} seconds", f"{BASELINES[baseline]} / its"]
    names += ["forward alone", "forward and backward", "gradient steps"]
    first = next(iter(modes.values()))[0]
    names += [f"test {metric_of(first).heading}"]
    lines = [f"| {' | '.join(names)} |", "|---|" + "---:|" * (len(names) - 1)]
    for name, mode in MODES.items():
        cells = modes.get(name, [])
        if not cells:
            continue
        timed = [cell for cell in cells if is_timed(cell)]
        own = statistics.median(map(seconds, timed)) if timed else None
        columns = [shown_seconds(own) if timed else ""]
        for baseline in baselines:
            pairs = [
                (cell["baselines"][baseline], seconds(cell))
                for cell in timed
                if baseline in cell["baselines"]
            ]
            theirs, ratios = [b for b, _ in pairs], [b / own for b, own in pairs]
            columns.append(shown_seconds(statistics.median(theirs)) if pairs else "")
            columns.append(f"{statistics.median(ratios):.2f}" if pairs else "")
        lasts = [cell["epochs"][-1] for cell in cells]
        for key in ("examples_filtered", "examples_trained", "gradient_steps"):
            columns.append(f"{statistics.mean(last[key] for last in lasts):.0f}")
        scores = [scores_of(cell)[-1] for cell in cells]
        spread = f" ± {statistics.stdev(scores):.2f}" if len(cells) > 1 else ""
        columns.append(f"{statistics.mean(scores):.2f}{spread}")
        lines.append(f"| {mode.title} | {len(cells)} | {' | '.join(columns)} |")
    return "\n".join(lines)


def at_equal_seconds(modes):
    """For each seed, a table of what others have by the end of compact training."""
    name = "margin_compact_all"
    for cell in filter(is_timed, modes.get(name, [])):
        beside = [
            other
            for mode in MODES
            for other in modes.get(mode, [])
            if other["seed"] == cell["seed"] and name in other["together_with"]
        ]
        if len(beside) > 3:  # rivals, not baselines alone
            end, heading = seconds(cell), metric_of(cell).heading
            head = f"seed {cell['seed']}, after {shown_seconds(end)} seconds"
            names = f"| {head} | test {heading} | seconds in all | at the end |"
            rows = [after(other, end) for other in beside]
            yield "\n".join([names, "|---|---:|---:|---:|", *rows])


def after(cell, limit):
    """The row of a mode after the last epoch that has ended by then, and at its end."""
    times = np.cumsum([epoch["seconds"] for epoch in cell["epochs"]])
    ended, scores = int(np.searchsorted(times, limit, side="right")), scores_of(cell)
    then = f"{scores[ended - 1]:.2f}" if ended else ""
    title, whole = MODES[cell["mode"]].title, shown_seconds(times[-1])
    return f"| {title} | {then} | {whole} | {scores[-1]:.2f} |"


def notes(modes):
    """What else the cells of one task say, in sentences."""
    modes = {mode: list(filter(is_timed, cells)) for mode, cells in modes.items()}
    plain = {cell["seed"]: cell for cell in modes.get("as_softmax", [])}
    for cell in modes.get("compact_unsettled", []):
        if cell["seed"] in plain:
            after = [seconds(c, since=1) for c in (cell, plain[cell["seed"]])]
            title, ratio = MODES["compact_unsettled"].title, after[0] / after[1]
            yield (
                f"{title}, seed {cell['seed']}: after the first epoch {ratio:.2f} "
                "times the seconds of AS-Softmax."
            )
    noted = ("compact", "compact_skipping", "margin_compact")
    whole = "margin_compact_small", "margin_compact_all", "margin_compact_ungrouped"
    for mode in (*noted, *whole):
        for cell in modes.get(mode, []):
            yield compact_note(mode, cell)


def compact_note(mode, cell):
    """What one compact cell says beside its row of the table."""
    last, counted = cell["epochs"][-1], find_task(cell["config"]["task"]).target.counted
    shares = ", ".join(f"{e['settled_share']:.2f}" for e in cell["epochs"])
    text = (
        f"{MODES[mode].title}, seed {cell['seed']}: settled {counted}s by epoch "
        f"{shares}; a pass without gradient costs {cell['forward_share']:.2f} of a step"
    )
    # Of a row of tokens no share says whether it is active.
    if counted == "example":
        text += f". {beside_ceiling(cell)}"
    text += (
        f". {last['stale_share']:.1%} of the trained examples were looked at before "
        f"the last update, and {last['stale_settled_share']:.1%} of a sample of those "
        "were settled by then"
    )
    if last["skipped_share"]:
        text += (
            f". {last['skipped_share']:.1%} of all examples were not looked at, and "
            f"{last['wrongly_skipped_share']:.2%} of a sample of those were active"
        )
    return text + "."


def beside_ceiling(cell):
    """The ceiling of a compact cell, and how near it comes."""
    best = ceiling(cell)
    text = f"The ceiling is {best:.2f} times plain training"
    # What a step costs, and so the ceiling, is of batches made alike.
    grouped = cell["config"]["training"]["group_by_length"]
    baseline = "softmax_grouped" if grouped else "softmax"
    if baseline not in cell["baselines"]:
        return text
    ratio = cell["baselines"][baseline] / seconds(cell)
    return f"{text}, of which it reaches {ratio / best:.0%} ({ratio:.2f})"


def draw(task, modes, file):
    """Test score against seconds of training, of the seed that most modes have."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "the same each time"

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    crowded = any(MODES[name].plotted for name in modes if name != "softmax")
    drawn = {
        name: list(filter(is_timed, modes.get(name, [])))
        for name, mode in MODES.items()
        if mode.plotted or not crowded
    }
    seed = statistics.mode(cell["seed"] for cells in drawn.values() for cell in cells)
    shown = [cell for cells in drawn.values() for cell in cells if cell["seed"] == seed]
    for cell in shown:
        times = np.cumsum([epoch["seconds"] for epoch in cell["epochs"]])
        width = 2.5 if cell["config"]["training"]["mode"] == "compact" else 1.2
        title = MODES[cell["mode"]].title
        axes.plot(times, scores_of(cell), marker="o", label=title, linewidth=width)
    # First epochs would press the others together.
    axes.set_ylim(bottom=min(scores_of(cell)[1] for cell in shown) - 0.5)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel(f"test {metric_of(next(iter(modes.values()))[0]).heading}")
    axes.set_title(f"{task}, seed {seed}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def report():
    """Writes each task's table, notes and plot into the page."""
    for (task, epochs, *overrides), modes in read_cells().items():
        name = "-".join([task, f"epochs_{epochs}", *overrides])
        first = next(iter(modes.values()))[0]
        lines = [
            f"### {', '.join([task, *overrides, f'{epochs} epochs'])}",
            f"{first['machine']}; {first['examples']} examples an epoch.",
            table(modes),
            *at_equal_seconds(modes),
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
