"""Sparse losses as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range or distributions [..., C], alpha [...].
"""

from typing import Any

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import as_probs


def sparse_softmax_loss(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Log of the sum of e^o over the k largest logits and their ties, less o_t."""
    num_classes = logits.shape[-1]
    kth_largest = -jnp.sort(-logits, axis=-1)[..., min(k, num_classes) - 1]
    kept = logits >= jax.lax.stop_gradient(kth_largest)[..., None]
    log_total = jax.nn.logsumexp(logits, axis=-1, where=kept)
    return log_total - jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]


def sparsemax_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """-<q, z> + (sum over the support of z^2 - tau^2) / 2 + |q|^2 / 2."""
    ordered = -jnp.sort(-logits, axis=-1)
    k = jax.lax.broadcasted_iota(logits.dtype, logits.shape, logits.ndim - 1) + 1
    inside = 1 + k * ordered > jnp.cumsum(ordered, axis=-1)
    size = jnp.sum(inside, axis=-1).astype(logits.dtype)
    tau = (jnp.sum(ordered, axis=-1, where=inside) - 1) / size
    squares = jnp.sum(ordered**2 - tau[..., None] ** 2, axis=-1, where=inside)
    target = as_probs(labels, logits)
    return squares / 2 - jnp.sum(target * logits - target**2 / 2, axis=-1)


def entmax_loss(logits: jax.Array, labels: jax.Array, alpha: jax.Array) -> jax.Array:
    """<p* - q, z> + H(p*) - H(q); at the maximum over p its derivative by p is 0."""
    target = as_probs(labels, logits)
    probs = entmax(jax.lax.stop_gradient(logits), alpha)
    power = alpha[..., None]
    entropy = (probs - probs**power - target + target**power) / (power * (power - 1))
    return jnp.sum((probs - target) * logits + entropy, axis=-1)


def entmax(logits: jax.Array, alpha: jax.Array) -> jax.Array:
    """p*, from the threshold between max z - 1 and max z by many halvings."""
    power = alpha[..., None] - 1
    z = power * logits

    def probs(threshold: jax.Array) -> jax.Array:
        return jnp.maximum(z - threshold, 0) ** (1 / power)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> Any:
        low, high = bounds
        middle = (low + high) / 2
        heavy = jnp.sum(probs(middle), axis=-1, keepdims=True) >= 1
        return jnp.where(heavy, middle, low), jnp.where(heavy, high, middle)

    high = jnp.max(z, axis=-1, keepdims=True)
    low, _ = jax.lax.fori_loop(0, 80, halve, (high - 1, high))
    return probs(low) / jnp.sum(probs(low), axis=-1, keepdims=True)
