"""What a search came to: its choice, its trials, and what can be concluded."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .drawing import (
    DARK,
    LIGHT,
    Plot,
    Theme,
    capital,
    legend,
    listed,
    look,
    render,
)
from .report import Chapter, make_chapter
from .results import Comparison, Summary, summarize
from .search import Trial
from .tables import Table
from .verdict import against_softmax

_NAMES = {"learning_rate": "learning rate", "epochs": "epochs"}


class Searched(NamedTuple):
    """The trials of one loss."""

    trials: Sequence[Trial]
    comparison: Comparison  # of the trials, a run each
    chosen: Trial

    def scores(self) -> np.ndarray:
        """Returns the validation metric of each trial, in the units of tables."""
        metric = self.comparison.metric
        name = f"validation_{metric.name}"
        values = [run.result[name] for run in self.comparison.runs]
        return metric.scale * np.array(
            [np.nan if value is None else value for value in values]
        )

    def seconds(self) -> float:
        """Returns what the search took."""
        return sum(run.result["seconds"] for run in self.comparison.runs)


def make_search_chapter(
    comparison: Comparison, searched: Mapping[str, Searched]
) -> Chapter:
    """Returns the chapter of the fresh seeds, with that of the search in it.

    Args:
      comparison: of the chosen settings, over fresh seeds.
      searched: by the label of each contender.
    """
    chapter, summaries = make_chapter(comparison), summarize(comparison)
    num_trials = len(next(iter(searched.values())).trials)
    plots = [
        *(_plot(searched, keyword) for keyword in _keywords(searched)),
        *chapter.plots,
    ]
    return chapter._replace(
        title=f"{chapter.title}, {_counted(num_trials)} each",
        conclusion=conclude(comparison, summaries, searched),
        plots=plots,
        tables={
            "The search, on one seed, by validation": _trials_table(searched),
            "Seconds": _seconds_table(comparison, searched),
        },
    )


def conclude(
    comparison: Comparison,
    summaries: Sequence[Summary],
    searched: Mapping[str, Searched],
) -> str:
    """Returns what can be concluded, of each loss that has a softmax to be above.

    Args:
      comparison: of the chosen settings.
      summaries: of it.
      searched: by the label of each contender.
    """
    num_trials = len(next(iter(searched.values())).trials)
    said = [
        _verdict(comparison, row, searched[row.label].chosen)
        for row in summaries
        if row.difference
    ]
    if not said:
        return (
            "Nothing can be concluded: there are fewer than two fresh seeds, or no "
            "softmax to compare with."
        )
    seeds = len({run.seed for run in comparison.runs})
    of = f"{comparison.split} {comparison.metric.title} over {seeds} seeds"
    return (
        f"On {comparison.name}, after {_counted(num_trials)} each, by {of}: "
        f"{'; '.join(said)}."
    )


def _counted(num_trials: int) -> str:
    return f"{num_trials} trial{'s' if num_trials > 1 else ''}"


def _verdict(comparison: Comparison, row: Summary, chosen: Trial) -> str:
    assert row.difference is not None
    settings = ", ".join(
        f"{_NAMES.get(name, name)} {value}" for name, value in chosen.settings.items()
    )
    _, low, high, p = row.difference
    scale = comparison.metric.scale
    return (
        f"{row.label} ({settings}) {against_softmax(comparison, row)} (95 % interval "
        f"{scale * low:+.2f} to {scale * high:+.2f}, p = {p:.3f})"
    )


def _keywords(searched: Mapping[str, Searched]) -> list[str]:
    """Returns what the trials vary, each once."""
    names = [n for one in searched.values() for n in one.trials[0].settings]
    return list(dict.fromkeys(names))


def _trials_table(searched: Mapping[str, Searched]) -> Table:
    """Returns a row a trial, the chosen one marked."""
    keywords = _keywords(searched)
    metric = next(iter(searched.values())).comparison.metric
    rows = []
    for label, one in searched.items():
        for trial, score, run in zip(
            one.trials, one.scores(), one.comparison.runs, strict=True
        ):
            settings = trial.settings
            rows.append(
                (
                    label,
                    *(settings.get(keyword, "") for keyword in keywords),
                    f"{score:.2f}",
                    f"{run.result['seconds']:.1f}",
                    "chosen" if trial == one.chosen else "",
                )
            )
    shown = [_NAMES.get(keyword, keyword) for keyword in keywords]
    header = ("loss", *shown, f"validation {metric.heading}", "seconds", "")
    return Table(header, rows)


def _seconds_table(comparison: Comparison, searched: Mapping[str, Searched]) -> Table:
    """Returns what each loss took, searching and with fresh seeds."""
    finals = [
        sum(run.result["seconds"] for run in runs) for runs in comparison.rows.values()
    ]
    rows = [
        (label, f"{one.seconds():.1f}", f"{seconds:.1f}")
        for (label, one), seconds in zip(searched.items(), finals, strict=True)
    ]
    return Table(("loss", "search", "fresh seeds"), rows)


def _plot(searched: Mapping[str, Searched], keyword: str) -> Plot:
    """Returns the plot of validation over one setting."""
    metric = next(iter(searched.values())).comparison.metric
    name = _NAMES.get(keyword, keyword)
    having = {
        label: one
        for label, one in searched.items()
        if keyword in one.trials[0].settings
    }
    draw = functools.partial(_draw, searched=searched, keyword=keyword)
    chosen = [f"{one.chosen.settings[keyword]} for {x}" for x, one in having.items()]
    return Plot(
        title=f"{capital(metric.title)} on validation over {name}",
        light=render(draw, LIGHT),
        dark=render(draw, DARK),
        alt=f"Points: validation {metric.title} of each trial over its {name}, for "
        f"{listed(list(having))}.",
        caption=f"Each point is a trial; large ones were chosen: {listed(chosen)}.",
    )


def _draw(
    figure: Figure, *, searched: Mapping[str, Searched], keyword: str, theme: Theme
) -> None:
    axes = figure.subplots()
    metric = next(iter(searched.values())).comparison.metric
    for place, (label, one) in enumerate(searched.items()):
        if keyword not in one.trials[0].settings:
            continue
        color, marker = look(theme, place)
        values = [float(trial.settings[keyword]) for trial in one.trials]
        scores = one.scores()
        axes.plot(values, scores, marker, color=color, label=label, linestyle="none")
        best = one.trials.index(one.chosen)
        axes.plot(
            [values[best]],
            [scores[best]],
            marker,
            color=color,
            markersize=13,
            alpha=0.5,
        )
    if keyword == "learning_rate":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(_NAMES.get(keyword, keyword))
    axes.set_ylabel(f"validation {metric.heading}")
    legend(figure, list(searched), theme)
