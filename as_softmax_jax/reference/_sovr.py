"""SOVR as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, weight [...], threshold a scalar.
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def sovr_loss(
    logits: jax.Array, labels: jax.Array, threshold: jax.Array, weight: jax.Array
) -> jax.Array:
    """Weight times one-versus-rest up to a margin of threshold, else -log p_t."""
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    rival = jnp.max(logits, axis=-1, where=~is_label, initial=-jnp.inf)
    own = jnp.max(logits, axis=-1, where=is_label, initial=-jnp.inf)
    one_vs_rest = -jnp.sum(
        jax.nn.log_sigmoid(jnp.where(is_label, logits, -logits)), axis=-1
    )
    switched = (own - rival <= threshold) & jnp.isfinite(rival)
    return jnp.where(switched, weight * one_vs_rest, softmax_loss(logits, labels))
