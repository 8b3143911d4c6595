r"""One-versus-rest for the examples of a batch that win by least (SOVR)."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cross_entropy import cross_entropy
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax.losses._extras import PerBatch
from as_softmax_jax.losses._table import register_loss


def sovr_threshold(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    share: ArrayLike,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""The margin up to which a share of a batch's examples lies.

    .. math:: \theta = \text{the} \lfloor s n \rfloor \text{-th smallest of} \quad
      o_t - \max_{i \ne t} o_i

    over the n examples that count; -inf where :math:`\lfloor s n \rfloor` is 0.

    Rows whose loss is NaN do not count. On a mesh that shards the examples this gathers
    their margins; inside `jax.shard_map` the threshold is that of a device's own
    examples.

    Shared arguments: `as_softmax_jax.losses`.

    Args:
      share: s, in [0, 1]; a scalar. Traced and out of range it gives NaN.

    Returns:
      The threshold, a scalar, float32 or float64, through which no gradient flows.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import sovr_threshold
      >>> logits = jnp.array([[2.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> print(sovr_threshold(logits, jnp.zeros(4, int), share=0.5))  # of -1, 1, 2, 3
      1.0

    References:
      After the abstract of Kanai et al., `One-vs-the-Rest Loss to Focus on Important
      Samples in Adversarial Training <https://arxiv.org/abs/2207.10283>`_, ICML 2023.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    scalar = checks.LossType((), x.logits.dtype)
    return _threshold(x, checks.unit_interval(share, scalar, "share"))


@register_loss(
    paper="Kanai et al., arXiv 2207.10283",
    use="in adversarial training: a push of their own for examples that barely win",
    at_zero_logits=None,
    extras={"threshold": PerBatch(sovr_threshold)},
    example_keywords={"weight": 0.4, "share": 0.4},
    search={"weight": (0.2, 0.4, 0.8)},
    shift_invariant=False,
)
def sovr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    threshold: ArrayLike,
    weight: ArrayLike,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy that switches to one-versus-rest where margins are small.

    .. math::
      \ell = \begin{cases}
        w \bigl(\log(1 + e^{-o_t}) + \sum_{j \ne t} \log(1 + e^{o_j})\bigr)
          & o_t - \max_{i \ne t} o_i \le \theta \\
        -\log p_t & \text{else}
      \end{cases}

    One-versus-rest pushes each class on its own, and so makes logits larger than
    cross-entropy does. In the paper the logits are those of adversarial examples, which
    the caller makes. An example without a rival never switches; no gradient flows
    through the switch.

    The logistic form, and that w is a factor of that part, are ours: the abstract does
    not say.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      threshold: theta, a number or an array that broadcasts to the shape of the loss,
        such as `sovr_threshold` of the batch; infinite for all or none. NaN gives NaN.
      weight: w, at least 0 and finite; a number or an array that broadcasts to the
        shape of the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import sovr_loss
      >>> logits = jnp.log(jnp.array([[2.0, 1.0], [8.0, 1.0]]))
      >>> loss = sovr_loss(logits, jnp.array([0, 0]), threshold=1.0, weight=0.5)
      >>> jnp.set_printoptions(precision=4)
      >>> # (log(1 + 1/2) + log(1 + 1)) / 2, log(1 + 1/8)
      >>> print(loss)
      [0.5493 0.1178]

    References:
      After the abstract of Kanai et al., `One-vs-the-Rest Loss to Focus on Important
      Samples in Adversarial Training <https://arxiv.org/abs/2207.10283>`_, ICML 2023.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    kind = inputs.loss_type(x)
    weight = checks.at_least(weight, 0, kind, "weight")
    level = checks.parameter(
        threshold,
        kind,
        "threshold",
        allowed="a number, and may be infinite",
        holds=lambda v: v == v,
        inside=0.0,
    )
    x, weight = inputs.own(x, weight)
    x, level = inputs.own(x, level)
    switched = _margins(x) <= jax.lax.stop_gradient(level)
    switched &= _has_rival(x)
    loss = jnp.where(switched, _weighted(weight, _one_vs_rest(x)), cross_entropy(x)[0])
    return inputs.finish(loss, x)


def _margins(x: inputs.Inputs) -> jax.Array:
    """Returns how far each label leads, [...], without gradient; +inf: no rival."""
    logits = jax.lax.stop_gradient(x.logits)
    is_label = inputs.is_label(x.labels, logits.shape[-1])
    rival = jnp.max(jnp.where(is_label, -jnp.inf, logits), axis=-1)
    label = inputs.take_label(logits, x.labels)
    # A label of probability 0 is behind whatever there is.
    return jnp.where(label == -jnp.inf, label, label - rival)


def _has_rival(x: inputs.Inputs) -> jax.Array:
    """Returns in which rows another class than the label has a probability."""
    is_label = inputs.is_label(x.labels, x.logits.shape[-1])
    return jnp.any(~is_label & (x.logits > -jnp.inf), axis=-1)


def _one_vs_rest(x: inputs.Inputs) -> jax.Array:
    """Returns the binary cross-entropies of each row, summed, [...]."""
    is_label = inputs.is_label(x.labels, x.logits.shape[-1])
    return jnp.sum(softplus(jnp.where(is_label, -x.logits, x.logits)), axis=-1)


def _weighted(weight: jax.Array, loss: jax.Array) -> jax.Array:
    """Returns the product; what has no weight has no part, even where it is +inf."""
    return jnp.where(weight == 0, jnp.zeros((), loss.dtype), weight * loss)


@jax.jit
def _threshold(x: inputs.Inputs, share: jax.Array) -> jax.Array:
    """Returns the threshold on clean inputs; `share` is a scalar."""
    valid = ~(x.bad | x.empty)
    valid = valid if x.where is None else valid & x.where
    ordered = jnp.sort(jnp.where(valid, _margins(x), jnp.inf).ravel())
    # A share such as 0.29 of 100 is 29 of them, whatever its rounding.
    slack = 1 + 4 * float(jnp.finfo(share.dtype).eps)
    wanted = jnp.floor(share * jnp.sum(valid).astype(share.dtype) * slack)
    # NaN, of a share out of range, is no number of examples.
    count = jnp.nan_to_num(wanted).astype(jnp.int32)
    none = jnp.full((), -jnp.inf, share.dtype)
    if not ordered.size:
        return none
    return jnp.where(count == 0, none, ordered[jnp.maximum(count - 1, 0)]) + 0 * share
