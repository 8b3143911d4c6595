"""The plots of a comparison, each drawn for light and for dark pages.

A plot is a title, a function that draws it, an alternative text and a caption of one
sentence; text and caption are computed from the runs, so they say what is there.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..targets import Unit
from . import reliability
from .drawing import (
    DARK,
    FEW,
    INCHES,
    LIGHT,
    Plot,
    Theme,
    capital,
    each,
    label_logarithms,
    legend,
    listed,
    look,
    render,
    short,
)
from .results import Comparison, Run, mean_correlation

# From so many points on, markers would hide the line.
_MOST_MARKED_POINTS = 40


class _Kind(NamedTuple):
    title: str  # {metric} stands for the score's name
    draw: Callable[..., None]  # draw(figure, comparison=, theme=)
    alt: Callable[[Comparison], str]
    caption: Callable[[Comparison], str]
    fits: Callable[[Comparison], bool] = lambda comparison: True


def make_plots(comparison: Comparison) -> list[Plot]:
    """Returns every plot of a comparison, in the order of the page."""
    return [
        Plot(
            title=capital(kind.title.format(metric=comparison.metric.title)),
            light=render(functools.partial(kind.draw, comparison=comparison), LIGHT),
            dark=render(functools.partial(kind.draw, comparison=comparison), DARK),
            alt=kind.alt(comparison),
            caption=kind.caption(comparison),
        )
        for kind in _KINDS
        if kind.fits(comparison)
    ]


# --- Curves over epochs -----------------------------------------------------------


def _draw_score(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    metric = comparison.metric
    axes = _epoch_axes(figure, metric.heading)
    splits = _both_splits(axes, comparison, theme, metric.name, scale=metric.scale)
    _cut_the_start(axes, comparison)
    legend(figure, list(comparison.rows), theme, splits)


def _cut_the_start(axes: Axes, comparison: Comparison) -> None:
    """Gives the height to the last three quarters, where losses differ by little."""
    bands = list(_bands(comparison, f"validation_{comparison.metric.name}"))
    scale = comparison.metric.scale
    lowest = scale * min(band.low[len(band.low) // 4 :].min() for band in bands)
    highest = axes.dataLim.y1
    if lowest < highest:
        space = 0.06 * (highest - lowest)
        axes.set_ylim(lowest - space, highest + space)


def _draw_loss(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    axes = _epoch_axes(figure, f"loss (mean of {comparison.target.counted}s)")
    splits = _both_splits(axes, comparison, theme, "loss")
    if _all_positive(comparison, ("train_loss", "validation_loss")):
        axes.set_yscale("log")
        label_logarithms(axes.yaxis)
    legend(figure, list(comparison.rows), theme, splits)


def _both_splits(
    axes: Axes, comparison: Comparison, theme: Theme, name: str, *, scale: float = 1.0
) -> list[Line2D]:
    """Draws validation, and training where there is room; returns legend entries.

    Of F1 there is none on training, which would have to keep every prediction.
    """
    entries = [Line2D([], [], color=theme.ink, label="validation")]
    trained = all(f"train_{name}" in r for r in comparison.runs[0].records)
    if len(comparison.rows) <= FEW and trained:
        _curves(axes, comparison, theme, f"train_{name}", scale=scale, style="--")
        dashes = Line2D([], [], color=theme.ink, linestyle="--", label="training")
        entries.append(dashes)
    _curves(axes, comparison, theme, f"validation_{name}", scale=scale)
    return entries


def _draw_settled(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    axes = _epoch_axes(figure, f"settled training {comparison.target.counted}s (%)")
    shares = _means(comparison, "settled_share")
    # Of a loss that settles nothing a line at 0 says nothing.
    settles = any(shares.values())
    without = [name for name, share in shares.items() if settles and not share]
    _curves(axes, comparison, theme, "settled_share", scale=100.0, without=without)
    axes.set_ylim(-3, 103)
    legend(figure, list(comparison.rows), theme)


def _caption_score(comparison: Comparison) -> str:
    metric = comparison.metric
    means = _means(comparison, f"validation_{metric.name}")
    best = {label: (mean, metric.shown(mean)) for label, mean in means.items()}
    return f"Mean validation {metric.title} of the best checkpoint: {each(best)}."


def _caption_loss(comparison: Comparison) -> str:
    lowest, last = {}, 0.0
    for band in _bands(comparison, "validation_loss"):
        finite, last = np.isfinite(band.mean), max(last, band.epochs[-1])
        lowest_at = int(np.nanargmin(band.mean)) if finite.any() else None
        turn = math.nan if lowest_at is None else band.epochs[lowest_at]
        lowest[band.label] = (turn, short(turn))
    return (
        f"Epoch with the lowest mean validation loss, of {last:.0f}: {each(lowest)}; "
        "each loss has a scale of its own, so compare shapes and not heights."
    )


def _caption_settled(comparison: Comparison) -> str:
    means, counted = _means(comparison, "settled_share"), comparison.target.counted
    shares = {label: (mean, f"{100.0 * mean:.1f} %") for label, mean in means.items()}
    return f"Settled share of the training {counted}s at the end: {each(shares)}."


def _means(comparison: Comparison, name: str) -> dict[str, float]:
    """Returns the mean over seeds of each row's final figure."""
    return {
        label: float(np.mean([run.result[name] for run in runs]))
        for label, runs in comparison.rows.items()
    }


def _alt_score(comparison: Comparison) -> str:
    metric = comparison.metric
    what, name = f"validation {metric.in_words}", f"validation_{metric.name}"
    return _alt_curves(comparison, what, name, scale=metric.scale)


def _alt_loss(comparison: Comparison) -> str:
    return _alt_curves(comparison, "validation loss", "validation_loss", scale=1.0)


def _alt_settled(comparison: Comparison) -> str:
    return _alt_curves(comparison, "the settled share in percent", "settled_share")


def _alt_curves(
    comparison: Comparison, what: str, name: str, *, scale: float = 100.0
) -> str:
    """Says where each curve starts and ends."""
    ends = [
        f"{b.label} from {short(b.mean[0] * scale)} to {short(b.mean[-1] * scale)}"
        for b in _bands(comparison, name)
    ]
    return f"Line plot of {what} over epochs: {listed(ends)}."


def _epoch_axes(figure: Figure, label: str) -> Axes:
    axes = figure.add_subplot()
    axes.set(xlabel="time (epochs)", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return axes


def _curves(
    axes: Axes,
    comparison: Comparison,
    theme: Theme,
    name: str,
    *,
    scale: float = 1.0,
    style: str = "-",
    without: Collection[str] = (),
) -> None:
    """Draws the mean over seeds; a solid curve has its markers and its band."""
    for place, band in enumerate(_bands(comparison, name)):
        if band.label in without:
            continue
        color, marker = look(theme, place)
        solid = style == "-"
        few = solid and len(band.epochs) <= _MOST_MARKED_POINTS
        axes.plot(
            band.epochs,
            band.mean * scale,
            color=color,
            linestyle=style,
            linewidth=1.8 if solid else 1.1,
            marker=marker if few else None,
        )
        if solid:
            low, high = band.low * scale, band.high * scale
            axes.fill_between(
                band.epochs, low, high, color=color, alpha=0.2, linewidth=0
            )


class _Band(NamedTuple):
    """A figure of one row over its seeds, at each evaluation; arrays alike."""

    label: str
    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _bands(comparison: Comparison, name: str) -> Iterator[_Band]:
    """Yields the band of each row; a seed that stopped early is in until then."""
    for label, runs in comparison.rows.items():
        longest = max(runs, key=lambda run: len(run.records))
        values = np.ma.masked_all((len(runs), len(longest.records)))
        for row, run in zip(values, runs, strict=True):
            row[: len(run.records)] = run.series(name)
        over = (values.mean(axis=0), values.min(axis=0), values.max(axis=0))
        mean, low, high = (np.ma.filled(figures, math.nan) for figures in over)
        yield _Band(label, longest.series("epoch"), mean, low, high)


def _draw_seconds(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    """The score by the clock: one loss may take fewer seconds an epoch."""
    metric = comparison.metric
    axes = figure.add_subplot()
    scores = _bands(comparison, f"validation_{metric.name}")
    seconds = _bands(comparison, "seconds")
    for place, (score, at) in enumerate(zip(scores, seconds, strict=True)):
        color, marker = look(theme, place)
        few = marker if len(at.mean) <= _MOST_MARKED_POINTS else None
        axes.plot(at.mean, score.mean * metric.scale, color=color, marker=few)
    axes.set(xlabel="time (s)", ylabel=f"validation {metric.heading}")
    _cut_the_start(axes, comparison)
    legend(figure, list(comparison.rows), theme)


def _has_seconds(comparison: Comparison) -> bool:
    return all("seconds" in r for run in comparison.runs for r in run.records)


def _caption_seconds(comparison: Comparison) -> str:
    means = _means(comparison, "seconds")
    said = {label: (mean, f"{mean:.0f} s") for label, mean in means.items()}
    return (
        f"Mean seconds of a whole run: {each(said)}; compilation and whatever else the "
        "machine did count."
    )


def _alt_seconds(comparison: Comparison) -> str:
    metric = comparison.metric
    what = f"validation {metric.in_words} over seconds"
    ends = [
        f"{band.label} up to {short(band.mean[-1])} s"
        for band in _bands(comparison, "seconds")
    ]
    return f"Line plot of {what}: {listed(ends)}."


# --- One point a run --------------------------------------------------------------


def _draw_seeds(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    """One row a loss; a thin line joins the runs of a seed."""
    figure.set_size_inches(INCHES[0], max(INCHES[1], 1.2 + 0.42 * len(comparison.rows)))
    axes = figure.add_subplot()
    places = np.arange(len(comparison.rows))
    scores = comparison.metric.scale * _scores(comparison)
    # Equal scores would hide each other: seeds stand a little apart.
    seeds = scores.shape[1]
    apart = np.linspace(-0.1, 0.1, seeds) if seeds > 1 else np.zeros(1)
    for shift, of_seed in zip(apart, scores.T, strict=True):
        axes.plot(of_seed, places + shift, color=theme.faint, linewidth=1.2, zorder=1)
    for place, of_loss in enumerate(scores):
        color, marker = look(theme, place)
        axes.scatter(of_loss, place + apart, color=color, marker=marker, s=36, zorder=3)
        axes.vlines(of_loss.mean(), place - 0.3, place + 0.3, color=color, linewidth=2)
    # A name is followed by where the sweep stands.
    axes.set_yticks(places, [label.replace(" ", "\n") for label in comparison.rows])
    axes.set_ylim(len(comparison.rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set(ylabel="loss", xlabel=f"{comparison.split} {comparison.metric.heading}")
    legend(figure, [], theme, _seed_entries(theme))


def _seed_entries(theme: Theme) -> list[Line2D]:
    dot = Line2D([], [], color=theme.ink, marker="o", linestyle="", label="one seed")
    mean = Line2D([], [], color=theme.ink, marker="|", linestyle="", label="mean")
    mean.set(markersize=13, markeredgewidth=2)
    line = Line2D([], [], color=theme.faint, linewidth=1.2, label="same seed")
    return [dot, mean, line]


def _caption_seeds(comparison: Comparison) -> str:
    rows, metric = comparison.rows, comparison.metric
    names = list(rows)
    of_baseline = [n for n in names if rows[n][0].is_baseline]
    first = (of_baseline or names)[0]
    scores = dict(zip(rows, _scores(comparison), strict=True))
    if len(names) == 1:
        low, high = scores[first].min(), scores[first].max()
        return (
            f"{first} scores from {metric.shown(low)} to {metric.shown(high)} over its "
            "seeds."
        )
    gains = {name: scores[name] - scores[first] for name in names if name != first}
    said = {}
    for name, gain in gains.items():
        points = f"{metric.scale * gain.mean():+.2f} {metric.step}".rstrip()
        above = f"(above in {(gain > 0).sum()} of {len(gain)})"
        said[name] = (gain.mean(), f"{points} {above}")
    return f"Mean difference from {first} on equal seeds: {each(said)}."


def _alt_seeds(comparison: Comparison) -> str:
    scale = comparison.metric.scale
    said = [
        f"{name} {', '.join(f'{scale * score:.2f}' for score in scores)}"
        for name, scores in zip(comparison.rows, _scores(comparison), strict=True)
    ]
    what = f"{comparison.split} {comparison.metric.in_words}"
    return f"Dot plot of {what}, a seed a dot: {'; '.join(said)}."


def _scores(comparison: Comparison) -> np.ndarray:
    """Returns the final scores, [rows, seeds]."""
    name = f"{comparison.split}_{comparison.metric.name}"
    return np.array(
        [[run.result[name] for run in runs] for runs in comparison.rows.values()]
    )


# --- Margins ----------------------------------------------------------------------

# Of each unit: the end of the axis, a margin that is clear, and what a sentence adds.
_FARTHEST: Mapping[Unit, float] = {"probability": 1.0, "logits": 10.0}
# Over one rival a margin of 3 logits is one of 0.905 in probability.
_FAR: Mapping[Unit, float] = {"probability": 0.9, "logits": 3.0}
_OF: Mapping[Unit, str] = {"probability": "", "logits": " in logits"}


def _draw_margins(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    """A panel a loss on common axes, so that margins compare by eye."""
    unit, columns = comparison.margin_unit, 1 if len(comparison.rows) <= FEW else 2
    rows = math.ceil(len(comparison.rows) / columns)
    figure.set_size_inches(INCHES[0], max(INCHES[1], 1.2 + 0.9 * rows))
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, (name, runs) in enumerate(comparison.rows.items()):
        axes, color = panels.flat[place], look(theme, place)[0]
        before, after = (_histogram(runs, when, unit) for when in ("before", "after"))
        axes.stairs(before.percent, before.edges, fill=True, color=theme.faint)
        axes.stairs(after.percent, after.edges, color=color, linewidth=1.8)
        axes.axvline(0.0, color=theme.ink, linewidth=0.8, linestyle=":")
        axes.text(
            -0.98 * _FARTHEST[unit],
            0.98,
            name,
            color=color,
            va="top",
            transform=axes.get_xaxis_transform(),
        )
    for axes in panels.flat[len(comparison.rows) :]:
        axes.set_axis_off()
    ticks = _FARTHEST[unit] * np.linspace(-1.0, 1.0, 5)
    axes.set(xlim=(1.02 * ticks[0], 1.02 * ticks[-1]), xticks=ticks)
    meaning = comparison.target.margin_meanings[unit]
    figure.supxlabel(meaning.axis, fontsize="medium")
    figure.supylabel(f"validation {comparison.target.counted}s (%)", fontsize="medium")
    key = Line2D([], [], color=theme.faint, linewidth=7, label="before training")
    line = Line2D([], [], color=theme.ink, label="after training")
    legend(figure, [], theme, (key, line))


def _caption_margins(comparison: Comparison) -> str:
    said, unit = {}, comparison.margin_unit
    for name, runs in comparison.rows.items():
        before, after = (_histogram(runs, n, unit).median for n in ("before", "after"))
        said[name] = (after, f"{short(before)} → {short(after)}")
    right = comparison.target.margin_meanings[unit].right
    median = f"Median margin{_OF[unit]} before → after training"
    return f"{median}: {each(said)}; right of 0, {right}."


def _alt_margins(comparison: Comparison) -> str:
    said, unit = [], comparison.margin_unit
    far = _FAR[unit]
    for name, runs in comparison.rows.items():
        after = _histogram(runs, "after", unit)
        right, clear = (short(after.percent_above(low)) for low in (0.0, far))
        said.append(f"{name} {right} % above 0 and {clear} % above {far:g}")
    return (
        f"Histograms of the margin{_OF[unit]} on validation before and after training; "
        f"after it: {'; '.join(said)}."
    )


class _Histogram(NamedTuple):
    """Margins counted in bins."""

    edges: np.ndarray  # shape=(bins + 1,), rising
    counts: np.ndarray  # shape=(bins,)

    @property
    def percent(self) -> np.ndarray:
        """The percentage of the margins in each bin."""
        return 100.0 * self.counts / max(self.counts.sum(), 1)

    @property
    def median(self) -> float:
        """The margin with half of them below it, where a bin's lie evenly in it."""
        if not self.counts.sum():
            return math.nan
        cumulative = np.concatenate([[0.0], np.cumsum(self.counts)])
        half = cumulative[-1] / 2
        after = int(np.searchsorted(cumulative, half))
        share = (half - cumulative[after - 1]) / self.counts[after - 1]
        low, high = self.edges[after - 1], self.edges[after]
        return float(low + share * (high - low))

    def percent_above(self, low: float) -> float:
        """Returns the percentage in the bins from the edge `low` on."""
        # The edge may have been rounded.
        above = self.edges[:-1] > low - 1e-6
        return float(self.percent[above].sum()) if self.counts.sum() else math.nan


def _histogram(runs: Sequence[Run], when: str, unit: Unit) -> _Histogram:
    """Returns the margins of all seeds together, `before` or `after` training."""
    name = "logit_margins" if unit == "logits" else "margins"
    counts = np.sum([run.result[name][when] for run in runs], axis=0)
    return _Histogram(np.array(runs[0].result[name]["edges"]), counts)


# --- Loss against score -----------------------------------------------------------


def _draw_scatter(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    axes, score = figure.add_subplot(), f"validation_{comparison.metric.name}"
    for place, runs in enumerate(comparison.rows.values()):
        color, marker = look(theme, place)
        x = np.concatenate([run.series("validation_loss") for run in runs])
        y = np.concatenate([run.series(score) for run in runs])
        axes.scatter(
            x, comparison.metric.scale * y, color=color, marker=marker, s=18, alpha=0.6
        )
    if _all_positive(comparison, ("validation_loss",)):
        axes.set_xscale("log")
        label_logarithms(axes.xaxis)
    axes.set(
        xlabel=f"validation loss (mean of {comparison.target.counted}s)",
        ylabel=f"validation {comparison.metric.heading}",
    )
    r = _correlations(comparison)
    labels = [
        f"{name}, r {r[name]:.3f}" if name in r else name for name in comparison.rows
    ]
    legend(figure, labels, theme)


def _caption_scatter(comparison: Comparison) -> str:
    r = _correlations(comparison)
    if not r:
        return (
            "Pearson's r takes three evaluations of a run or more, whose loss and "
            f"{comparison.metric.title} change."
        )
    said = {name: (value, f"{value:.3f}") for name, value in r.items()}
    return (
        f"Pearson's r over the evaluations of a run, its mean over seeds: "
        f"{each(said)}; at -1 the points of a run lie on a falling line."
    )


def _alt_scatter(comparison: Comparison) -> str:
    text = (
        f"Scatter plot of validation {comparison.metric.title} against validation "
        "loss, an evaluation a point"
    )
    said = [f"{name} r = {r:.3f}" for name, r in _correlations(comparison).items()]
    return f"{text}: {listed(said)}." if said else f"{text}."


def _correlations(comparison: Comparison) -> dict[str, float]:
    """Returns the mean of Pearson's r over the seeds of each row that has one."""
    metric = comparison.metric.name
    means = {
        name: mean_correlation(runs, metric) for name, runs in comparison.rows.items()
    }
    return {name: r for name, r in means.items() if r is not None}


# --- What all plots share ---------------------------------------------------------


def _all_positive(comparison: Comparison, names: Sequence[str]) -> bool:
    """Returns whether a logarithmic scale can show all of it."""
    values = [run.series(name) for run in comparison.runs for name in names]
    finite = [of_run[np.isfinite(of_run)] for of_run in values]
    together = np.concatenate(finite)
    return bool(together.size and (together > 0).all())


_KINDS = (
    _Kind("{metric} over training", _draw_score, _alt_score, _caption_score),
    _Kind("loss over training", _draw_loss, _alt_loss, _caption_loss),
    _Kind("settled share over training", _draw_settled, _alt_settled, _caption_settled),
    _Kind(
        "{metric} by the clock",
        _draw_seconds,
        _alt_seconds,
        _caption_seconds,
        _has_seconds,
    ),
    _Kind("{metric} by seed", _draw_seeds, _alt_seeds, _caption_seeds),
    _Kind("margins", _draw_margins, _alt_margins, _caption_margins),
    _Kind("loss against {metric}", _draw_scatter, _alt_scatter, _caption_scatter),
    _Kind(
        "reliability",
        reliability.draw,
        reliability.alt,
        reliability.caption,
        reliability.has_bins,
    ),
)
