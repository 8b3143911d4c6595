"""MadaCos as its authors' code has it, by autodiff alone.

Clean inputs only: cosines [n, C] in float32 or float64 with at least two classes,
labels [n] in range, parameters [n], the first of which counts.
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._cosine_margin import am_softmax_loss


def madacos_loss(
    logits: jax.Array, labels: jax.Array, alpha: jax.Array, min_scale: jax.Array
) -> jax.Array:
    """AM-Softmax with a scale and a margin of the median label's example."""
    fixed, share = jax.lax.stop_gradient(logits), alpha[0]
    own = jnp.take_along_axis(fixed, labels[:, None], axis=-1)[:, 0]
    row = jnp.argsort(own)[(len(own) - 1) // 2]
    wanted = jnp.log(9999999 * (1 - share) / share)
    scale = jnp.maximum(min_scale, wanted / (1 - own[row]))
    rivals = jnp.arange(fixed.shape[1]) != labels[row]
    log_b = jax.nn.logsumexp(scale[0] * fixed[row], where=rivals)
    margin = own[row] - (log_b + jnp.log(share / (1 - share))) / scale
    return am_softmax_loss(logits, labels, jnp.maximum(margin, 0), scale)
