"""AdaFace as its paper writes it, by autodiff alone.

Clean inputs only: cosines in [-1, 1], -inf for a class of probability 0, [..., C] in
float32 or float64 with classes last, labels [...] in range, lengths and parameters
[...], mean and deviation of the lengths [].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._cosine_margin import margin_softmax_loss


def adaface_loss(
    logits: jax.Array,
    labels: jax.Array,
    norms: jax.Array,
    norm_state: tuple[jax.Array, jax.Array],
    margin: jax.Array,
    concentration: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """Softmax cross-entropy of s cos, the label's s (cos(theta - m q) - m - m q)."""
    mean, deviation = norm_state
    spread = concentration * (jnp.clip(norms, 1e-3, 100) - mean) / (deviation + 1e-3)
    quality = jax.lax.stop_gradient(jnp.clip(spread, -1, 1))
    angle, cosine = -margin * quality, margin + margin * quality
    return margin_softmax_loss(logits, labels, scale, angle, cosine, "clip")
