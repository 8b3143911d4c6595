"""The k-th largest number of each row, by its bits and not by a sort.

A sort of each row takes a hundred times as long as a softmax, and of `jax.lax.top_k`
XLA gathers the rows of a mesh in one place.
"""

from typing import Any

import jax
import jax.numpy as jnp


def kth_largest(values: jax.Array, k: int) -> jax.Array:
    """Returns the k-th largest of each row, [..., 1], exactly; without a derivative.

    It is found bit by bit from the highest down, each by a count of the values that are
    no smaller. Bits are those of the numbers' order: that of floating-point numbers as
    integers, but for the sign.

    Args:
      values: [..., C] float32 or float64, not NaN.
      k: at least 1 and at most C.
    """
    values = jax.lax.stop_gradient(values)
    size, mantissa = 8 * values.dtype.itemsize, jnp.finfo(values.dtype).nmant
    unsigned = jnp.dtype(f"uint{size}")
    sign = jnp.array(1 << (size - 1), unsigned)
    # Of -inf and of +inf; beyond lie the patterns of NaN.
    lowest = jnp.array((1 << mantissa) - 1, unsigned)
    highest = jnp.array((1 << size) - (1 << mantissa), unsigned)

    def number(order: jax.Array) -> jax.Array:
        bits = jnp.where(order >= sign, order ^ sign, ~order)
        return jax.lax.bitcast_convert_type(bits, values.dtype)

    def decide(step: jax.Array, order: jax.Array) -> Any:
        shift = jax.lax.convert_element_type(size - 1 - step, unsigned)
        higher = order | (jnp.ones((), unsigned) << shift)
        least = number(jnp.clip(higher, lowest, highest))
        count = jnp.sum((values >= least).astype(values.dtype), axis=-1, keepdims=True)
        enough = (higher <= lowest) | ((count >= k) & (higher <= highest))
        return jnp.where(enough, higher, order)

    # Zeros that vary over a mesh as the values do.
    first = (values[..., :1] > 0).astype(unsigned) * jnp.zeros((), unsigned)
    found = number(jnp.maximum(jax.lax.fori_loop(0, size, decide, first), lowest))
    # One of the values: where subnormal numbers compare as 0, more bits pass than its.
    above = jnp.where(values >= found, values, jnp.inf)
    return jnp.min(above, axis=-1, keepdims=True)
