"""Softmax cross-entropy and its kin as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp


def label_probs(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """p_t, the softmax at the label."""
    probs = jax.nn.softmax(logits, axis=-1)
    return jnp.take_along_axis(probs, labels[..., None], axis=-1)[..., 0]


def as_probs(labels: jax.Array, logits: jax.Array) -> jax.Array:
    """A distribution as it is, labels as one-hot."""
    if labels.shape == logits.shape:
        return labels
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)


def softmax_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-log p_t."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]


def temperature_softmax_loss(
    logits: jax.Array, labels: jax.Array, temperature: jax.Array
) -> jax.Array:
    """-log p_t of the logits over T."""
    return softmax_loss(logits / temperature[..., None], labels)


def label_smoothing_loss(
    logits: jax.Array, labels: jax.Array, smoothing: jax.Array
) -> jax.Array:
    """Cross-entropy with (1 - epsilon) onehot + epsilon / K."""
    num_classes = logits.shape[-1]
    onehot = jax.nn.one_hot(labels, num_classes, dtype=logits.dtype)
    smoothing = smoothing[..., None]
    target = (1 - smoothing) * onehot + smoothing / num_classes
    return -jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def focal_loss(logits: jax.Array, labels: jax.Array, gamma: jax.Array) -> jax.Array:
    """(1 - p_t)^gamma times -log p_t."""
    weight = (1 - label_probs(logits, labels)) ** gamma
    return weight * softmax_loss(logits, labels)
