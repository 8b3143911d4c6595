"""The squared error of probabilities as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range or distributions [..., C].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import as_probs


def softmax_squared_error_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Half the sum of (p_j - q_j)^2."""
    error = jax.nn.softmax(logits, axis=-1) - as_probs(labels, logits)
    return jnp.sum(error**2, axis=-1) / 2
