"""The Z-loss as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp


def spherical_z_loss(
    logits: jax.Array, labels: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
    """log(1 + e^(a (b - z_t))) / a, z = (o - mean) / deviation."""
    centred = logits - jnp.mean(logits, axis=-1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(centred**2, axis=-1))
    own = jnp.take_along_axis(centred, labels[..., None], axis=-1)[..., 0] / deviation
    return jnp.logaddexp(scale * (shift - own), 0) / scale
