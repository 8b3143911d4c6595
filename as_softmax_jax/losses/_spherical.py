"""Losses of the spherical family: the Z-loss, by the label's standard score."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="de Brébisson and Vincent, arXiv 1604.08859",
    use="for many classes, where the scale of the logits should not matter",
    at_zero_logits=lambda _: math.log(2),
    search={"scale": (0.5, 1.0, 2.0, 4.0)},
    zero_with_one_class=False,
    infinite_at_probability_0=False,
    ranks_equal_logits=False,
)
def spherical_z_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 1.0,
    shift: ArrayLike = 0.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Z-loss: how many standard deviations the label's logit is above the mean.

    .. math::
      \ell = \frac1a \log\bigl(1 + e^{a (b - z_t)}\bigr), \qquad
      z_t = \frac{o_t - \mu}{\sigma}, \quad
      \mu = \frac1K \sum_j o_j, \quad \sigma^2 = \frac1K \sum_j (o_j - \mu)^2

    over the K classes that are valid: by `class_mask`, and with a logit above -inf.
    The scale of the logits has no part in it, so that :math:`z_t \le \sqrt{K - 1}` and
    the loss has a least value above 0. Where all logits are equal the gradient is 0,
    and **with two classes it always is**, for :math:`z_t` is 1 or -1: there is nothing
    to learn by. A label of probability 0 has the least score that there is.

    Logits that all start equal, as of a layer of zeros, never move. The loss is not the
    penalty :math:`\log^2 \sum_j e^{o_j}` of T5X and PaLM, also called z-loss.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      scale: a, positive and finite; a number or an array that broadcasts to the shape
        of the loss. Traced and out of range it gives NaN.
      shift: b, a finite number of standard deviations, below which the loss pulls
        hardest; likewise.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import spherical_z_loss
      >>> logits = jnp.array([[3.0, 0.0, 0.0, 0.0, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> print(spherical_z_loss(logits, jnp.array([0])))  # log(1 + e^-2)
      [0.1269]

    References:
      de Brébisson and Vincent, `The Z-loss: a shift and scale invariant classification
      loss belonging to the Spherical Family <https://arxiv.org/abs/1604.08859>`_, 2016.
      Formula at the defaults as in `an author's code
      <https://github.com/pascal20100/factored_output_layer>`_; a and b after a summary
      of the paper, whose values of them could not be read.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    scale = checks.positive(scale, inputs.loss_type(x), "scale")
    shift = checks.finite(shift, inputs.loss_type(x), "shift")
    x, scale = inputs.own(x, scale)
    x, shift = inputs.own(x, shift, 0.0)
    loss = softplus(scale * (shift - _standard_score(x))) / scale
    at_empty = softplus(scale * shift) / scale
    return inputs.finish(inputs.reaching_all(loss, x), x, at_empty=at_empty)


def _standard_score(x: inputs.Inputs) -> jax.Array:
    """Returns (o - mean) / deviation at the label; 0 where all logits are equal.

    1. Sixteenths less the largest, so that no difference overflows and no reciprocal
       underflows, over the size of the largest difference: neither step changes the
       score, and so neither has a derivative.
    2. Mean, then centred squares: one pass for both would lose the digits of a small
       deviation.
    """
    present = x.logits > -jnp.inf
    peak, number = jnp.max(x.logits, axis=-1, keepdims=True), jnp.sum(present, axis=-1)
    below = jnp.where(present, x.logits / 16 - jax.lax.stop_gradient(peak) / 16, 0.0)
    size = jax.lax.stop_gradient(jnp.max(-below, axis=-1))
    equal = size < 1e3 * jnp.finfo(size.dtype).tiny
    below /= jnp.where(equal, 1.0, size)[..., None]

    number = number.astype(below.dtype)
    mean = jnp.sum(below, axis=-1) / number
    centred = jnp.where(present, below - mean[..., None], 0.0)
    variance = jnp.sum(centred * centred, axis=-1) / number
    deviation = jnp.sqrt(jnp.where(equal, 1.0, variance))
    score = jnp.where(equal, 0.0, inputs.take_label(centred, x.labels) / deviation)
    gone = ~inputs.take_label(present, x.labels)
    return jnp.where(gone, -jnp.sqrt(number), score)
