"""Cross-entropy and a penalty, as the papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def maxsup_loss(logits: jax.Array, labels: jax.Array, weight: jax.Array) -> jax.Array:
    """-log p_t + w (max o - mean o)."""
    penalty = jnp.max(logits, axis=-1) - jnp.mean(logits, axis=-1)
    return softmax_loss(logits, labels) + weight * penalty


def squentropy_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log p_t + the mean of the squares of the other logits."""
    num_classes = logits.shape[-1]
    others = ~jax.nn.one_hot(labels, num_classes, dtype=bool)
    squares = jnp.sum(logits**2, axis=-1, where=others)
    return softmax_loss(logits, labels) + squares / max(num_classes - 1, 1)
