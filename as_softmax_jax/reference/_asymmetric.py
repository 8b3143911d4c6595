"""Asymmetric losses as their paper writes them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, positives and negatives [..., C] boolean, parameters [...].
"""

import jax
import jax.numpy as jnp


def multi_label_asymmetric_loss(
    logits: jax.Array,
    positives: jax.Array,
    negatives: jax.Array,
    gamma_neg: jax.Array,
    gamma_pos: jax.Array,
    clip: jax.Array,
    stop_weight_gradient: bool = False,
) -> jax.Array:
    """Binary cross-entropy times powers of 1 - p and of p less the clip."""
    p, rest = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    above = p > clip[..., None]
    excess = jnp.where(above, p - clip[..., None], 0.5)
    # Not as a power of 1 - p, whose derivative is 0 / 0 where that is 0 in float32.
    of_ones = jnp.exp(gamma_pos[..., None] * jax.nn.log_sigmoid(-logits))
    of_zeros = excess ** gamma_neg[..., None]
    if stop_weight_gradient:
        of_ones, of_zeros = jax.lax.stop_gradient((of_ones, of_zeros))
    log_rest = jnp.log(rest + clip[..., None])
    ones = jnp.sum(of_ones * jax.nn.log_sigmoid(logits), axis=-1, where=positives)
    zeros = jnp.sum(of_zeros * log_rest, axis=-1, where=negatives & above)
    return -ones - zeros


def asymmetric_single_label_loss(
    logits: jax.Array,
    labels: jax.Array,
    gamma_neg: jax.Array,
    gamma_pos: jax.Array,
    smoothing: jax.Array,
) -> jax.Array:
    """Smoothed cross-entropy times (1 - p_t)^gamma_pos and p_j^gamma_neg."""
    num_classes = logits.shape[-1]
    onehot = jax.nn.one_hot(labels, num_classes, dtype=bool)
    log_p = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(log_p)
    rest = jnp.where(p < 1, 1 - p, 1.0)  # at 1 its log is 0, whatever the weight
    of_label, of_others = rest ** gamma_pos[..., None], p ** gamma_neg[..., None]
    weights = jnp.where(onehot, of_label, of_others)
    shares = smoothing[..., None] / num_classes
    shares = shares + jnp.where(onehot, (1 - smoothing)[..., None], 0.0)
    return -jnp.sum(shares * weights * log_p, axis=-1)
