"""Several centres a class: columns of the kernel that lie side by side."""

import jax
import jax.numpy as jnp


def nearest(cosines: jax.Array, centers: int) -> tuple[jax.Array, jax.Array]:
    """Returns the largest value of each class, [..., C], and which centre has it.

    By its place: the gradient of a maximum would be split among ties.

    Args:
      cosines: [..., C K].
      centers: K.
    """
    by_class = cosines.reshape(*cosines.shape[:-1], -1, centers)
    best = jnp.argmax(by_class, axis=-1)
    values = jnp.take_along_axis(by_class, best[..., None], axis=-1)[..., 0]
    return values, best


def at_centers(values: jax.Array, best: jax.Array, centers: int) -> jax.Array:
    """Returns values [..., C] at one centre of each class, and 0 at its others.

    Args:
      values: [..., C].
      best: the centre of each, [..., C].
      centers: K; what comes out is [..., C K].
    """
    every = jnp.arange(centers, dtype=best.dtype).reshape((1,) * best.ndim + (-1,))
    there = every == best[..., None]
    spread = jnp.where(there, values[..., None], jnp.zeros((), values.dtype))
    return spread.reshape(*values.shape[:-1], -1)


def columns_of(classes: jax.Array, centers: int) -> jax.Array:
    """Returns the columns of some classes [...], as [..., K]."""
    first = classes[..., None] * centers
    own = jnp.arange(centers, dtype=classes.dtype)
    return first + own.reshape((1,) * classes.ndim + (-1,))
