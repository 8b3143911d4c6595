"""The root of a monotone function of one number, row by row, by halving a bracket."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def bisect(
    is_below: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Halves each bracket down to the rounding of its width.

    Not to be differentiated: whoever needs the root's derivative knows it from the
    function, by the implicit function theorem.

    Args:
      is_below: tells, of numbers of the shape of `low`, where they are at or below the
        root.
      low: [..., 1], at or below the root; over a mesh it varies as the rows do.
      high: [..., 1], at or above it.

    Returns:
      The last brackets, low and high.
    """

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> Any:
        low, high = bounds
        middle = low + (high - low) / 2
        below = is_below(middle)
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    num_steps = jnp.finfo(low.dtype).nmant + 3
    bounds: tuple[jax.Array, jax.Array]
    bounds = jax.lax.fori_loop(0, num_steps, halve, (low, high))
    return bounds
