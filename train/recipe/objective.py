"""The configured loss: a row of the library's table with its keywords filled in."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from as_softmax_jax import delta_schedule
from as_softmax_jax.losses import LOSSES
from train.command.notices import notice
from train.config import LossConfig, nearest
from train.errors import ConfigError

# Losses of an output layer whose logits come block by block.
_BLOCKED = ("as_softmax", "softmax")
_TARGETS = {"labels": "one label an example", "multi_hot": "any number of labels"}


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss by name; hashable, so that compiled steps share it.

    Attributes:
      name: the row of `as_softmax_jax.losses.LOSSES`.
      options: the loss's keywords beside delta, as pairs.
      delta: the margin in the end, for the losses that have one.
      warmup_examples: examples seen while the margin falls from 1 to `delta`.
    """

    name: str
    options: tuple[tuple[str, float], ...]
    delta: float
    warmup_examples: int

    @property
    def cosine(self) -> bool:
        """Whether the loss wants cosine logits."""
        return LOSSES[self.name].cosine

    def delta_at(self, examples_seen: jax.Array | int) -> jax.Array:
        """Returns the margin after so many examples."""
        schedule = delta_schedule(self.delta, warmup_steps=self.warmup_examples)
        return jnp.asarray(schedule(examples_seen), jnp.float32)

    def blocked_delta(self, delta: jax.Array) -> jax.Array:
        """Returns the margin of an output layer that is blocked; 1 is softmax."""
        return delta if "delta" in LOSSES[self.name].keywords else jnp.ones_like(delta)

    def losses(
        self, logits: jax.Array, labels: jax.Array, **arguments: Any
    ) -> jax.Array:
        """Returns the loss of each example; arguments are `where` and `delta`."""
        keywords = self._keywords(arguments)
        return LOSSES[self.name].function(logits, labels, **keywords)

    def settled(
        self, logits: jax.Array, labels: jax.Array, **arguments: Any
    ) -> jax.Array:
        """Returns which examples have a gradient of exactly zero."""
        settled = LOSSES[self.name].settled
        if settled is None:
            return jnp.zeros(logits.shape[:-1], bool)
        return settled(logits, labels, **self._keywords(arguments))

    @property
    def settles(self) -> bool:
        """Whether an easy example has a gradient of exactly zero."""
        return LOSSES[self.name].settled is not None

    @property
    def scale(self) -> float:
        """What logits are multiplied by before their softmax is a probability.

        Cosines lie in [-1, 1]; the loss sharpens them by its scale, and so do we.
        """
        return dict(self.options).get("scale", 1.0) if self.cosine else 1.0

    def _keywords(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if "delta" not in LOSSES[self.name].keywords:
            arguments = {k: v for k, v in arguments.items() if k != "delta"}
        return dict(self.options) | arguments


def make_objective(
    config: LossConfig, *, target: str, num_classes: int, total_examples: int
) -> Objective:
    """Returns the configured objective.

    Args:
      config: the loss by name, its margin and its options.
      target: what the task's labels are, as the table of losses says it.
      num_classes: of the logits.
      total_examples: seen in training; the margin's warm-up takes a share of them.

    Raises:
      ConfigError: the table has no such loss, or the loss no such option.
    """
    if config.name not in LOSSES:
        raise ConfigError(
            f"`loss.name`: no {config.name!r}; {nearest(config.name, LOSSES)}"
        )
    row = LOSSES[config.name]
    if row.target != target:
        fit = sorted(name for name, row in LOSSES.items() if row.target == target)
        raise ConfigError(
            f"`loss.name`: {config.name} wants {_TARGETS[row.target]}, and the task "
            f"has {_TARGETS[target]}; it can be {', '.join(fit)}"
        )
    options = _fill_options(config, row.keywords)
    warmup_examples = round(config.delta_warmup * total_examples)
    objective = Objective(config.name, options, config.delta, warmup_examples)
    _try_out(objective, target, num_classes)
    return objective


def check_blocked(objective: Objective) -> None:
    """Refuses a loss that needs the logits of all classes at once.

    Raises:
      ConfigError: it is such a loss.
    """
    if objective.name not in _BLOCKED:
        raise ConfigError(
            f"`model.head`: blocked goes with {' and '.join(_BLOCKED)}, and "
            f"`loss.name` is {objective.name}; set it to dense"
        )


def note_rows_that_never_settle(objective: Objective, targets: np.ndarray) -> None:
    """Says so where delta lets some rows never settle, because p sums to 1.

    Args:
      objective: for several labels an example.
      targets: multi-hot labels of the training examples, [n, classes].
    """
    num_labels = targets.sum(axis=1)
    most, stuck = int(num_labels.max()), num_labels * objective.delta >= 1.0
    if objective.settles and stuck.any():
        notice(
            f"`loss.delta`={objective.delta:g}: {stuck.sum()} of {len(targets)} "
            f"training examples have 1 / delta labels or more (up to {most}) and can "
            f"never settle; a delta under {1 / most:.3g} lets them"
        )


def _fill_options(
    config: LossConfig, keywords: Mapping[str, float]
) -> tuple[tuple[str, float], ...]:
    """Returns the loss's keywords beside delta, configured or by default."""
    defaults = {name: value for name, value in keywords.items() if name != "delta"}
    for name, value in config.options.items():
        if name not in defaults:
            there = nearest(name, defaults) if defaults else "it has no options"
            raise ConfigError(f"`loss.options`: {config.name} has no {name!r}; {there}")
        if isinstance(defaults[name], int) and value != int(value):
            raise ConfigError(f"`loss.options.{name}` must be whole; got {value}")
    # An option takes the type of its default: a whole one is a Python integer.
    return tuple(
        (name, type(default)(config.options.get(name, default)))
        for name, default in defaults.items()
    )


def _try_out(objective: Objective, target: str, num_classes: int) -> None:
    """Refuses options that the loss itself refuses, before anything is compiled."""
    logits = jax.ShapeDtypeStruct((1, num_classes), jnp.float32)
    if target == "labels":
        labels = jax.ShapeDtypeStruct((1,), jnp.int32)
    else:
        labels = jax.ShapeDtypeStruct(logits.shape, jnp.bool_)
    losses = functools.partial(objective.losses, delta=objective.delta)
    try:
        jax.eval_shape(losses, logits, labels)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`loss`: {objective.name}: {error}") from error
