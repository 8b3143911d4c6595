"""Distance logits and their score as the paper writes them, by autodiff alone.

Clean inputs only: features [..., D] and kernel [D, C] in float32 or float64, no vector
of them 0; logits [..., C].
"""

import jax
import jax.numpy as jnp


def distance_logits(
    features: jax.Array, kernel: jax.Array, distance_scale: jax.Array
) -> jax.Array:
    """-(D + mean D), D = |d| |x / |x| - w / |w|| / sqrt 2."""
    x = features / jnp.linalg.norm(features, axis=-1, keepdims=True)
    w = kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)
    between = jnp.expand_dims(x, -1) - jnp.expand_dims(w, range(x.ndim - 1))
    distances = jnp.abs(distance_scale) * jnp.linalg.norm(between, axis=-2) / 2**0.5
    return -(distances + jnp.mean(distances, axis=-1, keepdims=True))


def max_mean_entropy_score(logits: jax.Array) -> jax.Array:
    """Max o + mean o + sum p log p."""
    probs = jax.nn.softmax(logits, axis=-1)
    entropy = -jnp.sum(probs * jnp.log(probs), axis=-1)
    return jnp.max(logits, axis=-1) + jnp.mean(logits, axis=-1) - entropy
