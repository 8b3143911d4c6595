"""Decoupled softmax as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64, positives and negatives
[..., C] boolean.
"""

import jax
import jax.numpy as jnp


def multi_label_decoupled_softmax_loss(
    logits: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    """The mean over positives of log(e^o_t + sum of e^o over negatives) - o_t."""
    rivals = jax.nn.logsumexp(logits, axis=-1, where=negatives)
    losses = jnp.logaddexp(logits, rivals[..., None]) - logits
    return jnp.mean(losses, axis=-1, where=positives)
