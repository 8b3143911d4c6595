"""Extra inputs: what some losses take that is neither logits nor target.

A loss takes an extra input as a keyword, an array like any other. Its row in the table
says under that keyword where a training loop finds the value:

- `ClassCounts`: from the training data, once;
- `StepKey`: drawn anew for each step;
- `PerExample`: state of each training example, kept between steps;
- `PerBatch`: computed from the batch before the loss;
- `ActiveClasses`: from the labels that training has met;
- `OtherLogits`: from a second output layer.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

# Keywords of every loss, and of every function of an extra input.
SHARED = frozenset({"where", "class_mask", "axis", "implementation"})


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
        return _call(self.update, logits, target, keywords)


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
        return _call(self.function, logits, target, keywords)


Extra = ClassCounts | StepKey | PerExample | PerBatch | ActiveClasses | OtherLogits
"""Where the value of an extra input comes from."""


def extra_keywords(keyword: str, extra: Extra) -> dict[str, Any]:
    """Returns the own keywords of an extra input's function, with their defaults.

    Args:
      keyword: the loss's keyword for the input.
      extra: the input.
    """
    if isinstance(extra, PerExample):
        return own_keywords(extra.update, but={keyword})
    if isinstance(extra, PerBatch):
        return own_keywords(extra.function)
    return {}


def own_keywords(
    function: Callable[..., jax.Array], but: frozenset[str] | set[str] = frozenset()
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


def _call(
    function: Callable[..., jax.Array],
    logits: Any,
    target: Any,
    keywords: Mapping[str, Any],
) -> jax.Array:
    """Calls a function with the arrays and keywords that it takes, without gradient."""
    parameters = inspect.signature(function).parameters
    takes = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    arrays = (logits, target)[: len(parameters) - len(takes)]
    own = {name: value for name, value in keywords.items() if name in takes}
    return jax.lax.stop_gradient(function(*jax.lax.stop_gradient(arrays), **own))
