"""What plots have in common: colours for light and dark pages, legends, words."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INCHES = (5.4, 3.8)
_DOTS_PER_INCH = 170
_LEGEND_ROW_INCHES = 0.24


# Up to so many losses, a plot names and shows all there is of each.
FEW = 3
_MARKERS = "osD^vPX*<>p"


# Longer names stand one a line.
_LONG_NAME = 24
_MOST_LABELLED_DECADES = 3


class Theme(NamedTuple):
    """Colours of a page; `palette` keeps apart for the common colour blindnesses."""

    paper: str
    ink: str
    grid: str
    faint: str  # for what stands behind the data
    palette: Sequence[str]


# Okabe and Ito's colours, made darker or lighter for contrast with the paper.
LIGHT = Theme(
    paper="#ffffff",
    ink="#22262b",
    grid="#dfe3e8",
    faint="#aab2bc",
    palette=(
        "#0072b2",
        "#d55e00",
        "#008f6b",
        "#b0578d",
        "#3a9bd9",
        "#a87400",
        "#555b63",
        "#6a3d9a",
    ),
)
DARK = Theme(
    paper="#171a1f",
    ink="#e4e7eb",
    grid="#343a43",
    faint="#6b7480",
    palette=(
        "#5ab4f0",
        "#ff8a3d",
        "#2fc9a0",
        "#e69fcb",
        "#a5d8ff",
        "#f0c14b",
        "#b4bac2",
        "#b99af0",
    ),
)


class Plot(NamedTuple):
    """A plot as a page shows it."""

    title: str
    light: bytes  # PNG
    dark: bytes
    alt: str
    caption: str


def render(draw: Callable[..., None], theme: Theme) -> bytes:
    """Returns the plot as PNG; a figure of its own, nothing global is left behind.

    Args:
      draw: `draw(figure, theme=)`.
      theme: the colours.
    """
    with matplotlib.rc_context(_settings(theme)):
        figure = Figure(figsize=INCHES, layout="constrained")
        draw(figure, theme=theme)
        content = io.BytesIO()
        # Without a version inside, equal plots are equal files.
        figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _settings(theme: Theme) -> dict[Any, Any]:
    """Returns matplotlib's settings for a page of this theme."""
    ink = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    return dict.fromkeys(ink, theme.ink) | {
        "figure.dpi": _DOTS_PER_INCH,
        "savefig.dpi": _DOTS_PER_INCH,
        "figure.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": theme.grid,
        "font.size": 11.5,
        "legend.frameon": False,
        "legend.handlelength": 1.6,
        "lines.linewidth": 1.8,
        "lines.markersize": 4,
    }


def capital(text: str) -> str:
    """Returns text that begins a line."""
    return text[:1].upper() + text[1:]


def look(theme: Theme, place: int) -> tuple[str, str]:
    """Returns colour and marker; together they tell more losses apart than colours."""
    return theme.palette[place % len(theme.palette)], _MARKERS[place % len(_MARKERS)]


def legend(
    figure: Figure, labels: Sequence[str], theme: Theme, extra: Sequence[Line2D] = ()
) -> None:
    """Puts a legend above the axes: an entry a loss, then what else is drawn."""
    entries = []
    for place, label in enumerate(labels):
        color, marker = look(theme, place)
        entries.append(Line2D([], [], color=color, label=label, marker=marker))
    entries += extra
    longest = max(map(len, labels), default=0)
    columns = 2 if longest > 12 else min(len(entries), 4)
    columns = 1 if longest > _LONG_NAME else columns
    # The axes keep their height, whatever the legend takes.
    rows = math.ceil(len(entries) / columns)
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW_INCHES * (rows - 1))
    figure.legend(
        handles=entries,
        loc="outside upper left",
        ncols=columns,
        columnspacing=1.2,
        fontsize=10.5 if len(labels) <= FEW else 9,
    )


def label_logarithms(axis: Axis) -> None:
    """Labels 1, 2 and 5 of each decade, or of many decades the 1: plain and apart."""
    low, high = axis.get_view_interval()
    few = high < low * 10.0**_MOST_LABELLED_DECADES
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def short(value: float) -> str:
    """Returns a number for a sentence; `-` for none."""
    return f"{value:.3g}" if math.isfinite(value) else "-"


def each(figures: Mapping[str, tuple[float, str]]) -> str:
    """Returns each loss's figure as text; of many losses, the extremes.

    Args:
      figures: the figure of each loss, and how to write it.
    """
    said = {name: f"{text} for {name}" for name, (_, text) in figures.items()}
    if len(said) <= FEW:
        return listed(list(said.values()))
    order = sorted(figures, key=lambda name: np.nan_to_num(figures[name][0], nan=-9e9))
    return f"from {said[order[0]]} to {said[order[-1]]}"


def listed(items: Sequence[str]) -> str:
    """Returns `a`, `a and b` or `a, b and c`."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
