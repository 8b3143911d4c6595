r"""Multi-label losses as their papers write them, by automatic differentiation alone.

Clean inputs only: logits [..., C] in float32 or float64, positives and negatives
[..., C] boolean, one margin [...]. AS-Softmax: Lv et al., arXiv 2508.03175; a row
without positives keeps every negative, and one without negatives every positive. With a
margin in logits each class is compared with the threshold 0.
"""

import jax
import jax.numpy as jnp


def multi_label_as_softmax_loss(
    logits: jax.Array,
    positives: jax.Array,
    negatives: jax.Array,
    delta: jax.Array | None = None,
    logit_margin: jax.Array | None = None,
) -> jax.Array:
    """log(1 + sum of e^o over kept negatives) + the same of e^-o over positives."""
    if logit_margin is not None:
        kept_positives = positives & ~(logits > logit_margin[..., None])
        kept_negatives = negatives & ~(-logits > logit_margin[..., None])
        return multi_label_softmax_loss(logits, kept_positives, kept_negatives)
    assert delta is not None
    probs = jax.nn.softmax(logits, axis=-1, where=positives | negatives)
    weakest = jnp.min(probs, -1, where=positives, initial=jnp.inf, keepdims=True)
    strongest = jnp.max(probs, -1, where=negatives, initial=-jnp.inf, keepdims=True)
    any_positive = jnp.any(positives, axis=-1, keepdims=True)
    keep_negatives = negatives & ~(any_positive & (weakest - probs > delta[..., None]))
    keep_positives = positives & ~(probs - strongest > delta[..., None])
    keep_positives |= positives & ~jnp.any(negatives, axis=-1, keepdims=True)
    return multi_label_softmax_loss(logits, keep_positives, keep_negatives)


def multi_label_softmax_loss(
    logits: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    """log(1 + sum of e^o over negatives) + log(1 + sum of e^-o over positives)."""
    zero = jnp.zeros_like(logits[..., :1])
    yes = jnp.ones_like(positives[..., :1])
    return jax.nn.logsumexp(
        jnp.concatenate([zero, logits], axis=-1),
        axis=-1,
        where=jnp.concatenate([yes, negatives], axis=-1),
    ) + jax.nn.logsumexp(
        jnp.concatenate([zero, -logits], axis=-1),
        axis=-1,
        where=jnp.concatenate([yes, positives], axis=-1),
    )


def multi_label_sparse_softmax_loss(
    logits: jax.Array, positives: jax.Array, negatives: jax.Array, k: int
) -> jax.Array:
    """The same over the k largest negatives and their ties."""
    rivals = jnp.where(negatives, logits, -jnp.inf)
    kth_largest = -jnp.sort(-rivals, axis=-1)[..., min(k, logits.shape[-1]) - 1]
    kept = negatives & (logits >= jax.lax.stop_gradient(kth_largest)[..., None])
    return multi_label_softmax_loss(logits, positives, kept)


def multi_label_sigmoid_loss(
    logits: jax.Array, positives: jax.Array, negatives: jax.Array
) -> jax.Array:
    """-(sum of log p over positives + sum of log(1 - p) over negatives), p sigmoid."""
    ones = jnp.sum(jax.nn.log_sigmoid(logits), axis=-1, where=positives)
    return -ones - jnp.sum(jax.nn.log_sigmoid(-logits), axis=-1, where=negatives)
