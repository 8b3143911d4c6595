"""L-Softmax and Noisy Softmax as their papers write them, by autodiff alone.

Clean inputs only: features [n, D] and kernel [D, C] in float32 or float64, no vector of
them 0 and none in line with another, labels [n] in range, parameters [n].
"""

import jax
import jax.numpy as jnp

from as_softmax_jax.reference._softmax import softmax_loss


def l_softmax_loss(
    features: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    blend: jax.Array,
    margin: int,
) -> jax.Array:
    """Softmax cross-entropy with |x| |w| ((-1)^k cos(m theta) - 2 k) for the label."""
    logits, own, lengths = _label(features, kernel, labels)
    theta = jnp.arccos(own / lengths)
    k = jnp.floor(theta * margin / jnp.pi)
    turned = (-1) ** k * jnp.cos(margin * theta) - 2 * k
    changed = (blend * own + lengths * turned) / (1 + blend)
    return softmax_loss(_with_label(logits, labels, changed), labels)


def noisy_softmax_loss(
    features: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    noise: jax.Array,
    alpha: jax.Array,
) -> jax.Array:
    """Softmax cross-entropy with o - alpha |xi| |x| |w| (1 - cos) for the label."""
    logits, own, lengths = _label(features, kernel, labels)
    changed = own - alpha * jnp.abs(noise) * lengths * (1 - own / lengths)
    return softmax_loss(_with_label(logits, labels, changed), labels)


def _label(
    features: jax.Array, kernel: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    logits = features @ kernel
    columns = jnp.linalg.norm(kernel, axis=0)[labels]
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return logits, own, jnp.linalg.norm(features, axis=-1) * columns


def _with_label(logits: jax.Array, labels: jax.Array, changed: jax.Array) -> jax.Array:
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.where(onehot, changed[:, None], logits)
