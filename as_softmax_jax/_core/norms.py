"""Lengths of vectors, and what divides by them, with a gradient of 0 at length 0."""

import jax
import jax.numpy as jnp


def inverse_norm(vectors: jax.Array, axis: int) -> jax.Array:
    """Returns 1 / |v|, and 0 with a gradient of 0 where v is 0."""
    square = jnp.sum(vectors * vectors, axis=axis)
    there = square > jnp.finfo(square.dtype).tiny
    inverse = jax.lax.rsqrt(jnp.where(there, square, jnp.ones((), square.dtype)))
    return jnp.where(there, inverse, jnp.zeros((), square.dtype))


def norm(vectors: jax.Array, axis: int) -> jax.Array:
    """Returns |v|, with a gradient of 0 where v is 0."""
    return root(jnp.sum(vectors * vectors, axis=axis))


def root(values: jax.Array) -> jax.Array:
    """Returns the square root of values of at least 0, with a gradient of 0 at 0."""
    there = values > 0
    return jnp.where(there, jnp.sqrt(jnp.where(there, values, 1)), 0).astype(
        values.dtype
    )


def clipped_cosine(cosines: jax.Array) -> jax.Array:
    """Returns cosines in [-1, 1], which rounding may pass by some ulp.

    The value is clipped, its gradient is not.
    """
    return cosines + jax.lax.stop_gradient(jnp.clip(cosines, -1, 1) - cosines)
