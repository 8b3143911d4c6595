"""Comp-sum losses and PolyLoss as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range or distributions [..., C], parameters [...].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import as_probs


def poly_loss(logits: jax.Array, labels: jax.Array, epsilon: jax.Array) -> jax.Array:
    """-log p_j + epsilon (1 - p_j), its mean over the target."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    each = -log_probs + epsilon[..., None] * (1 - jnp.exp(log_probs))
    return jnp.sum(as_probs(labels, logits) * each, axis=-1)


def comp_sum_loss(logits: jax.Array, labels: jax.Array, tau: jax.Array) -> jax.Array:
    """((1 + u)^(1 - tau) - 1) / (1 - tau), u the sum of e^(o_j - o_t) over rivals."""
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    log_total = jax.nn.logsumexp(logits - label_logits, axis=-1)  # of 1 + u
    power = jnp.where(tau == 1, 1.0, 1 - tau)
    return jnp.where(tau == 1, log_total, jnp.expm1(power * log_total) / power)
