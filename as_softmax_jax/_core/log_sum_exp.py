r"""Sums of exponentials, over what comes block by block, whose terms may all be 0.

.. math:: \log \sum_j e^{o_j} = m + \log \sum_j e^{o_j - m}, \qquad m = \max_j o_j

Where every logit is -inf, m is -inf and :math:`o_j - m` is NaN; with 0 for m the sum is
0, as it should be. Over blocks, m and the sum are carried on, and the sum is scaled
anew when m grows (Milakov and Gimelshein, arXiv 1805.02867).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


@jax.custom_jvp
def exp(x: jax.Array) -> jax.Array:
    """Returns e^x, with a derivative of 0 where it is NaN.

    So a bad row's cotangent of 0 stays 0, whatever the row holds.
    """
    return jnp.exp(x)


@exp.defjvp
def _exp_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    value = exp(primals[0])
    slope = jnp.where(jnp.isnan(value), jnp.zeros((), value.dtype), value)
    return value, slope * tangents[0]


@jax.custom_jvp
def expm1(x: jax.Array) -> jax.Array:
    """Returns e^x - 1, whose derivative keeps the digits of a small e^x.

    That of `jnp.expm1` adds the 1 again, which has none left.
    """
    return jnp.expm1(x)


@expm1.defjvp
def _expm1_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return expm1(primals[0]), exp(primals[0]) * tangents[0]


def finite_shift(largest: jax.Array) -> jax.Array:
    """Returns the largest logit of each row, or 0 where all of them are -inf."""
    return jnp.where(largest == -jnp.inf, 0.0, largest)


def nonzero(total: jax.Array) -> jax.Array:
    """Returns a sum of exponentials, 1 where every one of them is 0."""
    return jnp.where(total == 0.0, 1.0, total)


class LogSumExp(NamedTuple):
    """The log-sum-exp of what has come so far, in one pass over blocks.

    Of any number of states, on one device or many, and in any order of blocks, it comes
    to the same. A state of nothing is ``LogSumExp(-inf, 0)``.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import LogSumExp
      >>> state = LogSumExp(jnp.full(1, -jnp.inf), jnp.zeros(1))
      >>> for block in jnp.log(jnp.array([[[1.0, 2.0]], [[3.0, 4.0]]])):
      ...     state = state.update(block)
      >>> jnp.set_printoptions(precision=4)
      >>> print(jnp.exp(state.value()))
      [10.]
    """

    max: jax.Array  # [...] the largest, -inf before any
    sum: jax.Array  # [...] of e^{x - max}, or of e^x where max is -inf

    def update(self, block: jax.Array, counted: jax.Array | None = None) -> "LogSumExp":
        """Returns the state with a block [..., width] added.

        Args:
          block: the next numbers.
          counted: [..., width] bool, those that enter the sum; the largest is of all.
        """
        largest = jax.lax.stop_gradient(jnp.max(block, axis=-1))
        largest = jnp.maximum(self.max, largest)
        shift = finite_shift(largest)
        # A NaN or +inf shows in this sum. (XLA's max on CPU passes over NaN.)
        exps = jnp.exp(block - shift[..., None])
        if counted is not None:
            exps = jnp.where(counted, exps, jnp.zeros((), exps.dtype))
        before = self.sum * jnp.exp(self.max - shift)
        return LogSumExp(largest, before + jnp.sum(exps, axis=-1))

    def merge(self, other: "LogSumExp") -> "LogSumExp":
        """Returns the state of both; in any order, any number of them."""
        largest = jnp.maximum(self.max, other.max)
        shift = finite_shift(largest)
        parts = [s.sum * jnp.exp(s.max - shift) for s in (self, other)]
        return LogSumExp(largest, parts[0] + parts[1])

    def over(self, axis_name: str) -> "LogSumExp":
        """Returns the state of all devices along a mesh axis."""
        largest = jax.lax.pmax(self.max, axis_name)
        part = self.sum * jnp.exp(finite_shift(self.max) - finite_shift(largest))
        return LogSumExp(largest, jax.lax.psum(part, axis_name))

    def value(self) -> jax.Array:
        """Returns the log-sum-exp [...]: -inf of nothing, NaN where +inf came."""
        value = finite_shift(self.max) + jnp.log(nonzero(self.sum))
        return jnp.where(self.sum == 0, -jnp.inf, value)
