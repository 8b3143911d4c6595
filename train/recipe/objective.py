"""The configured loss: a row of the library's table with its keywords filled in."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from as_softmax_jax.losses import (
    LOSSES,
    ActiveClasses,
    ClassCounts,
    Learned,
    Loss,
    OtherLogits,
    PerRun,
)

from ..config import MARGINS, LossConfig, ModelConfig, nearest, row_of_margin
from ..errors import ConfigError
from ..models.heads import HEADS
from ..targets import Unit
from .class_margins import ClassMargins
from .course import Course, constant

_TARGETS = {"labels": "one label an example", "multi_hot": "any number of labels"}


@jax.tree_util.register_pytree_node_class
@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss by name; a pytree of its margin's value, which may be traced.

    Attributes:
      name: the row of `as_softmax_jax.losses.LOSSES`.
      margin: the keyword of the loss's margin; None where it has none.
      keywords: the loss's own, as pairs; the margin has its value between a warm-up
        and a cool-down.
      class_margins: those of single classes; None: all have the same.
    """

    name: str
    margin: str | None
    keywords: tuple[tuple[str, Any], ...]
    class_margins: ClassMargins | None = None

    def tree_flatten(self) -> tuple[tuple[Any], "Objective"]:
        """Returns the margin's value, None where there is none, and all else."""
        if self.margin is None:
            return (None,), self
        return (dict(self.keywords)[self.margin],), self._with_margin(None)

    @classmethod
    def tree_unflatten(cls, rest: "Objective", values: tuple[Any]) -> "Objective":
        """Returns the objective of what `tree_flatten` returned."""
        return rest if rest.margin is None else rest._with_margin(*values)

    def _with_margin(self, value: Any) -> "Objective":
        pairs = ((k, value if k == self.margin else v) for k, v in self.keywords)
        return dataclasses.replace(self, keywords=tuple(pairs))

    @property
    def row(self) -> Loss:
        """What the table says of the loss and its margin."""
        row = LOSSES[self.name]
        return row if self.margin is None else row.by_margin[self.margin]

    @property
    def unit(self) -> Unit:
        """What the margin is a difference of; without one, probabilities."""
        return "logits" if self.row.margin_in_logits else "probability"

    @property
    def final_keywords(self) -> dict[str, Any]:
        """The keywords as arguments, a margin of each class where they have one."""
        return self.keywords_on(None, 0)

    def keywords_on(
        self, course: Course | None, examples_seen: jax.Array | int
    ) -> dict[str, Any]:
        """Returns the loss's keywords after so many examples.

        Args:
          course: of the margin; None: it keeps its value.
          examples_seen: where training stands.

        Returns:
          A number each; the margin is [classes] where classes have their own.
        """
        keywords: dict[str, Any] = dict(self.keywords)
        if self.margin is None:
            return keywords
        if self.class_margins is not None:
            course = course or constant(self.row)
            margin: Any = self.class_margins.at(course, examples_seen)
        elif course is not None:
            margin = course.at(keywords[self.margin], examples_seen)
        else:
            return keywords
        return keywords | {self.margin: margin}

    def for_labels(
        self, keywords: Mapping[str, Any], labels: jax.Array
    ) -> dict[str, Any]:
        """Returns keywords as a batch takes them: each label has its class's margin.

        Args:
          keywords: of `keywords_on`.
          labels: of the batch, of any shape; a negative one is none.
        """
        if self.margin is None or self.class_margins is None:
            return dict(keywords)
        margin = keywords[self.margin][jnp.maximum(labels, 0)]
        return {**keywords, self.margin: margin}

    @property
    def settles(self) -> bool:
        """Whether an easy example has a gradient of exactly zero."""
        return self.row.exact_zeros

    @property
    def two_heads(self) -> bool:
        """Whether the loss takes the logits of a second output layer."""
        return any(isinstance(e, OtherLogits) for e in self.row.extras.values())

    @property
    def set_size(self) -> float | None:
        """How many classes the second layer's sets have on average; None: no sets."""
        extras = self.row.extras.values()
        names = [e.set_size for e in extras if isinstance(e, OtherLogits)]
        return next((float(dict(self.keywords)[n]) for n in names if n), None)

    @property
    def class_counts(self) -> tuple[str, ...]:
        """The keywords that take how often each class is a training label."""
        extras = self.row.extras.items()
        return tuple(name for name, e in extras if isinstance(e, ClassCounts))

    @property
    def active_classes(self) -> tuple[str, ...]:
        """The keywords that take the classes which training has met."""
        extras = self.row.extras.items()
        return tuple(name for name, e in extras if isinstance(e, ActiveClasses))

    @property
    def run_states(self) -> dict[str, PerRun]:
        """The extra inputs that are state of the run as a whole, by keyword."""
        extras = self.row.extras.items()
        return {name: e for name, e in extras if isinstance(e, PerRun)}

    def learned(self, num_classes: int) -> tuple[tuple[str, float], ...]:
        """Returns the keywords that take a number which is trained, and its start."""
        keywords = dict(self.keywords)
        return tuple(
            (name, float(extra.first(num_classes, keywords)))
            for name, extra in self.row.extras.items()
            if isinstance(extra, Learned)
        )

    @property
    def scale(self) -> float:
        """What logits are multiplied by before their softmax is a probability.

        Cosines lie in [-1, 1]; the loss sharpens them by its scale, and so do we.
        """
        cosines = self.row.input == "cosines"
        return dict(self.keywords).get("scale", 1.0) if cosines else 1.0

    def active_up_to(self, keywords: Mapping[str, Any]) -> Any:
        """Returns the lead, in the margin's unit, up to which an example is active."""
        return 0.0 if self.margin is None else keywords[self.margin]

    def losses(
        self, logits: jax.Array, labels: jax.Array, **arguments: Any
    ) -> jax.Array:
        """Returns the loss of each example.

        Args:
          logits: [n, ..., classes].
          labels: as the loss takes them.
          **arguments: the loss's keywords and extra inputs, and `where`.
        """
        return self.row.function(logits, labels, **self._taken(arguments))

    def settled(
        self, logits: jax.Array, labels: jax.Array, **arguments: Any
    ) -> jax.Array:
        """Returns which examples have a gradient of exactly zero."""
        if self.row.settled is None:
            return jnp.zeros(logits.shape[:-1], bool)
        return self.row.settled(logits, labels, **self._taken(arguments))

    def linear_keywords(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what makes an output layer without logits compute this loss."""
        assert self.row.linear is not None, "choose_head has seen to it"
        taken = self._taken(keywords)
        for name, value in self.row.linear.items():
            taken[name] = taken.pop(value) if isinstance(value, str) else value
        return {
            name: value if isinstance(value, str | bool) else jnp.asarray(value, "f4")
            for name, value in taken.items()
        }

    def _taken(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Leaves out the keywords that only an extra input is computed from."""
        other = self.row.keywords.keys() - self.row.loss_keywords
        return {name: value for name, value in arguments.items() if name not in other}


def make_objective(
    config: LossConfig, *, target: str, num_classes: int, ordered: bool = False
) -> Objective:
    """Returns the configured objective.

    Args:
      config: the loss by name, and its keywords.
      target: what the task's labels are, as the table of losses says it.
      num_classes: of the task.
      ordered: whether the task's classes are in order.

    Raises:
      ConfigError: the table has no such loss, or the loss no such keyword.
    """
    if config.name not in LOSSES:
        raise ConfigError(
            f"`loss.name`: no {config.name!r}; {nearest(config.name, LOSSES)}"
        )
    row = row_of_margin(LOSSES[config.name], {m: getattr(config, m) for m in MARGINS})
    if row.target != target:
        inputs = {"logits", "cosines", "distances"} | (
            {"thresholds"} if ordered else set()
        )
        fit = sorted(
            name
            for name, other in LOSSES.items()
            if other.target == target and other.input in inputs
        )
        raise ConfigError(
            f"`loss.name`: {config.name} wants {_TARGETS[row.target]}, and the task "
            f"has {_TARGETS[target]}; it can be {', '.join(fit)}"
        )
    if row.input == "thresholds" and not (ordered and num_classes > 1):
        raise ConfigError(
            f"`loss.name`: {config.name} is for two or more classes in order; take one "
            "of the ordinal tasks, such as ordinal_text, or another loss"
        )
    objective = Objective(config.name, row.margin, _fill_keywords(config, row.keywords))
    if not row.extras:
        _try_out(objective, target, row.num_logits(num_classes))
    return objective


def choose_head(name: str, objective: Objective, *, ordered: bool) -> str:
    """Returns the name of the output layer; empty is the one that the loss takes.

    Args:
      name: as configured.
      objective: with the loss.
      ordered: whether the task's classes are in order.

    Raises:
      ConfigError: there is no such layer, or loss or task do not go with it.
    """
    wanted = objective.row.input
    fit = {n: head for n, head in HEADS.items() if head.gives == wanted}
    if not ordered:
        fit.pop("fourier", None)
    if not name:
        return next(iter(fit))
    if name not in HEADS:
        raise ConfigError(f"`model.head`: no {name!r}; {nearest(name, HEADS)}")
    if HEADS[name].blocked and objective.row.linear is None:
        gives = HEADS[name].gives
        served = [
            n
            for n, row in LOSSES.items()
            if row.linear is not None and row.input == gives
        ]
        raise ConfigError(
            f"`model.head`: {name} goes with {', '.join(sorted(served))}, and "
            f"`loss.name` is {objective.name}; set it to {next(iter(fit))}"
        )
    if name == "fourier" and not ordered:
        raise ConfigError(
            "`model.head`: fourier is for classes in order, of the ordinal tasks; take "
            f"{next(iter(fit))}"
        )
    if name not in fit:
        raise ConfigError(
            f"`model.head`: {name} gives {HEADS[name].gives}, and `loss.name` "
            f"{objective.name} takes {wanted}; it can be {', '.join(fit)}"
        )
    return name


def check_sub_centers(model: ModelConfig, head: str) -> None:
    """Refuses several vectors a class of a layer that has no cosines of them.

    Raises:
      ConfigError: it has none.
    """
    if model.sub_centers > 1 and HEADS[head].gives != "cosines":
        raise ConfigError(
            f"`model.sub_centers`: the output layer is {head}, and several vectors a "
            "class are of the cosine ones; take a loss of cosines, such as arcface, or "
            "leave it out"
        )


def _fill_keywords(
    config: LossConfig, keywords: Mapping[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Returns the loss's own keywords, configured or by default.

    The margin is a field of the configuration, and any other keyword an option. None
    is a margin that is not given, and has the value of the table.
    """
    optional = {name: value for name, value in keywords.items() if name not in MARGINS}
    for name, value in config.options.items():
        if name not in optional:
            there = nearest(name, optional) if optional else "it has no options"
            raise ConfigError(f"`loss.options`: {config.name} has no {name!r}; {there}")
        if isinstance(value, str) != isinstance(optional[name], str | None):
            kind = "a name" if isinstance(value, float | int) else "a number"
            raise ConfigError(f"`loss.options.{name}` must be {kind}; got {value!r}")
        if isinstance(optional[name], int) and value != int(value):
            raise ConfigError(f"`loss.options.{name}` must be whole; got {value}")
    chosen: dict[str, Any] = {
        name: config.options.get(name, default) for name, default in optional.items()
    }
    for name, default in optional.items():
        # A number takes the type of its default: a whole one is a Python integer.
        if isinstance(default, int | float):
            chosen[name] = type(default)(chosen[name])
    for name in keywords.keys() - optional.keys():
        given = getattr(config, name)
        chosen[name] = keywords[name] if given is None else float(given)
    return tuple((name, chosen[name]) for name in keywords)


def _try_out(objective: Objective, target: str, num_logits: int) -> None:
    """Refuses options that the loss itself refuses, before anything is compiled."""
    logits = jax.ShapeDtypeStruct((1, num_logits), jnp.float32)
    if target == "labels":
        labels = jax.ShapeDtypeStruct((1,), jnp.int32)
    else:
        labels = jax.ShapeDtypeStruct(logits.shape, jnp.bool_)
    keywords: dict[str, Any] = dict(objective.keywords)
    try:
        jax.eval_shape(functools.partial(objective.losses, **keywords), logits, labels)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`loss`: {objective.name}: {error}") from error
    counts = any(type(value) is int for value in keywords.values())
    if counts and num_logits > 1:
        _refuse_constant(objective, labels, num_logits)


def _refuse_constant(
    objective: Objective, labels: jax.ShapeDtypeStruct, num_logits: int
) -> None:
    """Refuses options that leave nothing to learn, as of a choice of all classes."""
    first = jnp.zeros(labels.shape, labels.dtype)
    if labels.ndim > 1:
        first = first.at[0, 0].set(True)
    keywords: dict[str, Any] = dict(objective.keywords)

    def loss(logits: jax.Array) -> jax.Array:
        return jnp.sum(objective.losses(logits, first, **keywords))

    if not jnp.any(jax.jit(jax.grad(loss))(jnp.zeros((1, num_logits)))):
        chosen = ", ".join(f"{k}={v}" for k, v in objective.keywords)
        raise ConfigError(
            f"`loss.options`: with {num_logits} classes and {chosen} the loss of "
            f"{objective.name} is the same whatever the network says; take a smaller "
            "number"
        )
