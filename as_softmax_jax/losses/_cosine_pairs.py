"""Losses of each class's cosine against the label's: Real AM-Softmax, circle."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import label_log_odds, scaled, shifted, softplus
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Li et al., arXiv 2110.09116",
    use="cosines, with exact zeros for examples beyond the margin",
    at_zero_logits=lambda c: math.log1p((c - 1) * math.exp(30.0 * 0.2)) - math.log(c),
    input="cosines",
    search={"margin": (0.1, 0.2, 0.35)},
)
def real_am_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.2,
    scale: ArrayLike = 30.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax on cosines in which classes beyond the margin weigh alike (Real AM).

    .. math::
      \ell = \log \frac{1 + \sum_{j \ne t} e^{\max(0,\, s (c_j - c_t + m))}}{K}

    with K the number of valid classes. A class that the label leads by m or more has a
    gradient of exactly 0, and an example is *settled* when all are: then the sum is K.
    The paper's loss is this plus :math:`\log K`, a constant. The formula is as it is
    cited; the authors' code sets the logit of a class beyond the margin to 0, and not
    its gap, which is another loss.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      margin: m, a difference of cosines, at least 0 and finite; a number or an array
        that broadcasts to the shape of the loss. Traced and out of range it gives NaN.
      scale: s, positive and finite; likewise.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import real_am_softmax_loss
      >>> cosines = jnp.array([[0.9, 0.4, -0.1]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log((1 + 1 + 1) / 3), log((1 + e^(10 (0.9 - 0.4 + 0.1)) + 1) / 3)
      >>> print(real_am_softmax_loss(
      ...     jnp.tile(cosines, (2, 1)), jnp.array([0, 1]), margin=0.1, scale=10.0
      ... ))
      [0.     4.9063]

    References:
      Li et al., `Real Additive Margin Softmax for Speaker Verification
      <https://arxiv.org/abs/2110.09116>`_, ICASSP 2022, after the abstract.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    x, z, own = _label_lowered(x, margin, scale)
    # Gaps from the label's logit; where that is -inf, the logits themselves.
    lost = own == -jnp.inf
    zero = jnp.zeros((), z.dtype)
    base = jnp.where(lost, zero, own)[..., None]
    # In a bad row the NaN passes back through every gap.
    within = (z > base) | (lost | x.bad)[..., None]
    gaps = jnp.where(within, z - base, zero)
    valid = x.logits > -jnp.inf
    gaps = jnp.where(valid, gaps, -jnp.inf)
    is_label = inputs.is_label(x.labels, z.shape[-1])
    gaps = jnp.where(is_label, jnp.where(lost, own, zero)[..., None], gaps)
    num_valid = jnp.sum((valid | is_label).astype(z.dtype), axis=-1)
    loss = softplus(-label_log_odds(gaps, x.labels)) - jnp.log(num_valid)
    return inputs.finish(jnp.where(_beyond(x, z, own), zero, loss), x)


def real_am_softmax_settled(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.2,
    scale: ArrayLike = 30.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Whether the label leads by the margin, so `real_am_softmax_loss` is exactly 0.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import real_am_softmax_settled
      >>> cosines = jnp.array([[0.9, 0.4, -0.1], [0.5, 0.4, -0.1]])
      >>> print(real_am_softmax_settled(cosines, jnp.array([0, 0])))
      [ True False]
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    x, z, own = _label_lowered(x, margin, scale)
    settled = _beyond(x, z, own) & ~x.empty
    return settled if x.where is None else settled | ~x.where


def _label_lowered(
    x: inputs.Inputs, margin: ArrayLike, scale: ArrayLike
) -> tuple[inputs.Inputs, jax.Array, jax.Array]:
    """Returns the inputs, scaled logits [..., C], and the label's less s m, [...]."""
    like = inputs.loss_type(x)
    x, margin = inputs.own(x, checks.at_least(margin, 0, like, "margin"))
    x, scale = inputs.own(x, checks.positive(scale, like, "scale"))
    z = scaled(shifted(x.logits), scale)
    return x, z, inputs.take_label(z, x.labels) - scale * margin


def _beyond(x: inputs.Inputs, z: jax.Array, own: jax.Array) -> jax.Array:
    """Returns whether the label leads every other class by the margin, [...]."""
    others = jnp.where(inputs.is_label(x.labels, z.shape[-1]), -jnp.inf, z)
    lead = jnp.max(others, axis=-1) <= own
    # With a label of -inf only a row without a rival would pass, and it is lost.
    return ~x.bad & lead & ((own > -jnp.inf) | (jnp.max(others, axis=-1) > -jnp.inf))


@register_loss(
    paper="Sun et al., arXiv 2002.10857",
    use="cosines, each weighed by how far off it is",
    exact_gradient=False,
    at_zero_logits=lambda c: math.log1p((c - 1) * math.exp(256.0 * (0.9375 - 0.0625))),
    input="cosines",
    search={"margin": (0.25, 0.4)},
    shift_invariant=False,
)
def circle_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.25,
    scale: ArrayLike = 256.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Circle loss with class weights: each cosine is weighed by how far off it is.

    .. math::
      \ell = \log \Bigl(1 + \sum_{j \ne t} e^{s\, [c_j + m]_+ (c_j - m)}\;
             e^{-s\, [1 + m - c_t]_+ (c_t - 1 + m)} \Bigr)

    No gradient flows through the weights :math:`[\cdot]_+`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      margin: m, at least 0 and finite; a number or an array that broadcasts to the
        shape of the loss. Traced and out of range it gives NaN.
      scale: s, positive and finite; likewise.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import circle_loss
      >>> cosines = jnp.array([[0.75, 0.25]])
      >>> jnp.set_printoptions(precision=4)
      >>> # both at their margin of 0.25: log(1 + e^0 e^0)
      >>> print(circle_loss(cosines, jnp.array([0])))
      [0.6931]

    References:
      Sun et al., `Circle Loss: A Unified Perspective of Pair Similarity Optimization
      <https://arxiv.org/abs/2002.10857>`_, CVPR 2020; defaults as in
      `pytorch-metric-learning
      <https://github.com/KevinMusgrave/pytorch-metric-learning>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    like = inputs.loss_type(x)
    x, margin = inputs.own(x, checks.at_least(margin, 0, like, "margin"))
    x, scale = inputs.own(x, checks.positive(scale, like, "scale"))
    m, s = margin[..., None], scale[..., None]
    absent = x.logits == -jnp.inf
    zero = jnp.zeros((), x.logits.dtype)
    c = jnp.where(absent, zero, x.logits)
    weight = jax.lax.stop_gradient(c)
    rivals = s * jnp.maximum(weight + m, zero) * (c - m)
    own = s * jnp.maximum(1 + m - weight, zero) * (c - 1 + m)
    is_label = inputs.is_label(x.labels, c.shape[-1])
    # A logit of -inf stays one, and as a label it is pulled up.
    lost = x.logits * jax.lax.stop_gradient(s)
    pairs = jnp.where(absent, lost, jnp.where(is_label, own, rivals))
    return inputs.finish(softplus(-label_log_odds(pairs, x.labels)), x)
