"""How the margin of a loss goes over training."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from as_softmax_jax import margin_schedule
from as_softmax_jax.losses import Loss

from ..config import LossConfig
from ..errors import ConfigError


def _static() -> Any:
    """A field that makes another program."""
    return dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Course:
    """From softmax's margin to its value, and in the end back; by examples seen.

    A pytree, whose numbers of examples may be traced. None stands for no stretch, which
    makes another program.
    """

    margin: str = _static()  # the loss's keyword
    softmax: float = _static()  # at which the loss is softmax
    warmup: Any = None  # examples, the first of training
    cooldown: Any = None  # examples, the last of training
    total: Any = None  # examples of training

    def at(self, value: Any, examples_seen: jax.Array | int) -> jax.Array:
        """Returns the margin after so many examples, float32.

        Args:
          value: of the margin, between warm-up and cool-down.
          examples_seen: where training stands.
        """
        schedule = margin_schedule(
            **{self.margin: value},
            init=self.softmax,
            warmup_steps=0 if self.warmup is None else self.warmup,
            end=self.softmax,
            cooldown_steps=0 if self.cooldown is None else self.cooldown,
            total_steps=self.total,
        )
        return jnp.asarray(schedule(examples_seen), jnp.float32)


def constant(row: Loss) -> Course:
    """Returns the course of a margin that keeps its value."""
    assert row.margin is not None, "whoever asks has a margin"
    return Course(row.margin, row.softmax_at[row.margin])


def make_course(config: LossConfig, row: Loss, *, total_examples: int) -> Course | None:
    """Returns the course of the loss's margin; None where it has none.

    Args:
      config: the shares of training.
      row: of the loss and its margin.
      total_examples: seen at the end of training.

    Raises:
      ConfigError: the shares are more than all of training.
    """
    if row.margin is None:
        return None
    warmup_key, end_share = f"{row.margin}_warmup", config.margin_end_share
    share = getattr(config, warmup_key)
    if share + end_share > 1.0:
        raise ConfigError(
            f"`loss.{warmup_key}` and `loss.margin_end_share`: {share:g} and "
            f"{end_share:g} of training are more than all of it; lower one of them"
        )
    warmup = round(share * total_examples)
    # Rounded down where both together are all of training.
    cooldown = min(round(end_share * total_examples), total_examples - warmup)
    return dataclasses.replace(
        constant(row),
        warmup=warmup or None,
        cooldown=cooldown or None,
        total=total_examples,
    )
