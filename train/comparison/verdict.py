"""What a comparison comes to, in a sentence or two."""

import statistics
from collections.abc import Mapping, Sequence

from .drawing import listed
from .results import Comparison, Run, Summary, baseline_of

# Two differences of one sign are a matter of chance in half of all cases.
_FEWEST_SEEDS = 3
# From so many pairs on, an interval tells whether chance would do.
_ENOUGH_SEEDS = 4


def verdict(comparison: Comparison, summaries: Sequence[Summary]) -> str:
    """Returns what can be said of each loss that has a softmax to be above.

    Of a loss with several settings it speaks of the one that validation picks: picked
    by its test score, one of many is above by chance.

    Args:
      comparison: of the runs.
      summaries: of it.
    """
    rows = comparison.rows
    others = [s for s in _picked(comparison, summaries) if s.difference]
    several = {loss: of for loss, of in _settings(rows).items() if len(of) > 1}
    picks = [
        f"of {len(labels)} settings of {loss}, validation picks "
        f"{_best(comparison, labels)}"
        for loss, labels in several.items()
    ]
    said = [f"{s.label} {against_softmax(comparison, s)}" for s in others]
    parts = [listed(picks)] if picks else []
    if said:
        parts.append(f"{_basis(comparison)}{listed(said)}")
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts)


def _settings(rows: Mapping[str, Sequence[Run]]) -> dict[str, list[str]]:
    """Returns the rows of each loss."""
    found: dict[str, list[str]] = {}
    for label, (first, *_) in rows.items():
        found.setdefault(first.loss, []).append(label)
    return found


def _best(comparison: Comparison, labels: Sequence[str]) -> str:
    """Returns the row with the best mean on validation; the first of equals."""
    metric = comparison.metric
    sign = 1.0 if metric.larger_is_better else -1.0

    def score(label: str) -> float:
        runs = comparison.rows[label]
        values = [run.result[f"validation_{metric.name}"] for run in runs]
        return sign * statistics.fmean(values)

    return max(labels, key=score)


def _picked(comparison: Comparison, summaries: Sequence[Summary]) -> list[Summary]:
    """Returns the summary of each loss's best row."""
    best = {_best(comparison, labels) for labels in _settings(comparison.rows).values()}
    return [summary for summary in summaries if summary.label in best]


def _basis(comparison: Comparison) -> str:
    """Returns what the sentence stands on: seeds, and examples of the split."""
    rows, split = comparison.rows, comparison.split
    seeds = len({run.seed for run in comparison.runs})
    of = f"over {seeds} seeds"
    size = next(iter(rows.values()))[0].result.get("examples", {}).get(split)
    if size is None:
        return f"{of}, "
    one = 100.0 / size
    return f"{of}, on {size:,} {split} examples, of which one is {one:.2g} points, "


def against_softmax(comparison: Comparison, summary: Summary) -> str:
    """Returns how a row with a difference stands to its softmax, without its name.

    Args:
      comparison: of the runs.
      summary: of the row.
    """
    metric, rows, label = comparison.metric, comparison.rows, summary.label
    baseline = baseline_of(rows, label)
    assert summary.difference is not None, "whoever asks has one"
    assert baseline is not None, "a difference is from one"
    name = f"{comparison.split}_{metric.name}"
    other = {run.seed: run.result[name] for run in rows[baseline]}
    scores = {run.seed: run.result[name] for run in rows[label] if run.seed in other}
    sign = 1.0 if metric.larger_is_better else -1.0
    gains = [sign * (score - other[seed]) for seed, score in scores.items()]
    above, below = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    mean, low, high = summary.difference[:3]
    figure = f"{metric.scale * abs(mean):.2f} {metric.step}".rstrip()
    if len(gains) >= _ENOUGH_SEEDS and (low > 0 or high < 0):
        word = "better" if sign * mean > 0 else "worse"
        return f"is {figure} {word} than {baseline}, by more than chance"
    if len(gains) >= _FEWEST_SEEDS and len(gains) in (above, below):
        word = "ahead of" if above else "behind"
        return (
            f"is {figure} {word} {baseline} in each of {len(gains)} seeds, which are "
            "too few to rule out chance"
        )
    shown = f"{metric.scale * mean:+.2f} {metric.step}".rstrip()
    return (
        f"cannot be told from {baseline}: {shown}, better in {above} of "
        f"{len(gains)} seeds"
    )
