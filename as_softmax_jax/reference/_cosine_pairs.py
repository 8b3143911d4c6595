"""Losses on each class's cosine and the label's, as written, by autodiff alone.

Clean inputs only: cosines [..., C] in float32 or float64 with classes last, labels
[...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def real_am_softmax_loss(
    logits: jax.Array, labels: jax.Array, margin: jax.Array, scale: jax.Array
) -> jax.Array:
    """log(1 + sum over the others of e^max(0, s (c_j - c_t + m))) - log C."""
    own = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    gaps = scale[..., None] * (logits - own + margin[..., None])
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    loss = softmax_loss(jnp.where(onehot, 0, jax.nn.relu(gaps)), labels)
    return loss - jnp.log(jnp.asarray(logits.shape[-1], loss.dtype))


def circle_loss(
    logits: jax.Array, labels: jax.Array, margin: jax.Array, scale: jax.Array
) -> jax.Array:
    """log(1 + sum over the others of e^(s [c + m] (c - m)), times the label's)."""
    m, s = margin[..., None], scale[..., None]
    fixed = jax.lax.stop_gradient(logits)
    rivals = s * jax.nn.relu(fixed + m) * (logits - m)
    own = s * jax.nn.relu(1 + m - fixed) * (logits - 1 + m)
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return softmax_loss(jnp.where(onehot, own, rivals), labels)
