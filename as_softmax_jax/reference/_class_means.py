"""The penalty of NBC-Softmax as its paper writes it, by autodiff alone.

Clean inputs only: features [n, D] in float32 or float64, labels [n] in range.
"""

import jax
import jax.numpy as jnp


def nbc_penalty(
    features: jax.Array, labels: jax.Array, num_classes: int, tau: float
) -> jax.Array:
    """Mean over the classes of log sum e^(tau cos), with 0 for a mean's own, over C."""
    onehot = jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
    counts = jnp.sum(onehot, axis=0)
    there = counts > 0
    means = onehot.T @ features / jnp.where(there, counts, 1)[:, None]
    means = jnp.where(there[:, None], means, 1)
    means = means / jnp.linalg.norm(means, axis=-1, keepdims=True)
    similar = jnp.where(jnp.eye(num_classes, dtype=bool), 0, means @ means.T)
    sums = jnp.sum(jnp.exp(tau * similar), axis=-1, where=there[None])
    return jnp.mean(jnp.log(sums), where=there) / num_classes
