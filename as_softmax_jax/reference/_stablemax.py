"""StableMax as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range.
"""

import jax
import jax.numpy as jnp


def stablemax_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log s(o_t) + log of the sum of s(o_j), s of two branches."""
    below = jnp.where(logits < 0, logits, 0.0)
    s = jnp.where(logits >= 0, logits + 1, 1 / (1 - below))
    own = jnp.take_along_axis(s, labels[..., None], axis=-1)[..., 0]
    return -jnp.log(own / jnp.sum(s, axis=-1))
