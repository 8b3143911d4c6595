"""Squared hinge losses as their papers write them, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range, positives and negatives [..., C] boolean.
"""

import jax
import jax.numpy as jnp


def squared_hinge_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The sum of max(0, 1 - y_j o_j)^2, y_j = 1 at the label and -1 elsewhere."""
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return multi_label_squared_hinge_loss(logits, onehot, ~onehot)


def multi_label_squared_hinge_loss(
    logits: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    """The sum of max(0, 1 - y_j o_j)^2, y_j = 1 for positives and -1 for negatives."""
    ones = jnp.sum(jnp.maximum(0, 1 - logits) ** 2, axis=-1, where=positives)
    return ones + jnp.sum(jnp.maximum(0, 1 + logits) ** 2, axis=-1, where=negatives)
