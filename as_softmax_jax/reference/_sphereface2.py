"""SphereFace2 as its paper writes it, by autodiff alone.

Clean inputs only: cosines in [-1, 1], [..., C] in float32 or float64 with classes last,
labels [...] in range, parameters [...] and the bias [].
"""

import jax
import jax.numpy as jnp


def sphereface2_loss(
    logits: jax.Array,
    labels: jax.Array,
    bias: jax.Array,
    positive_weight: jax.Array,
    scale: jax.Array,
    margin: jax.Array,
    exponent: jax.Array,
    straight_through: bool = False,
) -> jax.Array:
    """Binary cross-entropies of s (g(c) -+ m) + b, weighed by w and 1 - w, over s."""
    del straight_through  # a gradient that no formula has
    m, s, w = margin[..., None], scale[..., None], positive_weight[..., None]
    spread = 2 * ((logits + 1) / 2) ** exponent[..., None] - 1
    own = w * jax.nn.softplus(-(s * (spread - m) + bias))
    other = (1 - w) * jax.nn.softplus(s * (spread + m) + bias)
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.sum(jnp.where(onehot, own, other), axis=-1) / scale
