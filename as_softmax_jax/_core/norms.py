"""The inverse length of a vector, which turns a product into a cosine."""

import jax
import jax.numpy as jnp


def inverse_norm(vectors: jax.Array, axis: int) -> jax.Array:
    """Returns 1 / |v|, and 0 with a gradient of 0 where v is 0."""
    square = jnp.sum(vectors * vectors, axis=axis)
    there = square > jnp.finfo(square.dtype).tiny
    inverse = jax.lax.rsqrt(jnp.where(there, square, jnp.ones((), square.dtype)))
    return jnp.where(there, inverse, jnp.zeros((), square.dtype))


def clipped_cosine(cosines: jax.Array) -> jax.Array:
    """Returns cosines in [-1, 1], which rounding may pass by some ulp.

    The value is clipped, its gradient is not.
    """
    return cosines + jax.lax.stop_gradient(jnp.clip(cosines, -1, 1) - cosines)
