r"""AS-Softmax as its paper writes it, by automatic differentiation alone.

Each function takes clean inputs: logits [..., C] in float32 or float64 with classes
last, labels [...] in range, and one margin [...]. The formulas are equations 4 to 6 of
Lv et al., arXiv 2508.03175, with ``>`` for ``>=`` where the authors' code has it, so
that ``delta = 1`` drops no class; and the same with a difference of logits in place of
one of probabilities.
"""

import jax
import jax.numpy as jnp


def as_softmax_kept(
    logits: jax.Array,
    labels: jax.Array,
    delta: jax.Array | None = None,
    logit_margin: jax.Array | None = None,
) -> jax.Array:
    """z: every class within the margin of the label, and the label."""
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    margin = delta if logit_margin is None else logit_margin
    assert margin is not None, "one of the two is given"
    values = jax.nn.softmax(logits, axis=-1) if logit_margin is None else logits
    of_label = jnp.sum(values, axis=-1, where=onehot, keepdims=True)
    return onehot | ~(of_label - values > margin[..., None])


def as_softmax_loss(
    logits: jax.Array,
    labels: jax.Array,
    delta: jax.Array | None = None,
    logit_margin: jax.Array | None = None,
) -> jax.Array:
    """-log p~_t, p~ the softmax over kept classes."""
    kept = as_softmax_kept(logits, labels, delta, logit_margin)
    log_total = jax.nn.logsumexp(logits, axis=-1, where=jax.lax.stop_gradient(kept))
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return log_total - label_logits


def as_softmax_settled(
    logits: jax.Array,
    labels: jax.Array,
    delta: jax.Array | None = None,
    logit_margin: jax.Array | None = None,
    class_mask: jax.Array | None = None,
) -> jax.Array:
    """Whether no valid class but the label is kept."""
    kept = as_softmax_kept(logits, labels, delta, logit_margin)
    if class_mask is not None:
        kept &= class_mask
    return jnp.sum(kept, axis=-1) == 1
