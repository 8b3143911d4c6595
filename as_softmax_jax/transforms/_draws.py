"""Tells whether a function draws random numbers by one key for all rows of a batch."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from jax.extend import core


def draws_by_shared_key(function: Callable[..., Any], params: Any, batch: Any) -> bool:
    """Whether `function(params, batch)` draws by a key that is not a row's own.

    A row's own key comes from `batch`, one for each row. A single key does not count,
    nor do many that come from `params` or from outside: the parts of one key that is
    split belong to places in the batch, not to the rows that lie there.
    """
    jaxpr = jax.make_jaxpr(function)(params, batch).jaxpr
    num_batch = len(jax.tree.leaves(batch))
    num_params = len(jaxpr.invars) - num_batch
    return _follow(jaxpr, [False] * num_params + [True] * num_batch)[0]


def _follow(jaxpr: "core.Jaxpr", of_batch: Sequence[bool]) -> tuple[bool, list[bool]]:
    """Follows what comes from the batch through a program, to its random draws.

    Args:
      jaxpr: the program.
      of_batch: which of its inputs come from the batch.

    Returns:
      Whether there is a draw by a shared key, and which outputs come from the batch.
    """
    from jax.extend import core  # it imports Pallas, which is slow

    known = dict(zip(jaxpr.invars, of_batch, strict=True))
    shared = False

    def comes(value: Any) -> bool:
        return not isinstance(value, core.Literal) and known.get(value, False)

    for equation in jaxpr.eqns:
        inputs = [comes(value) for value in equation.invars]
        if equation.primitive.name == "random_bits":
            key: Any = equation.invars[0].aval
            shared |= not key.shape or not inputs[0]
        outputs = [any(inputs)] * len(equation.outvars)
        for inner in _inside(equation):
            # A loop's carry may come from the batch only after its first round.
            same = (
                len(inner.invars) == len(inputs) and equation.primitive.name != "scan"
            )
            entering = inputs if same else [any(inputs)] * len(inner.invars)
            shared_inside, leaving = _follow(inner, entering)
            shared |= shared_inside
            outputs = leaving if same and len(leaving) == len(outputs) else outputs
        known |= zip(equation.outvars, outputs, strict=True)
    return shared, [comes(value) for value in jaxpr.outvars]


def _inside(equation: "core.JaxprEqn") -> Iterator["core.Jaxpr"]:
    """Yields the programs inside an equation, of a loop or of a function."""
    parts = jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns")
    )
    for part in parts:
        inner: Any = getattr(part, "jaxpr", part)
        if hasattr(inner, "eqns"):
            yield inner
