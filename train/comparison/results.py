"""What finished cells hold, and what that comes to for each row of a table."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from train.comparison.bootstrap import Difference, paired_difference

# The rows that others are compared to.
BASELINES = ("softmax", "multi_label_softmax")

# Two points always lie on a line: a correlation of fewer than three says nothing.
_FEWEST_POINTS = 3
# Of these less is better, so they are no score.
_ERRORS = ("loss", "ece", "ece_calibrated")
# The score of a task whose checkpoint was picked by an error: the first it has.
_SCORES = ("micro_f1", "f1", "accuracy")


class Run(NamedTuple):
    """A finished run."""

    label: str  # of its row
    loss: str
    point: Mapping[str, str]  # the swept keys that the loss reads
    seed: int
    result: Mapping[str, Any]  # the cell's file

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """The evaluations, in order."""
        return self.result["records"]

    def series(self, name: str) -> np.ndarray:
        """Returns a figure at every evaluation; NaN where it was not a number."""
        values = [record[name] for record in self.records]
        return np.array([math.nan if v is None else v for v in values], np.float64)


class Comparison(NamedTuple):
    """The runs of one configuration."""

    name: str
    runs: Sequence[Run]  # row by row

    @property
    def rows(self) -> dict[str, list[Run]]:
        """The runs of each row, one a seed."""
        return group_by_row(self.runs)


class Summary(NamedTuple):
    """A row: a loss at a point of the sweep, over its seeds.

    A figure that is undefined is None.
    """

    label: str
    num_seeds: int
    score: float
    deviation: float | None  # sample standard deviation over seeds
    difference: Difference | None  # from the baseline, on equal seeds
    metrics: Mapping[str, float]  # the others, by name
    correlation: float | None  # of validation loss and score
    settled_share: float  # of the training examples since the evaluation before
    gradient_steps: float
    seconds: float


def group_by_row(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Returns the runs of each row, in the order in which they come."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    return groups


def headline(runs: Iterable[Run]) -> str:
    """Returns the metric that counts: the one that picked every run's checkpoint.

    Where runs differ in it, or less of it is better, the task's own counts.
    """
    runs = list(runs)
    names = {run.result["metric"] for run in runs}
    if len(names) == 1 and not names & set(_ERRORS):
        return names.pop()
    return next(m for m in _SCORES if f"validation_{m}" in runs[0].result)


def scored_split(runs: Iterable[Run]) -> str:
    """Returns the split that counts: test where every run has one."""
    runs = list(runs)
    name = f"test_{headline(runs)}"
    return "test" if all(name in run.result for run in runs) else "validation"


def baseline_of(rows: Mapping[str, Sequence[Run]], label: str) -> str | None:
    """Returns the row that a row is compared to, or None.

    It is softmax at the same point of the sweep; its point has fewer keys where the
    sweep varies some that softmax does not read.
    """
    run = rows[label][0]
    if run.loss in BASELINES:
        return None
    for other, (first, *_) in rows.items():
        if first.loss in BASELINES and first.point.items() <= run.point.items():
            return other
    return None


def summarize(comparison: Comparison) -> list[Summary]:
    """Returns the figures of each row, of the best checkpoint of each run."""
    rows = comparison.rows
    split, metric = scored_split(comparison.runs), headline(comparison.runs)
    name = f"{split}_{metric}"
    return [
        _summary(rows, label, split=split, score=name, metric=metric) for label in rows
    ]


def _summary(
    rows: Mapping[str, Sequence[Run]],
    label: str,
    *,
    split: str,
    score: str,
    metric: str,
) -> Summary:
    runs, baseline = rows[label], baseline_of(rows, label)
    scores = {run.seed: run.result[score] for run in runs}
    difference = None
    if baseline is not None:
        other = {run.seed: run.result[score] for run in rows[baseline]}
        difference = paired_difference(scores, other)
    deviation = statistics.stdev(scores.values()) if len(scores) > 1 else None
    names = [
        name
        for name in runs[0].result
        if name.startswith(f"{split}_") and name not in (score, f"{split}_loss")
    ]
    return Summary(
        label=label,
        num_seeds=len(runs),
        score=statistics.fmean(scores.values()),
        deviation=deviation,
        difference=difference,
        metrics={n.removeprefix(f"{split}_"): _mean(runs, n) for n in names},
        correlation=mean_correlation(runs, metric),
        settled_share=_mean(runs, "settled_share"),
        gradient_steps=_mean(runs, "gradient_steps"),
        seconds=_mean(runs, "seconds"),
    )


def correlation(run: Run, metric: str) -> float | None:
    """Returns Pearson's r of a run's validation loss and a metric, or None.

    It is undefined where one of them never changes, and says nothing of fewer than
    three evaluations; an evaluation whose loss is not finite is left out.
    """
    pairs = np.stack(
        [run.series("validation_loss"), run.series(f"validation_{metric}")], axis=1
    )
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    # Asked before dividing: the variance of equal numbers rounds to more than 0.
    constant = any(len(set(column)) < 2 for column in pairs.T)
    if len(pairs) < _FEWEST_POINTS or constant:
        return None
    return statistics.correlation(*pairs.T.tolist())


def mean_correlation(runs: Iterable[Run], metric: str) -> float | None:
    """Returns the mean of Pearson's r over the runs that have one."""
    values = [r for run in runs if (r := correlation(run, metric)) is not None]
    return statistics.fmean(values) if values else None


def _mean(runs: Sequence[Run], name: str) -> float:
    return statistics.fmean(run.result[name] for run in runs)
