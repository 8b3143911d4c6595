"""Whether the loss on validation tells which checkpoint is the best.

    python benchmarks/stopping.py                # writes docs/results.md
    python benchmarks/stopping.py --dry-run      # prints the table

Reads the committed runs under docs/results/ and trains nothing. In each run the
checkpoint of the least validation loss is set beside the one of the best validation
score: how many points of the score are lost by going by the loss, and how the two go
together over the evaluations. Runs of fewer than three evaluations are left out, and
what is compared is softmax with AS-Softmax by each unit of its margin.
"""

import argparse
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from report import DOCS, write_section

_FEWEST = 3
_LOSSES = ("softmax", "as_softmax", "multi_label_softmax", "multi_label_as_softmax")


class Run(NamedTuple):
    """What a run says of its checkpoints."""

    correlation: float  # of loss and score, over the evaluations; NaN: one is constant
    lost: float  # points of the score, by going by the loss


class Row(NamedTuple):
    """Runs that differ in their seed, or in the value of their margin."""

    task: str
    metric: str
    evaluations: int
    loss: str


def run_of(result: Mapping[str, Any]) -> Run:
    """Returns what the evaluations of a run say."""
    score = f"validation_{result['metric']}"
    losses = [record["validation_loss"] for record in result["records"]]
    scores = [record[score] for record in result["records"]]
    at_least_loss = scores[losses.index(min(losses))]
    varies = len({*losses}) > 1 and len({*scores}) > 1
    correlation = statistics.correlation(losses, scores) if varies else math.nan
    return Run(correlation, 100 * (max(scores) - at_least_loss))


def loss_of(result: Mapping[str, Any]) -> str:
    """Returns the loss of a run, by the unit of its margin."""
    loss = result["config"]["loss"]
    if "as_softmax" not in loss["name"]:
        return "softmax"
    return "margin in logits" if loss["delta"] is None else "delta"


def rows_of(files: Iterable[Path]) -> dict[Row, list[Run]]:
    """Returns the runs of each row, in the order of the tasks' names."""
    found = defaultdict(list)
    for file in files:
        result = json.loads(file.read_text("utf-8"))
        records, config = result.get("records", []), result.get("config", {})
        if len(records) < _FEWEST or config["loss"]["name"] not in _LOSSES:
            continue
        data = config["data"]
        name, _, _ = file.name.partition("-")  # of the configuration
        task = f"{name}, {data['train_examples'] or 'all'}"
        wrong = data.get("wrong_labels", 0.0)
        task += f", {100 * wrong:g} % of the labels wrong" if wrong else ""
        row = Row(task, result["metric"], len(records), loss_of(result))
        found[row].append(run_of(result))
    return dict(sorted(found.items()))


def table(rows: Mapping[Row, list[Run]]) -> str:
    """Returns the section for docs/results.md."""
    lines = [
        "| configuration, examples, score | evaluations | loss | runs | r | lost |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row, runs in rows.items():
        known = [run.correlation for run in runs if not math.isnan(run.correlation)]
        r = f"{statistics.mean(known):.2f}" if known else ""
        lost = statistics.mean(run.lost for run in runs)
        cells = (f"{row.task}, {row.metric}", str(row.evaluations), row.loss)
        lines.append(f"| {' | '.join(cells)} | {len(runs)} | {r} | {lost:.2f} |")
    note = (
        "Over the committed runs of three evaluations and more. r: Pearson's "
        "correlation of loss and score over the evaluations of a run, on validation; "
        "-1 is best. Lost: points of the validation score, by keeping the checkpoint "
        "of the least loss in place of the one with the best score. Means over runs."
    )
    command = "```sh\npython benchmarks/stopping.py\n```"
    title = "### Does validation loss tell which checkpoint is best?"
    return "\n\n".join([title, command, "\n".join(lines), note])


def main() -> None:
    """Reads the runs and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry-run", action="store_true", help="print the table")
    flags = parser.parse_args()
    files = sorted((DOCS / "results").rglob("*.json"))
    section = table(rows_of(f for f in files if f.parent.name != "training_speed"))
    if flags.dry_run:
        print(section)
    else:
        write_section("stopping", section, DOCS / "results.md")


if __name__ == "__main__":
    main()
