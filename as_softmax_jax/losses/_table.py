"""The table of losses, `LOSSES`: a row on each function.

Whoever works on losses by name reads this table: the trainer, the tests that hold
every loss to one set of rules, the documentation, and what must refuse a loss
("compaction needs exact zeros"). A row stands on its function, as `register_loss`.
What the function's signature and its module tell, the row does not repeat.
"""

import dataclasses
import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar

import jax
from jax.typing import ArrayLike

from as_softmax_jax.losses._extras import Extra, extra_keywords, own_keywords

_ROWS: dict[str, "Loss"] = {}

LOSSES: Mapping[str, "Loss"] = MappingProxyType(_ROWS)
"""Every loss of the library by its name."""


class LossFunction(Protocol):
    """A loss: two arrays, then keywords only; see `as_softmax_jax.losses`."""

    __name__: str

    def __call__(
        self, logits: ArrayLike, target: ArrayLike, /, *args: Any, **keywords: Any
    ) -> jax.Array:
        """Returns the loss of each example; beyond two arrays all are keywords."""


Function = TypeVar("Function", bound=LossFunction)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Loss:
    """What is known of a loss without calling it.

    The claims are mathematics that most losses have and some have not; the tests hold
    a loss to each claim, and find a counterexample where a row does not make it.

    Attributes:
      function: ``f(logits, labels or targets, *, <own keywords>, where=, ...)``.
      paper: who published it, and where.
      use: what it is for, in a line.
      at_zero_logits: from the number of classes to the loss of logits of 0, the first
        class the label, at the row's keywords; None where extra inputs decide it.
      input: what the loss takes for logits: "logits"; "cosines" in [-1, 1]; "distances"
        below 0, of `as_softmax_jax.heads.distance_logits`; or "thresholds", one fewer
        than there are classes, which are in order.
      distributions: whether `labels` may be a distribution over the classes, too,
        floating point of the shape of `logits`.
      example_keywords: values for the own keywords that have no default, and for each
        of the `margins`.
      extras: keyword -> where the value of an extra input comes from.
      softmax_at: own keyword -> the value at which the loss is plain softmax, from
        which a warm-up starts.
      margins: the own keywords, exactly one of which is given, that say how far a
        rival may lie below the label and keep an example active. `logit_margin` is a
        difference of logits, any other one of probabilities.
      margin: the one of `margins` that this row is of; the first, unless
        another is named, see `by_margin`. None where there are none.
      search: own keyword -> the values that are worth trying, from little of what the
        loss adds to much; at most one keyword that is no margin.
      linear: keywords of `heads.row_statistics`, or where the loss takes cosines of
        `heads.margin_row_statistics`, with which, together with the loss's own, a
        blocked output layer computes this loss; a name is that of the own keyword
        which has the value there. None: no such layer does.
      baseline: the loss that it is compared with; its own name for a baseline.
      zero_with_one_class: claims that the loss and its gradient are 0 with one class.
      infinite_at_probability_0: claims that the loss is +inf where the label's logit
        is -inf.
      not_negative: claims that no loss is below 0.
      shift_invariant: claims that adding a number to all logits of a row changes
        nothing, and the gradient sums to 0.
      symmetric: claims that the order of the classes does not matter.
      row_local: claims that a row's loss depends on no other row.
      ranks_equal_logits: claims that at logits of 0 the gradient pulls each label up
        and pushes every other class down.
      linear_growth: claims that the loss grows no faster than the logits, so that no
        finite logit makes it +inf.
      exact_gradient: claims that the gradient is the derivative of the loss; else a
        part that depends on the logits counts as a constant.
      labels_settle: claims that an example with a label may settle, where any does;
        else only one without any does.
    """

    function: LossFunction
    paper: str
    use: str = ""
    at_zero_logits: Callable[[int], float] | None
    input: Literal["logits", "cosines", "distances", "thresholds"] = "logits"
    distributions: bool = False
    example_keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    extras: Mapping[str, Extra] = dataclasses.field(default_factory=dict)
    softmax_at: Mapping[str, float] = dataclasses.field(default_factory=dict)
    margins: tuple[str, ...] = ()
    margin: str | None = None
    search: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    linear: Mapping[str, float | str] | None = None
    baseline: str = ""
    zero_with_one_class: bool = True
    infinite_at_probability_0: bool = True
    not_negative: bool = True
    shift_invariant: bool = True
    symmetric: bool = True
    row_local: bool = True
    ranks_equal_logits: bool = True
    linear_growth: bool = True
    exact_gradient: bool = True
    labels_settle: bool = True

    def __post_init__(self) -> None:
        """Fills in what is not given; refuses a row that does not fit its function."""
        if self.margins and self.margin is None:
            object.__setattr__(self, "margin", self.margins[0])
        if not self.baseline:
            multi_hot = self.target == "multi_hot"
            baseline = "multi_label_softmax" if multi_hot else "softmax"
            object.__setattr__(self, "baseline", baseline)
        where = f"The row of `{self.function.__name__}`"
        if not self.function.__name__.endswith("_loss"):
            raise ValueError(f"{where} needs a function whose name ends in `_loss`.")
        taken = own_keywords(self.function)
        for keyword in self.extras:
            if keyword not in taken:
                raise ValueError(f"{where} has an extra input `{keyword}` too many.")
        keywords = self.keywords
        for keyword, value in keywords.items():
            if value is inspect.Parameter.empty:
                raise ValueError(
                    f"{where} needs a value for `{keyword}` in `example_keywords`."
                )
        named = {*self.example_keywords, *self.softmax_at, *self.margins, *self.search}
        taken_by_any = {*keywords, *(own_keywords(self.function))}
        for keyword in sorted(named - taken_by_any):
            raise ValueError(f"{where} names `{keyword}`, which nothing takes.")

    @property
    def name(self) -> str:
        """The function's name without `_loss`."""
        return self.function.__name__.removesuffix("_loss")

    @property
    def target(self) -> Literal["labels", "multi_hot"]:
        """What the second argument holds: one label an example, or any number."""
        second = list(inspect.signature(self.function).parameters)[1]
        return "multi_hot" if second == "targets" else "labels"

    def num_logits(self, num_classes: int) -> int:
        """Returns how many logits an example of so many classes has."""
        return num_classes - 1 if self.input == "thresholds" else num_classes

    @property
    def family(self) -> str:
        """The first line of its module, which says what its losses have in common."""
        module = sys.modules[self.function.__module__]
        return (inspect.getdoc(module) or "").partition("\n")[0]

    @functools.cached_property
    def loss_keywords(self) -> Mapping[str, Any]:
        """The function's own keywords, with a default or an example value each.

        Of the margins there is the one that the row is of.
        """
        other_margins = {*self.margins} - {self.margin}
        found = own_keywords(self.function, but={*self.extras} | other_margins)
        return MappingProxyType(found | self._examples(found))

    @functools.cached_property
    def keywords(self) -> Mapping[str, Any]:
        """`loss_keywords`, and those that only functions of extra inputs take."""
        found = dict(self.loss_keywords)
        for keyword, extra in self.extras.items():
            others = extra_keywords(keyword, extra)
            found = others | self._examples(others) | found
        return MappingProxyType(found)

    def _examples(self, found: Mapping[str, Any]) -> dict[str, Any]:
        examples = self.example_keywords.items()
        return {keyword: value for keyword, value in examples if keyword in found}

    @functools.cached_property
    def by_margin(self) -> Mapping[str, "Loss"]:
        """The row of each of the `margins`."""
        rows = {m: dataclasses.replace(self, margin=m) for m in self.margins}
        return MappingProxyType(rows)

    @property
    def searched(self) -> str | None:
        """The keyword that a search varies: the margin, or else the one of `search`."""
        if self.margin is not None:
            return self.margin if self.margin in self.search else None
        return next(iter(self.search), None)

    @property
    def margin_in_logits(self) -> bool:
        """Whether the row's margin is a difference of logits."""
        return self.margin == "logit_margin"

    @functools.cached_property
    def settled(self) -> Callable[..., jax.Array] | None:
        """`<name>_settled`, which tells what rows are settled; None: none ever is."""
        return self._companion("settled")

    @functools.cached_property
    def probs(self) -> Callable[..., jax.Array] | None:
        """`<name>_probs`, the probabilities that the loss scores, or None.

        It takes the loss's arguments, without labels where these have no part.
        """
        return self._companion("probs")

    def _companion(self, kind: str) -> Callable[..., jax.Array] | None:
        module = sys.modules[self.function.__module__]
        found: Callable[..., jax.Array] | None
        found = getattr(module, f"{self.name}_{kind}", None)
        return found

    @functools.cached_property
    def reference(self) -> Callable[..., jax.Array]:
        """The loss as its paper writes it, on clean inputs, by autodiff alone.

        ``f(logits, labels, <own keywords>)``; for several labels ``f(logits,
        positives, negatives, <own keywords>)``.
        """
        family = self.function.__module__.rpartition(".")[2]
        module = importlib.import_module(f"as_softmax_jax.reference.{family}")
        found: Callable[..., jax.Array] = getattr(module, self.function.__name__)
        return found

    @property
    def exact_zeros(self) -> bool:
        """Whether easy examples have a loss and a gradient of exactly 0."""
        return self.settled is not None

    @property
    def multi_label(self) -> str | None:
        """The name of the same loss for several labels an example, or None."""
        name = f"multi_label_{self.name}"
        return name if name in LOSSES else None


def register_loss(**row: Any) -> Callable[[Function], Function]:
    """Puts a loss into the table; stands on its function, which it returns unchanged.

    Args:
      **row: what `Loss` has, but for `function`.

    Returns:
      The decorator.

    Raises:
      ValueError: the row does not fit the function, or its name is taken.
    """

    def register(function: Function) -> Function:
        loss = Loss(function=function, **row)
        if loss.name in _ROWS:
            raise ValueError(f"There is a loss named {loss.name!r} already.")
        _ROWS[loss.name] = loss
        return function

    return register
