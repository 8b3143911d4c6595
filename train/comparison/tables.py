"""The table of a comparison: as text, as Markdown, and how to read it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..targets.metric import Metric, by_name
from .results import Summary

# Of so many seeds, one difference lies on either side of the median in half of all
# cases: no interval is shown.
_NOTHING_SEEDS = 2
# Up to so many seeds, the resamples that repeat one of them are over 2.5 %: the
# interval then reaches from the least difference to the greatest.
_RANGE_SEEDS = 3
_FEW_SEEDS = 10


class Table(NamedTuple):
    """A header and rows of text; the first column holds names, the rest figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def make_table(
    summaries: Sequence[Summary],
    *,
    split: str,
    metric: Metric,
    metrics: tuple[Metric, ...],
    with_p: bool = False,
) -> Table:
    """Returns a row a summary; `-` where a figure is undefined.

    Args:
      summaries: of one comparison.
      split: whose metrics they hold.
      metric: the one that counts.
      metrics: what the others say of themselves.
      with_p: whether a difference is shown with its p.
    """
    # A loss may have metrics of its own, as of sets of answers.
    every = dict.fromkeys(name for row in summaries for name in row.metrics)
    names = [name for name in every if not name.startswith("ece")]
    others = [by_name(metrics, name) for name in names]
    calibrated = "ece" in summaries[0].metrics
    correlated = any(row.correlation is not None for row in summaries)
    header = (
        *("loss", "seeds", f"{split} {metric.heading}", _difference_heading(metric)),
        *(other.heading for other in others),
        *(["ECE (%)"] if calibrated else []),
        *([f"r(loss, {metric.title})"] if correlated else []),
        *("settled (%)", "gradient steps", "seconds"),
    )
    rows = [
        (
            *(row.label, str(row.num_seeds), _score(row, metric)),
            _difference(row, metric, with_p=with_p),
            *(_figure(row, other) for other in others),
            *([_calibration(row)] if calibrated else []),
            *([_r(row.correlation)] if correlated else []),
            f"{100 * row.settled_share:.1f}",
            f"{row.gradient_steps:.0f}",
            f"{row.seconds:.1f}",
        )
        for row in summaries
    ]
    return Table(header, rows)


def as_text(table: Table) -> str:
    """Returns the table in aligned columns, its header wrapped to their width."""
    columns = list(zip(table.header, *table.rows, strict=True))
    widths = [_width(name, figures) for name, *figures in columns]
    heads = [_wrap(name, w) for name, w in zip(table.header, widths, strict=True)]
    height = max(map(len, heads))
    tops = zip(*([""] * (height - len(head)) + head for head in heads), strict=True)
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
        ).rstrip()
        for line in [*tops, rule, *table.rows]
    )


def as_markdown(table: Table) -> str:
    """Returns the table in Markdown; a bar inside a cell is escaped."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    lines = [[cell.replace("|", r"\|") for cell in row] for row in table.rows]
    return "".join(
        f"| {' | '.join(line)} |\n" for line in [list(table.header), rule, *lines]
    )


def how_to_read(
    summaries: Sequence[Summary], *, split: str, metric: Metric, counted: str
) -> str:
    """Returns what the columns mean.

    Args:
      summaries: of one comparison.
      split: whose metrics they hold.
      metric: the one that counts.
      counted: what settles: example or token.
    """
    metrics, name = list(summaries[0].metrics), metric.title
    correlated = any(row.correlation is not None for row in summaries)
    explained = [text for part, text in _EXPLAINED.items() if part in " ".join(metrics)]
    return " ".join(
        [
            f"Means over seeds; {name} on the {split} split, ± its sample standard "
            "deviation, of the checkpoint that was best on validation.",
            *explained,
            *([f"r(loss, {name}): {_CORRELATION}"] if correlated else []),
            f"Settled: training {counted}s with a gradient of "
            "exactly 0, since the evaluation before the last. Seconds: of a whole run, "
            "compilation included.",
        ]
    )


def about_differences(summaries: Sequence[Summary], *, with_p: bool = False) -> str:
    """Returns what the differences are from, and what few seeds make of them.

    Args:
      summaries: of one comparison.
      with_p: whether the table has p, and intervals by BCa.
    """
    seeds = min(row.num_seeds for row in summaries)
    if not any(row.difference for row in summaries):
        return (
            "A difference needs two seeds or more, and softmax in the comparison to "
            "be one from."
        )
    by = "BCa bootstrap" if with_p else "bootstrap"
    text = (
        f"Difference: from softmax on equal seeds, with a 95 % interval by {by} over "
        "seeds."
    )
    if with_p:
        least = 2.0 ** (1 - seeds)
        text += (
            " p: how often differences of chance signs have a mean as far from 0; with "
            f"{seeds} seeds {least:.3f} at least."
        )
    if seeds <= _NOTHING_SEEDS:
        return (
            f"Difference: from softmax on equal seeds. {seeds} seeds show nothing: "
            "their range holds the median difference in half of all cases. Give three "
            "seeds or more."
        )
    if seeds <= _RANGE_SEEDS:
        # All differences lie on one side of their median with 2^(1 - seeds).
        share = 100 * (1 - 2.0 ** (1 - seeds))
        return (
            f"{text} With {seeds} seeds it is coarse: the range of their differences, "
            f"which holds the median in {share:.0f} % of cases, not 95 %."
        )
    if seeds < _FEW_SEEDS:
        return f"{text} With {seeds} seeds it is coarse, and rather too narrow."
    return text


_CORRELATION = (
    "Pearson's correlation of both over the evaluations of a run, on validation."
)
_EXPLAINED = {
    "tuned": (
        "Accuracy: of whole sets of labels. Tuned: with the threshold that is best on "
        "validation, instead of 0."
    ),
    "ece": (
        "ECE: expected calibration error, as it is → with a temperature fitted on "
        "validation."
    ),
}


def _difference_heading(metric: Metric) -> str:
    return f"difference ({metric.step})" if metric.step else "difference"


def _figure(row: Summary, metric: Metric) -> str:
    """Returns the mean of a metric, where the loss has it."""
    value = row.metrics.get(metric.name)
    return "-" if value is None else f"{metric.scale * value:.2f}"


def _score(row: Summary, metric: Metric) -> str:
    mean = f"{metric.scale * row.score:.2f}"
    spread = row.deviation
    return mean if spread is None else f"{mean} ± {metric.scale * spread:.2f}"


def _difference(row: Summary, metric: Metric, *, with_p: bool) -> str:
    if row.difference is None:
        return "-"
    mean, low, high = (_signed(metric.scale * value) for value in row.difference[:3])
    if row.num_seeds <= _NOTHING_SEEDS:
        return f"{mean} ({row.num_seeds} seeds show nothing)"
    p = f", p = {row.difference.p:.3f}" if with_p else ""
    return f"{mean} [{low}, {high}]{p}"


def _signed(value: float) -> str:
    """Returns a number with its sign; what rounds to 0 has none below it."""
    return f"{round(value, 2) + 0.0:+.2f}"


def _calibration(row: Summary) -> str:
    before, after = row.metrics["ece"], row.metrics.get("ece_calibrated")
    shown = f"{100 * before:.2f}"
    return shown if after is None else f"{shown} → {100 * after:.2f}"


def _r(correlation: float | None) -> str:
    return "-" if correlation is None else f"{correlation:.3f}"


def _width(name: str, figures: Iterable[str]) -> int:
    """Returns the width that the figures need, and the longest word of the name."""
    return max(map(len, [*name.split(), *figures]))


def _wrap(name: str, width: int) -> list[str]:
    """Returns the name in lines of at most so many characters."""
    lines: list[str] = []
    for word in name.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
