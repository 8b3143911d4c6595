"""What a loss reads of the configuration: its margin, its keywords, its slack."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .sections import MARGINS, Config, LossConfig
from .values import replace

if TYPE_CHECKING:
    from as_softmax_jax.losses import Loss


def keywords_of_field() -> dict[str, tuple[str, ...]]:
    """Returns which keywords of a loss each field of `LossConfig` is about.

    The margins have fields of their own, `{margin}_warmup`, and fields that either
    margin has. Other keywords are options.
    """
    names = {field.name for field in dataclasses.fields(LossConfig)}
    of_margins = names - {"name", "options"}
    return {
        name: tuple(m for m in MARGINS if name in (m, f"{m}_warmup")) or MARGINS
        for name in sorted(of_margins)
    }


def row_of_margin(row: "Loss", given: Mapping[str, Any]) -> "Loss":
    """Returns the row of the margin that is given; none: of the recommended one.

    Args:
      row: of the table of losses.
      given: the keys of `loss` and their values; one that is None is not given.
    """
    return next(
        (row.by_margin[m] for m in row.margins if given.get(m) is not None), row
    )


def with_margin(config: Config) -> Config:
    """Returns the configuration with its margin written out where nobody gave one.

    What is stored then means the same under a later default.
    """
    # Not at the top: whoever only reads a configuration does without JAX.
    from as_softmax_jax.losses import LOSSES

    if config.loss.name not in LOSSES:
        return config
    given = {m: getattr(config.loss, m) for m in MARGINS}
    row = row_of_margin(LOSSES[config.loss.name], given)
    if row.margin is None or given[row.margin] is not None:
        return config
    return replace(config, f"loss.{row.margin}", float(row.keywords[row.margin]))


def unread_fields(row: "Loss") -> dict[str, Any]:
    """Returns the fields of `LossConfig` that a loss does not read, at their defaults.

    Args:
      row: of the loss and its margin, see `row_of_margin`.
    """
    default = LossConfig()
    return {
        field: getattr(default, field)
        for field, keywords in keywords_of_field().items()
        if not any(keyword in row.keywords for keyword in keywords)
    }


def default_slack(*, logits: bool) -> float:
    """Returns the slack of compact training where none is given.

    Args:
      logits: whether leads are in logits, not in probability.
    """
    # In logits none: the examples trained on are then exactly the unsettled ones.
    return 0.0 if logits else 0.3
