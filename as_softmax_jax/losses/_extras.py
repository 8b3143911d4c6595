"""Extra inputs: what some losses take that is neither logits nor target.

A loss takes an extra input as a keyword, an array like any other. Its row in the table
says under that keyword where a training loop finds the value:

- `ClassCounts`: from the training data, once;
- `StepKey`: drawn anew for each step;
- `PerExample`: state of each training example, kept between steps;
- `PerBatch`: computed from the batch before the loss;
- `ActiveClasses`: from the labels that training has met;
- `OtherLogits`: from a second output layer;
- `FromFeatures`: computed from what the output layer takes;
- `PerRun`: state of the run, made of another extra input;
- `Learned`: a number that is trained with the network.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

# Keywords of every loss, and of every function of an extra input.
SHARED = frozenset({"where", "class_mask", "axis", "axis_name", "implementation"})


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """How often each class is a training label: [C], float32, 0 where it never is."""


@dataclasses.dataclass(frozen=True)
class StepKey:
    """A random key of the step, the same for all rows of the batch."""


@dataclasses.dataclass(frozen=True)
class ActiveClasses:
    """Which classes training has met as labels so far, this batch's too: [C], bool."""


@dataclasses.dataclass(frozen=True)
class OtherLogits:
    """The logits of a second output layer on the same features: [..., C].

    Attributes:
      set_size: of a layer that answers with sets of classes, those whose logits are
        above a level, the own keyword that says how many a set has on average; empty:
        it does not.
    """

    set_size: str = ""


@dataclasses.dataclass(frozen=True)
class PerExample:
    """State of each training example, in the loss's shape.

    A step updates the state of the batch's examples first, and the loss takes the new
    values; no gradient flows through them.

    Attributes:
      initial: the value of every example before training, or the own keyword that has
        it.
      update: ``update(logits, [labels,] *, <keyword>, <own keywords>, where=,
        class_mask=, axis=)`` gives the new values, [...]; `<keyword>` is the loss's
        keyword, with the old values.
    """

    initial: float | str
    update: Callable[..., jax.Array]

    def first(self, keywords: Mapping[str, Any]) -> Any:
        """Returns the value before training, for the loss's own keywords."""
        initial = self.initial
        return keywords[initial] if isinstance(initial, str) else initial

    def compute(self, logits: Any, target: Any, **keywords: Any) -> jax.Array:
        """Returns the new values, [...], by those keywords that `update` takes."""
        return _constant(self.update, logits, target, keywords)


@dataclasses.dataclass(frozen=True)
class PerBatch:
    """A value of the batch; no gradient flows through it.

    Attributes:
      function: ``function(logits, [labels,] *, <own keywords>, where=, class_mask=,
        axis=)`` gives the value, a scalar.
    """

    function: Callable[..., jax.Array]

    def compute(self, logits: Any, target: Any, **keywords: Any) -> jax.Array:
        """Returns the value by those keywords that `function` takes."""
        return _constant(self.function, logits, target, keywords)


@dataclasses.dataclass(frozen=True)
class FromFeatures:
    """A value computed from the features, [..., D], that the output layer takes.

    Attributes:
      function: ``function(features, [labels,] *, <own keywords>, where=)`` gives the
        value, one entry an example; gradients flow as it lets them.
      of_batch: whether the value is of the batch as a whole.
    """

    function: Callable[..., Any]
    of_batch: bool = False

    def compute(self, features: Any, target: Any, **keywords: Any) -> Any:
        """Returns the value by those keywords that `function` takes."""
        return _call(self.function, (features, target), keywords)


@dataclasses.dataclass(frozen=True)
class PerRun:
    """State of the run as a whole, made of another extra input.

    A training step updates it first, and the loss takes the new state; no gradient
    flows through it. Outside training it stays as it is.

    Attributes:
      initial: gives the state before training.
      update: ``update(state, value, *, <own keywords>, where=)`` gives the new state.
      of: the keyword whose value it is updated with.
    """

    initial: Callable[[], Any]
    update: Callable[..., Any]
    of: str

    def compute(self, state: Any, value: Any, **keywords: Any) -> Any:
        """Returns the new state, by those keywords that `update` takes."""
        return _constant(self.update, state, value, keywords)


@dataclasses.dataclass(frozen=True)
class Learned:
    """A number that is trained with the network.

    Attributes:
      initial: ``initial(num_classes, *, <own keywords>)`` gives it before training.
    """

    initial: Callable[..., float]

    def first(self, num_classes: int, keywords: Mapping[str, Any]) -> float:
        """Returns the number before training, for the loss's own keywords."""
        first: float = _call(self.initial, (num_classes,), keywords)
        return first


Extra = (
    ClassCounts
    | StepKey
    | PerExample
    | PerBatch
    | ActiveClasses
    | OtherLogits
    | FromFeatures
    | PerRun
    | Learned
)
"""Where the value of an extra input comes from."""


def extra_keywords(keyword: str, extra: Extra) -> dict[str, Any]:
    """Returns the own keywords of an extra input's function, with their defaults.

    Args:
      keyword: the loss's keyword for the input.
      extra: the input.
    """
    if isinstance(extra, PerExample):
        return own_keywords(extra.update, but={keyword})
    if isinstance(extra, PerBatch | FromFeatures):
        return own_keywords(extra.function)
    if isinstance(extra, PerRun):
        return own_keywords(extra.update)
    if isinstance(extra, Learned):
        return own_keywords(extra.initial)
    return {}


def own_keywords(
    function: Callable[..., Any], but: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    """Returns the keywords of a function that not all losses share, with defaults.

    Args:
      function: a loss, or a function of an extra input.
      but: keywords to leave out.

    Returns:
      Keyword -> default; `inspect.Parameter.empty` where there is none.
    """
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is p.KEYWORD_ONLY and p.name not in SHARED | but
    }


def _constant(
    function: Callable[..., Any], first: Any, second: Any, keywords: Mapping[str, Any]
) -> Any:
    """Returns what `_call` does, without gradient."""
    arrays = jax.lax.stop_gradient((first, second))
    return jax.lax.stop_gradient(_call(function, arrays, keywords))


def _call(
    function: Callable[..., Any], values: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Any:
    """Calls a function with those values and keywords that it takes."""
    parameters = inspect.signature(function).parameters
    takes = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    own = {name: value for name, value in keywords.items() if name in takes}
    return function(*values[: len(parameters) - len(takes)], **own)
