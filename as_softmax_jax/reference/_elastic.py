"""ElasticFace as its paper writes it, by autodiff alone.

Clean inputs only: cosines in [-1, 1], -inf for a class of probability 0, [..., C] in
float32 or float64 with classes last, labels [...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._cosine_margin import margin_softmax_loss


def elastic_arcface_loss(
    logits: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    mean: jax.Array,
    deviation: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """ArcFace with margins of a normal distribution."""
    drawn = mean + deviation * _normal(key, mean)
    none = jnp.zeros_like(scale)
    return margin_softmax_loss(logits, labels, scale, drawn, none, "plain")


def elastic_cosface_loss(
    logits: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    mean: jax.Array,
    deviation: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """AM-Softmax with margins of a normal distribution."""
    drawn = mean + deviation * _normal(key, mean)
    return margin_softmax_loss(logits, labels, scale, jnp.zeros_like(drawn), drawn)


def _normal(key: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.normal(key, like.shape, jnp.float32).astype(like.dtype)
