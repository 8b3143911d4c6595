"""LDR-KL and ALDR-KL as their paper writes them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, parameters [...].
"""

import jax
import jax.numpy as jnp


def normalised(logits: jax.Array, logit_norm: str | None) -> jax.Array:
    """softplus(o) over its mean, or o over the mean of |o|."""
    if logit_norm is None:
        return logits
    values = jax.nn.softplus(logits) if logit_norm == "softplus" else logits
    return values / jnp.mean(jnp.abs(values), axis=-1, keepdims=True)


def ldr_kl_loss(
    logits: jax.Array,
    labels: jax.Array,
    temperature: jax.Array,
    margin: jax.Array,
    logit_norm: str | None = None,
) -> jax.Array:
    """Lambda log of the mean of e^((o_j - o_t + m [j != t]) / lambda)."""
    logits = normalised(logits, logit_norm)
    is_label = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    at_label = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    ahead = logits - at_label + jnp.where(is_label, 0, margin[..., None])
    total = jax.nn.logsumexp(ahead / temperature[..., None], axis=-1)
    return temperature * (total - jnp.log(jnp.asarray(logits.shape[-1], logits.dtype)))


def aldr_kl_loss(
    logits: jax.Array,
    labels: jax.Array,
    temperature: jax.Array,
    base: jax.Array,
    alpha: jax.Array,
    margin: jax.Array,
    logit_norm: str | None = None,
) -> jax.Array:
    """LDR-KL - alpha log C / (2 lambda_0) (lambda - lambda_0)^2."""
    log_classes = jnp.log(jnp.asarray(logits.shape[-1], logits.dtype))
    penalty = alpha * log_classes / (2 * base) * (temperature - base) ** 2
    return ldr_kl_loss(logits, labels, temperature, margin, logit_norm) - penalty
