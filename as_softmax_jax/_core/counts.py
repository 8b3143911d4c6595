"""Counts of examples that may pass 2^31, in two words: none wraps around.

`low` is the count itself, and stays at 2^31 - 1 where it would pass that; `excess` is
what lies beyond. Window rules and users see `low`; weights are made of both.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax._core import checks

LARGEST = 2**31 - 1


class Count(NamedTuple):
    """A count that is never negative."""

    low: jax.Array  # shape=(), dtype=int32, at most LARGEST
    excess: jax.Array  # what is beyond, shape=(), dtype=float32

    def astype(self, dtype: Any) -> jax.Array:
        """Returns the count as a number of a floating type."""
        return self.low.astype(dtype) + self.excess.astype(dtype)


def total(mask: jax.Array) -> jax.Array:
    """Returns how many entries are True, int32, at most `LARGEST`."""
    # Only an array that may hold more needs the wider sum.
    if isinstance(mask.size, int) and mask.size > LARGEST:
        found = jnp.sum(mask, dtype=jnp.uint32)
        return jnp.minimum(found, jnp.uint32(LARGEST)).astype(jnp.int32)
    return jnp.sum(mask, dtype=jnp.int32)


def count(value: ArrayLike, name: str) -> Count:
    """Returns an integer scalar as a count; refuses a known one that is negative."""
    known = checks.concrete_value(value)
    array: Any = jnp.asarray(value) if known is None else known
    if array.shape or not np.issubdtype(array.dtype, np.integer):
        raise TypeError(
            f"`{name}` must be an integer scalar, a count; got {array.dtype} of "
            f"shape {array.shape}."
        )
    if known is not None and known < 0:
        raise ValueError(f"`{name}` must be at least 0, a count; got {known}.")
    if known is None and array.dtype.itemsize < 4:
        array = array.astype(jnp.int32)
    wide = array.dtype.itemsize > 4 or array.dtype == np.uint32
    low = array.clip(max=array.dtype.type(LARGEST)) if wide else array
    excess = (array - low).astype(np.float32)
    return Count(jnp.asarray(low.astype(np.int32)), jnp.asarray(excess))


def add(a: Count, b: Count) -> Count:
    """Returns the sum of two counts."""
    taken = jnp.minimum(b.low, LARGEST - a.low)
    beyond = (b.low - taken).astype(jnp.float32)
    return Count(a.low + taken, a.excess + b.excess + beyond)


def where(condition: jax.Array, value: Count) -> Count:
    """Returns a count, or 0 where the condition does not hold."""
    return jax.tree.map(lambda word: jnp.where(condition, word, 0), value)


def halves(value: Count) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns a count in a form whose sum over devices does not wrap around."""
    return value.low >> 16, value.low & 0xFFFF, value.excess


def from_halves(high: jax.Array, low: jax.Array, excess: jax.Array) -> Count:
    """Returns the count of summed `halves`."""
    high, low = high + (low >> 16), low & 0xFFFF
    over = high >= 2**15
    beyond = (high.astype(jnp.float32) - 2.0**15) * 2.0**16
    beyond += (low + 1).astype(jnp.float32)
    whole = jnp.where(over, LARGEST, (jnp.where(over, 0, high) << 16) + low)
    return Count(whole, excess + jnp.where(over, beyond, 0.0))
