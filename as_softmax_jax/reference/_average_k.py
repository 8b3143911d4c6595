"""Losses of sets of answers as their papers write them, by autodiff alone.

Clean inputs only: logits and set_logits [..., C] in float32 or float64 with classes
last, labels [...] in range, weight [...], threshold a scalar.
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def two_head_average_k_loss(
    logits: jax.Array,
    labels: jax.Array,
    set_logits: jax.Array,
    threshold: jax.Array,
    weight: jax.Array,
) -> jax.Array:
    """-log p_t - weight (sum of log q over [p >= threshold], of log(1 - q) elsewhere).

    q is the sigmoid of set_logits.
    """
    chosen = jax.nn.softmax(logits, axis=-1) >= threshold
    log_probs = jnp.where(
        chosen, jax.nn.log_sigmoid(set_logits), jax.nn.log_sigmoid(-set_logits)
    )
    return softmax_loss(logits, labels) - weight * jnp.sum(log_probs, axis=-1)
