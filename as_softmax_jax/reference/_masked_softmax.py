"""Masked softmax as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels and
mask_value [...], active bool [C].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def masked_softmax_loss(
    logits: jax.Array, labels: jax.Array, active: jax.Array, mask_value: jax.Array
) -> jax.Array:
    """-log p_t with mask_value for the logits of inactive classes but the label."""
    present = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool) | active[None]
    return softmax_loss(jnp.where(present, logits, mask_value[..., None]), labels)
