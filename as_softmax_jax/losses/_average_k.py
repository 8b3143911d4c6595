r"""Sets of K answers an example on average, by a second output layer."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis, from_last
from as_softmax_jax._core.cross_entropy import binary_cross_entropy, cross_entropy
from as_softmax_jax.losses._extras import OtherLogits, PerBatch
from as_softmax_jax.losses._table import register_loss


def average_k_threshold(
    logits: ArrayLike,
    *,
    k: ArrayLike,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""The probability above which K classes an example lie, on average over a batch.

    .. math:: \lambda = \tfrac12 (p_{(nK)} + p_{(nK + 1)})

    with :math:`p_{(i)}` the i-th largest of all softmax probabilities of the n examples
    that count, and nK rounded. It is 0 where nK is the number of all classes of all
    examples, and +inf where nK is 0. Probabilities that tie with it are above.

    Rows whose loss is NaN do not count. On a mesh that shards the examples this gathers
    their probabilities; inside `jax.shard_map` the threshold is that of a device's own
    examples.

    Shared arguments: `as_softmax_jax.losses`.

    Args:
      k: K, above 0 and at most the number of classes; a scalar. Traced and out of range
        it gives NaN.

    Returns:
      The threshold, a scalar, float32 or float64, through which no gradient flows.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import average_k_threshold
      >>> logits = jnp.log(jnp.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(average_k_threshold(logits, k=1.5))  # (0.35 + 0.25) / 2
      0.3

    References:
      After the abstract of Garcin et al., `A two-head loss function for deep Average-K
      classification <https://arxiv.org/abs/2303.18118>`_, WACV 2025.
    """
    x = inputs.read_unlabelled(logits, where, class_mask, axis)
    x = x._replace(logits=jax.lax.stop_gradient(x.logits))
    most = x.logits.shape[-1]
    scalar = checks.LossType((), x.logits.dtype)
    number = checks.parameter(
        k,
        scalar,
        "k",
        allowed=f"above 0 and at most {most}, the number of classes",
        holds=lambda v: (v > 0) & (v <= most),
        inside=1.0,
    )
    return _threshold(x, number)


@register_loss(
    paper="Garcin et al., arXiv 2303.18118",
    use="where an answer may be a set: K classes on average, more where it is in doubt",
    at_zero_logits=None,
    extras={
        "set_logits": OtherLogits(set_size="k"),
        "threshold": PerBatch(average_k_threshold),
    },
    example_keywords={"k": 2.0},
    search={"weight": (0.1, 1.0, 10.0)},
    zero_with_one_class=False,
)
def two_head_average_k_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    set_logits: ArrayLike,
    threshold: ArrayLike,
    weight: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy, and a second layer that learns sets of K answers.

    .. math::
      \ell = -\log p_t + w \sum_j \bigl(\log(1 + e^{u_j}) - s_j u_j\bigr), \qquad
      s_j = [\, p_j \ge \lambda \,]

    with u the second layer's logits and :math:`\lambda` the threshold of the batch, of
    `average_k_threshold`: the classes above it are what the first layer answers when it
    may give K answers an example on average, many where it is in doubt and few where it
    is not. No gradient flows through s. The answer is the set of classes with
    :math:`\sigma(u_j)` above a level that returns K classes on average on validation
    data.

    That both terms are sums, and the label is not forced into s, is ours: the
    abstract does not say.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      set_logits: u, floating point of the shape of `logits`: a second output layer on
        the same features.
      threshold: lambda, a number or an array that broadcasts to the shape of the loss;
        at least 0, and +inf for no class. Out of range it gives NaN.
      weight: w, at least 0 and finite; a number or an array that broadcasts to the
        shape of the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import two_head_average_k_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.4, 0.1]]))
      >>> set_logits = jnp.log(jnp.array([[3.0, 1.0, 0.25]]))
      >>> loss = two_head_average_k_loss(
      ...     logits, jnp.array([0]), set_logits=set_logits, threshold=0.3
      ... )
      >>> jnp.set_printoptions(precision=4)
      >>> print(loss)  # log(2) + log(1 + 1/3) + log(1 + 1) + log(1 + 1/4)
      [1.8971]

    References:
      After the abstract of Garcin et al., `A two-head loss function for deep Average-K
      classification <https://arxiv.org/abs/2303.18118>`_, WACV 2025.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    kind = inputs.loss_type(x)
    set_logits = checks.same_shape(set_logits, jnp.shape(logits), "set_logits")
    weight = checks.at_least(weight, 0, kind, "weight")
    level = checks.not_negative(threshold, kind, "threshold")
    x, weight = inputs.own(x, weight)
    x, level = inputs.own(x, jax.lax.stop_gradient(level))
    own, _ = cross_entropy(x)
    chosen = _above(jax.lax.stop_gradient(x.logits), level)
    sets = _read_sets(set_logits.astype(x.logits.dtype), chosen, x, axis)
    loss = own + weight * binary_cross_entropy(sets)
    return inputs.finish(loss, x, sets.bad)


def _read_sets(
    set_logits: jax.Array, chosen: jax.Array, x: inputs.Inputs, axis: Axis
) -> inputs.MultiHotInputs:
    """Returns the second layer's inputs, with the masks of the first."""

    def as_given(mask: Any) -> Any:
        return None if mask is None else from_last(mask, set_logits.shape, axis)

    # A row of the first that is bad holds no 0s and 1s to learn from.
    return inputs.read_multi_hot(
        set_logits, as_given(chosen), x.where, as_given(x.class_mask), axis
    )


def _above(logits: jax.Array, threshold: jax.Array) -> jax.Array:
    """Returns which classes have a probability, and one of the threshold or more."""
    present = logits > -jnp.inf
    return present & (jax.nn.softmax(logits, axis=-1) >= threshold[..., None])


@jax.jit
def _threshold(x: inputs.UnlabelledInputs, k: jax.Array) -> jax.Array:
    """Returns the threshold on clean inputs; `k` is a scalar."""
    probs = jax.nn.softmax(x.logits, axis=-1)
    valid = ~x.bad if x.where is None else x.where & ~x.bad
    entries = jnp.broadcast_to(valid[..., None], probs.shape)
    if x.class_mask is not None:
        entries &= x.class_mask
    ordered = jnp.sort(jnp.where(entries, probs, -1).ravel(), descending=True)
    wanted = jnp.round(k * jnp.sum(valid).astype(k.dtype))
    # NaN, of a k out of range, is no number of classes.
    count = jnp.nan_to_num(wanted).astype(jnp.int32)
    at = jnp.clip(
        count + jnp.arange(-1, 1, dtype=jnp.int32), 0, max(ordered.size - 1, 0)
    )
    zero, none = jnp.zeros((), k.dtype), jnp.full((), jnp.inf, k.dtype)
    middle = jnp.mean(ordered[at]) if ordered.size else zero
    level = jnp.where(count >= jnp.sum(entries, dtype=jnp.int32), zero, middle)
    return jnp.where(count == 0, none, level) + 0 * k
