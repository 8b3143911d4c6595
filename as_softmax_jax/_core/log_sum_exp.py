r"""Guards of a sum of exponentials whose every term may be 0.

.. math:: \log \sum_j e^{o_j} = m + \log \sum_j e^{o_j - m}, \qquad m = \max_j o_j

Where every logit is -inf, m is -inf and :math:`o_j - m` is NaN; with 0 for m the sum is
0, as it should be.
"""

from typing import Any

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
