"""NaN for the rows that are bad and for no other, in values and in all derivatives.

A NaN that is there cannot be taken back: a factor of 0 leaves it, and so does the
derivative of a select, whose other side meets it as 0 times NaN. So a loss is computed
on inputs that are harmless in bad rows (`replaced`), and made NaN at its end
(`nan_where`). Backward, that end turns a cotangent into NaN unless it is exactly 0: a
bad row that the caller masks out after the loss has no part in any gradient.

NaN comes of bits where a row is bad: a constant of NaN would stop JAX's debugging modes
on rows that are not, and of 0 / 0 XLA's simplifier made 0 inside a larger program.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from as_softmax_jax._core.mesh import as_varying, varying_axes


@jax.custom_jvp
def nan_where(bad: jax.Array, values: jax.Array) -> jax.Array:
    """Returns values, NaN where `bad`; both of one shape.

    The derivative passes, and is NaN in bad places unless what passes is 0.
    """
    return values * _one_or_nan(bad, values.dtype)


@nan_where.defjvp
def _nan_where_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    bad, values = primals
    return nan_where(bad, values), nan_unless_zero(bad, tangents[1])


def nan_unless_zero(bad: jax.Array, change: jax.Array) -> jax.Array:
    """Returns a tangent or cotangent, NaN where `bad` and it is not 0.

    A linear map as far as differentiation knows, and its own transpose.
    """
    axes = varying_axes((bad, change))
    bad, change = as_varying(bad, axes), as_varying(change, axes)

    def solve(_: Any, b: jax.Array) -> jax.Array:
        hit = bad & (b != 0)
        return b * _one_or_nan(hit, b.dtype)

    return jax.lax.custom_linear_solve(lambda v: v, change, solve, symmetric=True)


def _one_or_nan(bad: jax.Array, dtype: Any) -> jax.Array:
    bits = jnp.dtype(f"uint{8 * jnp.dtype(dtype).itemsize}")
    one, nan = (np.array(value, dtype).view(bits)[()] for value in (1, np.nan))
    return jax.lax.bitcast_convert_type(jnp.where(bad, nan, one), dtype)


@jax.custom_jvp
def replaced(bad: jax.Array, values: jax.Array, instead: jax.Array) -> jax.Array:
    """Returns values, `instead` where `bad`, whose derivative passes all the same."""
    return jnp.where(bad, instead, values)


@replaced.defjvp
def _replaced_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    value = replaced(*primals)
    return value, as_varying(tangents[1], varying_axes(value))
