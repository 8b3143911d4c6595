"""Losses against noisy labels as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import label_probs, softmax_loss


def normalized_cross_entropy_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Log p_t over the sum of log p_j."""
    total = jnp.sum(jax.nn.log_softmax(logits, axis=-1), axis=-1)
    return softmax_loss(logits, labels) / -total


def normalized_focal_loss(
    logits: jax.Array, labels: jax.Array, gamma: jax.Array
) -> jax.Array:
    """w_t log p_t over the sum of w_j log p_j, w = (1 - p)^gamma a constant."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    weights = jax.lax.stop_gradient((1 - jnp.exp(log_probs)) ** gamma[..., None])
    each = weights * log_probs
    own = jnp.take_along_axis(each, labels[..., None], axis=-1)[..., 0]
    return own / jnp.sum(each, axis=-1)


def reverse_cross_entropy_loss(
    logits: jax.Array, labels: jax.Array, log_zero: jax.Array
) -> jax.Array:
    """-sum of p_j log q_j, q one-hot and A for log 0."""
    return -log_zero * mean_absolute_error_loss(logits, labels)


def mean_absolute_error_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1 - p_t."""
    return 1 - label_probs(logits, labels)


def active_passive_loss(
    logits: jax.Array,
    labels: jax.Array,
    active_weight: jax.Array,
    passive_weight: jax.Array,
    active: str = "nce",
    passive: str = "rce",
) -> jax.Array:
    """Alpha times the active loss, and beta times the passive one."""
    if active == "nce":
        first = normalized_cross_entropy_loss(logits, labels)
    else:
        first = normalized_focal_loss(logits, labels, jnp.full_like(active_weight, 0.5))
    second = mean_absolute_error_loss(logits, labels)
    if passive == "rce":
        second = -jnp.log(jnp.full_like(second, 1e-4)) * second
    return active_weight * first + passive_weight * second
