"""Losses of class counts as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels [...]
in range, counts [C], none of them 0, parameters [...].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._cosine_margin import am_softmax_loss
from as_softmax_jax.reference._softmax import softmax_loss


def balanced_softmax_loss(
    logits: jax.Array, labels: jax.Array, class_counts: jax.Array, power: jax.Array
) -> jax.Array:
    """Softmax cross-entropy of o + tau log n."""
    log_counts = jnp.broadcast_to(jnp.log(class_counts), logits.shape)
    return softmax_loss(logits + power[..., None] * log_counts, labels)


def ldam_loss(
    logits: jax.Array,
    labels: jax.Array,
    class_counts: jax.Array,
    max_margin: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """AM-Softmax with a margin of n^(-1/4), the largest of them M."""
    roots = class_counts**-0.25
    return am_softmax_loss(
        logits, labels, max_margin * (roots / jnp.max(roots))[labels], scale
    )
