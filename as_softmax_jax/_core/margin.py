r"""The margin of AS-Softmax: `delta`, between probabilities, or `logit_margin`.

A class of logit :math:`o_i` is kept against one of logit o where
:math:`o_i - o \ge g`. Between the two probabilities :math:`p_i` and p,

.. math::
  p - p_i \le \delta \iff o_i - o \ge g(p), \qquad
  g(p) = \begin{cases} -\infty & p \le \delta \\
      \log(1 - \delta / p) & p > \delta \end{cases}

and between the two logits, whose difference is :math:`\log(p / p_i)`,

.. math:: o - o_i \le m \iff o_i - o \ge g, \qquad g = -m

The comparison is with the *difference* of two logits, which is exact where the two are
close, so that ties at a margin of 0 are decided exactly.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["value"],
    meta_fields=["in_logits"],
)
@dataclasses.dataclass(frozen=True)
class Margin:
    """How far below the label another class is still kept; of which unit is static."""

    value: jax.Array  # [...], NaN in a row whose loss is NaN
    in_logits: bool  # else a difference of probabilities

    def gap_in_probs(self, probs: jax.Array) -> jax.Array:
        """Returns g [...] of a margin in probability, for a class of such a one."""
        return gap(probs, self.value)

    def gap_in_logits(self, logits: jax.Array) -> jax.Array:
        """Returns g [...] of a margin in logits, for a class of such a logit.

        Below a logit of -inf nothing is dropped, and NaN stays.
        """
        return jnp.where(logits == -jnp.inf, -jnp.inf, 0.0) - self.value


def check_one_given(
    delta: ArrayLike | None, logit_margin: ArrayLike | None, op: str
) -> None:
    """Refuses both margins, and none, of a function `op`."""
    if (delta is None) == (logit_margin is None):
        got = "neither" if delta is None else "both"
        raise ValueError(
            f"`{op}` takes one margin, `logit_margin` (of logits, for example 2.0) or "
            f"`delta` (of probabilities, the paper's, for example 0.1); got {got}."
        )


def read(
    delta: ArrayLike | None,
    logit_margin: ArrayLike | None,
    like: checks.LossType,
    op: str,
) -> Margin:
    """Returns the one margin that is given, in the loss's shape.

    Args:
      delta: a difference of probabilities in [0, 1], or None.
      logit_margin: a difference of logits in [0, inf], or None.
      like: what the margin is brought to.
      op: the function that takes them, for messages.

    Raises:
      TypeError: the margin is no real number.
      ValueError: not exactly one is given, or it is out of range.
    """
    check_one_given(delta, logit_margin, op)
    if delta is not None:
        value = checks.unit_interval(delta, like, "delta")
    elif logit_margin is not None:
        value = checks.not_negative(logit_margin, like, "logit_margin")
    return Margin(jax.lax.stop_gradient(value), logit_margin is not None)


def gap(probs: jax.Array, delta: jax.Array) -> jax.Array:
    """Returns g(p): how far below its logit another class is still kept."""
    low = probs <= delta
    # The side that is not selected is a number, too: debugging modes look at both.
    return jnp.where(low, -jnp.inf, jnp.log1p(-delta / jnp.where(low, jnp.inf, probs)))


def gap_by_log(probs: jax.Array, delta: jax.Array) -> jax.Array:
    """Returns `gap` where a kernel has no log1p (Mosaic GPU), less exact near 0."""
    return jnp.where(probs <= delta, -jnp.inf, jnp.log(1.0 - delta / probs))
