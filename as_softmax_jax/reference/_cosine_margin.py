"""Margin losses on cosines as their papers write them, by autodiff alone.

Clean inputs only: cosines in [-1, 1], -inf for a class of probability 0, [..., C] in
float32 or float64 with classes last, labels [...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def margin_softmax_loss(
    logits: jax.Array,
    labels: jax.Array,
    scale: jax.Array,
    angle: jax.Array,
    cosine: jax.Array,
    beyond: str = "linear",
    straight_through: bool = False,
) -> jax.Array:
    """Softmax cross-entropy of s cos, the label's s (cos(theta + a) - b)."""
    del straight_through  # a gradient that no formula has
    inside = jnp.abs(logits) < 1
    theta = jnp.arccos(jnp.where(inside, logits, 0))
    at_ends = logits * jnp.cos(angle)[..., None]
    turned = jnp.where(inside, jnp.cos(theta + angle[..., None]), at_ends)
    theta = jnp.where(inside, theta, jnp.where(logits < 0, jnp.pi, 0))
    past, before = theta + angle[..., None] > jnp.pi, theta + angle[..., None] < 0
    if beyond == "linear":
        turned = jnp.where(past, logits - (angle * jnp.sin(angle))[..., None], turned)
    if beyond == "clip":
        turned = jnp.where(past, -1, jnp.where(before, 1, turned))
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    cosines = jnp.where(onehot, turned - cosine[..., None], logits)
    return softmax_loss(scale[..., None] * cosines, labels)


def am_softmax_loss(
    logits: jax.Array, labels: jax.Array, margin: jax.Array, scale: jax.Array
) -> jax.Array:
    """Softmax cross-entropy of s (cos - m [i = t])."""
    return margin_softmax_loss(logits, labels, scale, jnp.zeros_like(scale), margin)


def arcface_loss(
    logits: jax.Array,
    labels: jax.Array,
    margin: jax.Array,
    scale: jax.Array,
    beyond: str = "linear",
    straight_through: bool = False,
) -> jax.Array:
    """Softmax cross-entropy of s cos(theta + m [i = t])."""
    none = jnp.zeros_like(scale)
    return margin_softmax_loss(
        logits, labels, scale, margin, none, beyond, straight_through
    )
