"""The reliability diagram: how often what is held likely is so (Guo et al., 2017)."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from .drawing import Theme, each, legend, listed, look
from .results import Comparison


class _Line(NamedTuple):
    """Of one row, over its seeds: what is in a bin counts as often as it is."""

    stated: np.ndarray  # mean probability of a bin, in percent
    right: np.ndarray  # how often it is so, in percent
    share: np.ndarray  # of all that is in the bin

    @property
    def gap(self) -> float:
        """The mean distance of both, in points."""
        return float(np.sum(np.abs(self.stated - self.right) * self.share))


def has_bins(comparison: Comparison) -> bool:
    """Whether every run says what its probabilities are worth."""
    found = [run.result.get("quality") for run in comparison.runs]
    return all(q is not None and any(n for n, _, _ in q["bins"]) for q in found)


def draw(figure: Figure, comparison: Comparison, theme: Theme) -> None:
    """Draws a line a row, and the diagonal on which all is as it is said."""
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=theme.faint, linewidth=1.2, linestyle=":")
    for place, line in enumerate(_lines(comparison).values()):
        color, marker = look(theme, place)
        axes.plot(line.stated, line.right, color=color, linewidth=1.2)
        # A bin of a few examples says little, and is small.
        area = 12.0 + 200.0 * line.share
        axes.scatter(line.stated, line.right, s=area, color=color, marker=marker)
    axes.set(
        xlabel="calibrated probability (%)",
        ylabel=f"right on {_split(comparison)} (%)",
        xlim=(-3, 103),
        ylim=(-3, 103),
    )
    legend(figure, list(comparison.rows), theme)


def caption(comparison: Comparison) -> str:
    """Says how far off each row is."""
    gaps = {name: line.gap for name, line in _lines(comparison).items()}
    said = {name: (gap, f"{gap:.1f} points") for name, gap in gaps.items()}
    return (
        "Mean gap between probability, with the temperature fitted on validation, and "
        f"how often it is right: {each(said)}; a larger mark stands for more examples."
    )


def alt(comparison: Comparison) -> str:
    """Says where each line ends."""
    ends = [
        f"{name} is right in {line.right[-1]:.0f} % where it says {line.stated[-1]:.0f}"
        for name, line in _lines(comparison).items()
    ]
    return f"Reliability diagram; in the last bin {listed(ends)}."


def _split(comparison: Comparison) -> str:
    return comparison.runs[0].result["quality"]["split"]


def _lines(comparison: Comparison) -> dict[str, _Line]:
    """Returns the line of each row, without its empty bins."""
    found = {}
    for name, runs in comparison.rows.items():
        bins = np.array([run.result["quality"]["bins"] for run in runs], np.float64)
        counts = bins[:, :, 0].sum(axis=0)
        held = counts > 0
        stated = (bins[:, :, 0] * bins[:, :, 1]).sum(axis=0)[held] / counts[held]
        right = bins[:, :, 2].sum(axis=0)[held] / counts[held]
        share = counts[held] / counts.sum()
        found[name] = _Line(100.0 * stated, 100.0 * right, share)
    return found
