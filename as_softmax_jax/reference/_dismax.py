"""DisMax's loss as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels [...]
in range, parameters [...].
"""

import jax

from as_softmax_jax.reference._softmax import softmax_loss


def dismax_loss(logits: jax.Array, labels: jax.Array, scale: jax.Array) -> jax.Array:
    """Softmax cross-entropy of s o."""
    return softmax_loss(scale[..., None] * logits, labels)
