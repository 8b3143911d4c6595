"""A search with equal means for every loss: trials, and the one that is chosen."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scipy.stats import qmc

from ..config import Config, as_dict, check, nearest, row_of_margin
from ..errors import ConfigError
from ..targets.metric import Metric
from .grid import Cell, fitting_losses, parse_losses, with_loss

# The seed of the search; the seeds that follow it are fresh.
SEARCH_SEED = 0
# The learning rate varies by so much either way, and epochs by these factors.
_RATE_FACTOR = 4.0
_EPOCH_FACTORS = (0.5, 1.0, 1.5)


class Contender(NamedTuple):
    """A loss, with the margin that it is to be had with."""

    loss: str  # a row of the table
    margin: str | None  # None: it has none

    def label(self, table: Mapping[str, Any]) -> str:
        """Returns its name; a margin that is not the first is said."""
        margins = table[self.loss].margins
        return f"{self.loss}:{self.margin}" if self.margin in margins[1:] else self.loss

    def row(self, table: Mapping[str, Any]) -> Any:
        """Returns its row of the table."""
        row = table[self.loss]
        return row if self.margin is None else row.by_margin[self.margin]


class Trial(NamedTuple):
    """One point of the search."""

    number: int
    learning_rate: float
    epochs: int
    keyword: str | None  # of the loss's own; None: the loss has none to vary
    value: float | None

    @property
    def settings(self) -> dict[str, str]:
        """The varied settings by their short names, as text."""
        found = {
            "learning_rate": f"{self.learning_rate:g}",
            "epochs": str(self.epochs),
        }
        return (
            found if self.keyword is None else found | {self.keyword: f"{self.value:g}"}
        )


def parse_contenders(
    text: str, target: str, table: Mapping[str, Any], *, where: str
) -> list[Contender]:
    """Returns the contenders in `softmax,as_softmax,as_softmax:delta`, each once.

    Args:
      text: names of losses, a margin after a colon; without one it is the first that
        the loss takes.
      target: `labels` or `multi_hot`, for which a loss's sibling stands.
      table: the losses by name.
      where: the comparison, for messages.

    Raises:
      ConfigError: no such loss or margin, one that does not fit, or one twice.
    """
    found: list[Contender] = []
    for part in text.split(","):
        name, _, margin = part.strip().partition(":")
        (name,) = parse_losses(name, table)
        (loss,) = fitting_losses([name], target, table, where=where)
        margins = table[loss].margins
        if margin and margin not in margins:
            there = nearest(margin, margins) if margins else "it has none"
            raise ConfigError(f"--losses: {loss} has no margin {margin!r}; {there}")
        contender = Contender(loss, margin or next(iter(margins), None))
        if contender in found:
            raise ConfigError(f"--losses: {part.strip()} comes twice; name it once")
        found.append(contender)
    return found


def make_trials(config: Config, row: Any, count: int) -> list[Trial]:
    """Returns so many trials; the first is the configuration as it is.

    The others go evenly through learning rates, epochs and the loss's own keyword; the
    learning rates and epochs are the same for every loss.

    Args:
      config: what they vary.
      row: of the loss, with its margin.
      count: one at least.
    """
    keyword = row.searched
    rate, epochs = config.optimizer.learning_rate, config.training.epochs
    first = Trial(0, rate, epochs, keyword, _own_value(config, row, keyword))
    values = row.search[keyword] if keyword else (None,)
    # The first point is 0, and the next one the configuration once more.
    points = qmc.Halton(d=3, scramble=False).random(count + 1)[2:]
    return [
        first,
        *(
            Trial(
                number,
                float(f"{rate * _RATE_FACTOR ** (2 * x - 1):.2g}"),
                max(1, round(epochs * _EPOCH_FACTORS[int(y * len(_EPOCH_FACTORS))])),
                keyword,
                values[int(z * len(values))],
            )
            for number, (x, y, z) in enumerate(points, start=1)
        ),
    ]


def _own_value(config: Config, row: Any, keyword: str | None) -> float | None:
    """Returns the value of a loss's keyword in a configuration, or its default."""
    if keyword is None:
        return None
    if keyword == row.margin:
        given = getattr(config.loss, keyword)
        return float(row.keywords[keyword] if given is None else given)
    return float(config.loss.options.get(keyword, row.keywords[keyword]))


def trial_cell(
    name: str,
    config: Config,
    contender: Contender,
    trial: Trial,
    table: Mapping[str, Any],
) -> Cell:
    """Returns the cell of a trial: the test split is held back."""
    held_back = dataclasses.replace(config.data, held_back=True)
    found = _configured(
        dataclasses.replace(config, data=held_back, seed=SEARCH_SEED),
        contender,
        trial,
        table,
    )
    label = contender.label(table)
    cell = _cell(name, label, f"search_{trial.number}", trial, found)
    return cell._replace(label=f"{label} {trial.number}")


def chosen_cell(
    name: str,
    config: Config,
    contender: Contender,
    trial: Trial,
    seed: int,
    table: Mapping[str, Any],
) -> Cell:
    """Returns the cell of a contender's chosen settings with a fresh seed.

    Where the configuration has folds, each seed has a fold of its own.
    """
    if config.data.folds:
        fold = (seed - SEARCH_SEED - 1) % config.data.folds
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, fold=fold)
        )
    found = _configured(dataclasses.replace(config, seed=seed), contender, trial, table)
    return _cell(name, contender.label(table), "chosen", trial, found)


def _configured(
    config: Config, contender: Contender, trial: Trial, table: Mapping[str, Any]
) -> Config:
    """Returns the checked configuration of a trial."""
    row = contender.row(table)
    config = with_loss(config, contender.loss, row)
    changes: dict[str, Any] = {}
    if row.margin is not None:
        value = _own_value(config, row, row.margin)
        changes = {**dict.fromkeys(row.margins), row.margin: value}
    if trial.keyword is not None and trial.keyword == row.margin:
        changes[trial.keyword] = trial.value
    elif trial.keyword is not None:
        changes["options"] = {**config.loss.options, trial.keyword: trial.value}
    config = dataclasses.replace(
        config,
        loss=dataclasses.replace(config.loss, **changes),
        optimizer=dataclasses.replace(
            config.optimizer, learning_rate=trial.learning_rate
        ),
        training=dataclasses.replace(config.training, epochs=trial.epochs),
    )
    check(config)
    assert row_of_margin(table[contender.loss], as_dict(config)["loss"]) == row
    return config


def _cell(name: str, label: str, what: str, trial: Trial, config: Config) -> Cell:
    settings = [f"{k}={v}" for k, v in trial.settings.items()]
    parts = [name, label, what, *settings, f"seed_{config.seed}"]
    return Cell(
        name=re.sub(r"[^\w.=+-]", "_", "-".join(parts)),
        label=label,
        point={},
        config=config,
    )


def best_trial(
    trials: Sequence[Trial], results: Sequence[Mapping[str, Any]], metric: Metric
) -> Trial:
    """Returns the trial whose validation metric is the best; of equals the first."""
    sign = 1.0 if metric.larger_is_better else -1.0

    def value(result: Mapping[str, Any]) -> float:
        found = result[f"validation_{metric.name}"]
        return -math.inf if found is None or math.isnan(found) else sign * found

    values = [value(result) for result in results]
    return trials[values.index(max(values))]
