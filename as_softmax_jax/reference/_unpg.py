"""UNPG as its paper writes it, by autodiff alone.

Clean inputs only: cosines in [-1, 1], [..., C] in float32 or float64 with classes last,
labels [...] in range, parameters [...], the scale the same for all rows, and pairs.
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def unpg_loss(
    logits: jax.Array,
    labels: jax.Array,
    pairs: tuple[jax.Array, jax.Array],
    cosine: jax.Array,
    angle: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """Softmax cross-entropy of the classes and the kept pairs, without angles."""
    del angle
    cosines, kept = (part.ravel()[None] for part in pairs)
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    classes = scale[..., None] * (logits - cosine[..., None] * onehot)
    of_pairs = jnp.where(kept, scale[..., None] * cosines, -jnp.inf)
    return softmax_loss(jnp.concatenate([classes, of_pairs], axis=-1), labels)
