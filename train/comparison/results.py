"""What finished cells hold, and what that comes to for each row of a table."""

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from as_softmax_jax.losses import LOSSES

from ..config import row_of_margin
from ..targets import Target, Unit
from ..targets.metric import Metric, by_name
from .bootstrap import Difference, Interval, paired_difference

# Two points always lie on a line: a correlation of fewer than three says nothing.
_FEWEST_POINTS = 3


class Run(NamedTuple):
    """A finished run."""

    label: str  # of its row
    loss: str
    point: Mapping[str, str]  # the swept keys that the loss reads
    seed: int
    result: Mapping[str, Any]  # the cell's file

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared to its loss."""
        return LOSSES[self.loss].baseline == self.loss

    @property
    def margin_in_logits(self) -> bool:
        """Whether its loss has a margin, and that in logits."""
        given = self.result["config"]["loss"]
        return row_of_margin(LOSSES[self.loss], given).margin_in_logits

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
    target: Target  # their kind of answer, whose metrics they have
    interval: Interval = "percentile"  # of the differences

    @property
    def rows(self) -> dict[str, list[Run]]:
        """The runs of each row, one a seed."""
        return group_by_row(self.runs)

    @property
    def metric(self) -> Metric:
        """The metric that counts: the one that picked every run's checkpoint.

        Where runs differ in it, or less of it is better, the target's own counts.
        """
        metrics, own = self.target.metrics, self.target.metric
        names = {run.result["metric"] for run in self.runs}
        chosen = by_name(metrics, names.pop() if len(names) == 1 else own)
        return chosen if chosen.larger_is_better else by_name(metrics, own)

    @property
    def margin_unit(self) -> Unit:
        """Of its plot of margins: logits where a loss has them and every run kept them.

        Cells of earlier versions have probabilities alone.
        """
        kept = all("logit_margins" in run.result for run in self.runs)
        asked = any(run.margin_in_logits for run in self.runs)
        return "logits" if kept and asked else "probability"

    @property
    def split(self) -> str:
        """The split that counts: test where every run has one."""
        name = f"test_{self.metric.name}"
        in_all = all(name in run.result for run in self.runs)
        return "test" if in_all else "validation"


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


def baseline_of(rows: Mapping[str, Sequence[Run]], label: str) -> str | None:
    """Returns the row that a row is compared to, or None.

    It is the baseline of its loss at the same point of the sweep; its point has fewer
    keys where the sweep varies some that the baseline does not read.
    """
    run = rows[label][0]
    if run.is_baseline:
        return None
    baseline = LOSSES[run.loss].baseline
    for other, (first, *_) in rows.items():
        if first.loss == baseline and first.point.items() <= run.point.items():
            return other
    return None


def summarize(comparison: Comparison) -> list[Summary]:
    """Returns the figures of each row, of the best checkpoint of each run."""
    rows, split, metric = comparison.rows, comparison.split, comparison.metric.name
    summary = functools.partial(
        _summary, rows, split=split, metric=metric, interval=comparison.interval
    )
    return [summary(label) for label in rows]


def _summary(
    rows: Mapping[str, Sequence[Run]],
    label: str,
    *,
    split: str,
    metric: str,
    interval: Interval,
) -> Summary:
    score = f"{split}_{metric}"
    runs, baseline = rows[label], baseline_of(rows, label)
    scores = {run.seed: run.result[score] for run in runs}
    difference = None
    if baseline is not None:
        other = {run.seed: run.result[score] for run in rows[baseline]}
        difference = paired_difference(scores, other, interval=interval)
    deviation = statistics.stdev(scores.values()) if len(scores) > 1 else None
    names = [
        name
        for name in runs[0].result
        if name.startswith(f"{split}_") and name not in (score, f"{split}_loss")
        # Runs of an older version may lack a metric.
        if all(name in run.result for run in runs)
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
