"""Soft top-k as its paper writes it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64, positives and negatives
[..., C] boolean, alpha [...].
"""

from typing import Any

import jax
import jax.numpy as jnp


def multi_label_soft_top_k_loss(
    logits: jax.Array,
    positives: jax.Array,
    negatives: jax.Array,
    k: int,
    alpha: jax.Array,
) -> jax.Array:
    """-mean over positives of log sigma(alpha (o + tau)), the sigmoids' sum being k."""
    if k >= logits.shape[-1]:
        return 0 * jnp.sum(logits, axis=-1)
    alpha = alpha[..., None]
    tau = threshold(logits, k, alpha)
    log_sigmoids = jax.nn.log_sigmoid(alpha * (logits + tau))
    return -jnp.mean(log_sigmoids, axis=-1, where=positives)


def threshold(logits: jax.Array, k: int, alpha: jax.Array) -> jax.Array:
    """tau, by many halvings; then a step of Newton's method, which has its gradient.

    What the k largest lack of 1 each is what the others have: that says the same as the
    sum of all, and holds where both are small.
    """
    strongest = jax.lax.top_k(logits, k)[1]
    inside = jnp.sum(jax.nn.one_hot(strongest, logits.shape[-1]), axis=-2) > 0

    def excess(tau: jax.Array, logits: jax.Array) -> Any:
        odds = alpha * (logits + tau)
        some, rest = jax.nn.sigmoid(odds), jax.nn.sigmoid(-odds)
        terms = jnp.where(inside, -rest, some)
        return jnp.sum(terms, axis=-1, keepdims=True), some * rest

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> Any:
        low, high = bounds
        middle = (low + high) / 2
        below = excess(middle, fixed)[0] <= 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    fixed = jax.lax.stop_gradient(logits)
    shift = jnp.log(k / (logits.shape[-1] - k)) / alpha
    low = shift - jnp.max(fixed, axis=-1, keepdims=True)
    high = shift - jnp.min(fixed, axis=-1, keepdims=True)
    tau, _ = jax.lax.fori_loop(0, 100, halve, (low, high))
    value, slopes = excess(tau, logits)
    slope = alpha * jax.lax.stop_gradient(jnp.sum(slopes, axis=-1, keepdims=True))
    return tau - value / slope
