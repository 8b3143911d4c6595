"""Losses of ordered classes as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C - 1] in float32 or float64, one a threshold, labels
[...] in [0, C).
"""

import jax
import jax.numpy as jnp


def ordinal_cross_entropy_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-(sum of log P(y > k) over k < t + sum of log(1 - P(y > k)) over the others)."""
    thresholds = jnp.arange(logits.shape[-1], dtype=labels.dtype)
    passed = thresholds[None] < labels[..., None]
    log_probs = jnp.where(
        passed, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    )
    return -jnp.sum(log_probs, axis=-1)
