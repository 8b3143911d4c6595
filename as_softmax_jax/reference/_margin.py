"""Margin softmax losses as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with
classes last, labels [...] in range, parameters [...].
"""

import jax

from as_softmax_jax.reference._softmax import softmax_loss


def soft_margin_softmax_loss(
    logits: jax.Array, labels: jax.Array, margin: jax.Array
) -> jax.Array:
    """Softmax cross-entropy of o - m [i = t]."""
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return softmax_loss(logits - margin[..., None] * onehot, labels)
