"""The grid of a comparison: losses, points of a sweep and seeds make its cells."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..config import (
    MARGINS,
    Config,
    as_dict,
    check,
    keywords_of_field,
    nearest,
    row_of_margin,
    unread_fields,
    with_flags,
)
from ..errors import ConfigError

# What the grid itself decides, and where.
DECIDED = {"loss.name": "--losses", "seed": "--seeds", "task": "--config"}


class Sweep(NamedTuple):
    """A key and the values it takes, as text."""

    key: str
    values: tuple[str, ...]


class Point(NamedTuple):
    """One value for each swept key, and the configuration that they make."""

    values: Mapping[str, str]
    config: Config


class Cell(NamedTuple):
    """One run of the grid."""

    name: str  # of its file, and of the folder it trains in
    label: str  # of its row: the loss, and where the sweep stands
    point: Mapping[str, str]  # the swept keys that its loss reads
    config: Config


def parse_losses(text: str, table: Mapping[str, Any]) -> list[str]:
    """Returns the names in `softmax,as_softmax`, each a row of `table`, each once."""
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise ConfigError(f"--losses: an empty name in {text!r}; write a,b,c")
    for name in names:
        if name not in table:
            raise ConfigError(f"--losses: no {name!r}; {nearest(name, table)}")
    _refuse_repeats("--losses", names)
    return names


def parse_seeds(text: str) -> list[int]:
    """Returns the numbers in `0,1,2`, each once."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--seeds must be whole numbers; got {text!r}; write 0,1,2"
        ) from error
    _refuse_repeats("--seeds", seeds)
    return seeds


def parse_sweep(text: str) -> Sweep:
    """Returns the key and the values of `loss.delta=0.05,0.1`."""
    key, _, values = text.partition("=")
    parts = tuple(part.strip() for part in values.split(","))
    if not key or "" in parts:
        raise ConfigError(f"--grid: got {text!r}; write loss.delta=0.05,0.1")
    if key in DECIDED:
        raise ConfigError(f"--grid: {key}: {DECIDED[key]} decides it; leave it out")
    _refuse_repeats(f"--grid {key}", parts)
    return Sweep(key, parts)


def make_points(
    config: Config, overrides: Sequence[str], sweeps: Sequence[Sweep]
) -> list[Point]:
    """Returns the configuration at each point of the product of the sweeps.

    Args:
      config: to start from.
      overrides: flags that hold at every point; a margin among them where a sweep of
        the other margin has the value none.
      sweeps: the keys to vary, each once; the last one varies fastest.

    Raises:
      ConfigError: a flag or a value is not right.
    """
    keys = [sweep.key for sweep in sweeps]
    _refuse_repeats("--grid", keys)
    for flag in overrides:
        key = flag.partition("=")[0].removeprefix("--config.")
        if key in keys:
            raise ConfigError(f"{flag}: --grid varies this key; leave one of them out")
    # A margin by flag that no point would have is refused beside a swept one.
    swept = (s.values for s in sweeps if s.key in {f"loss.{m}" for m in MARGINS})
    apart = any("none" in values for values in swept)
    points = []
    for values in itertools.product(*(sweep.values for sweep in sweeps)):
        flags = [f"--config.{k}={v}" for k, v in zip(keys, values, strict=True)]
        groups = (overrides, flags) if apart else ([*overrides, *flags],)
        chosen = with_flags(config, *groups)
        held = as_dict(chosen)
        # As the configuration has it: 0.10 and 0.1 are one value.
        points.append(Point({key: _shown(_value(held, key)) for key in keys}, chosen))
    return points


def fitting_losses(
    names: Sequence[str], target: str, table: Mapping[str, Any], *, where: str
) -> list[str]:
    """Returns the losses that a task with such a target means by these names.

    Args:
      names: rows of `table`; for several labels an example, one for a single label
        stands for its sibling: softmax for multi_label_softmax.
      target: `labels` or `multi_hot`.
      table: the losses by name.
      where: the comparison, for messages.

    Raises:
      ConfigError: a loss does not fit and has no sibling, or comes twice.
    """
    fitting = [name for name, row in table.items() if row.target == target]
    several = "several labels an example" if target == "multi_hot" else "one label"
    losses = []
    for name in names:
        own = name if name in fitting else table[name].multi_label
        if own not in fitting:
            raise ConfigError(
                f"--losses: {name} does not fit {where}, which has {several}; "
                f"what fits is {', '.join(fitting)}"
            )
        losses.append(own)
    _refuse_repeats(f"--losses for {where}", losses)
    return losses


def make_cells(
    name: str,
    points: Sequence[Point],
    losses: Sequence[str],
    seeds: Sequence[int],
    table: Mapping[str, Any],
) -> list[Cell]:
    """Returns the cells, loss by loss, as checked configurations.

    What a loss does not read stays at its default: its cells then do not depend on it,
    and points that differ in nothing else are one.

    Args:
      name: of the comparison, which starts the name of each cell.
      points: of the sweep; one without values where nothing is swept.
      losses: that fit the task.
      seeds: of every loss and point.
      table: the losses by name.

    Raises:
      ConfigError: a seed out of range, or an option that none of the losses has.
    """
    _refuse_unread_options(points, losses, table)
    cells: dict[str, Cell] = {}
    for loss in losses:
        met: list[Config] = []
        for point in points:
            row = row_of_margin(table[loss], as_dict(point.config)["loss"])
            config = with_loss(point.config, loss, row)
            if config in met:
                continue
            met.append(config)
            read = {
                key: value
                for key, value in point.values.items()
                if _reads(row.keywords, key)
            }
            for seed in seeds:
                cell = _cell(name, read, dataclasses.replace(config, seed=seed))
                if cell.name in cells:
                    raise ConfigError(
                        f"--grid: two cells would be called {cell.name}; choose values "
                        "that differ in letters and digits"
                    )
                cells[cell.name] = cell
    return list(cells.values())


def _cell(name: str, point: Mapping[str, str], config: Config) -> Cell:
    """Returns the checked cell with its names."""
    check(config)
    loss = config.loss.name
    parts = [name, loss, *(f"{k}={v}" for k, v in point.items()), f"seed_{config.seed}"]
    short = {key: key.rpartition(".")[2] for key in point}
    distinct = len(set(short.values())) == len(short)
    shown = (f"{short[k] if distinct else k}={v}" for k, v in point.items())
    return Cell(
        # A value may be a path or a split such as train[:90%].
        name=re.sub(r"[^\w.=+-]", "_", "-".join(parts)),
        label=" ".join([loss, *shown]),
        point=point,
        config=config,
    )


def with_loss(config: Config, loss: str, row: Any) -> Config:
    """Returns the configuration of a loss, without what the loss does not read."""
    options = {k: v for k, v in config.loss.options.items() if k in row.keywords}
    changes = unread_fields(row) | {"name": loss, "options": options}
    return dataclasses.replace(config, loss=dataclasses.replace(config.loss, **changes))


def _reads(keywords: Mapping[str, Any], key: str) -> bool:
    """Returns whether a loss with these keywords depends on a key."""
    section, _, name = key.partition(".")
    field, _, inner = name.partition(".")
    if section != "loss":
        return True
    if field == "options":
        return inner in keywords
    return any(keyword in keywords for keyword in keywords_of_field()[field])


def _refuse_unread_options(
    points: Sequence[Point], losses: Sequence[str], table: Mapping[str, Any]
) -> None:
    known = {name for loss in losses for name in table[loss].keywords}
    known -= {*MARGINS}
    options = {name for point in points for name in point.config.loss.options}
    for name in sorted(options - known):
        there = nearest(name, known) if known else "none of these losses has options"
        raise ConfigError(f"`loss.options`: no loss here has {name!r}; {there}")


def _refuse_repeats(flag: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{flag}: {value} comes twice; name it once")


def _value(config: Any, key: str) -> Any:
    """Returns the value at a dotted key of nested settings."""
    # A class of `loss.class_margins` may have dots in its name.
    for name in key.split(".", 2):
        config = config[name]
    return config


def _shown(value: Any) -> str:
    """Returns a value as text, a whole number without its point."""
    if isinstance(value, list):
        return "+".join(value)
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)
