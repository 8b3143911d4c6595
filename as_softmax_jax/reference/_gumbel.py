"""The Gumbel losses as their formulas are, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels [...]
in range or positives and negatives [..., C], parameters [...].
"""

import jax
import jax.numpy as jnp


def gumbel_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropies of e^-e^-o, the label's a line where it is far off."""
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return multi_label_gumbel_loss(logits, onehot, ~onehot)


def multi_label_gumbel_loss(
    logits: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    """The same for any number of labels."""
    far = jax.nn.relu(-4.0 - logits)
    present = jnp.exp(-jnp.maximum(logits, -4.0)) + jnp.exp(4.0) * far
    inside = jnp.exp(-jnp.clip(logits, -6.3, 15.0))
    absent = jnp.where(
        logits > 15,
        logits + jnp.exp(-jnp.maximum(logits, 15.0)) / 2,
        -jnp.log(-jnp.expm1(-inside)),
    )
    total = jnp.where(positives, present, jnp.where(negatives, absent, 0))
    return jnp.sum(total, axis=-1)
