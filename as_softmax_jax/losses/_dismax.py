r"""Softmax on distances from the features to each class: DisMax, IsoMax+."""

import math

import jax
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import log_odds_of_inputs, softplus
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Macedo et al., arXiv 2205.05874",
    use="where inputs may be of no class at all: distances tell, by a score",
    at_zero_logits=math.log,
    input="distances",
    search={"scale": (5.0, 10.0, 20.0)},
)
def dismax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 10.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax on distances below 0, sharpened in training alone (DisMax).

    .. math:: \ell = -\log \frac{e^{s o_t}}{\sum_j e^{s o_j}}

    with o the logits of `as_softmax_jax.heads.distance_logits`. Predictions and
    `as_softmax_jax.scores.max_mean_entropy_score` take the logits without the scale.
    The mean distance in them is the same for every class, so the loss does not see it,
    and is that of IsoMax+. The paper's regulariser, which mixes quarters of images, is
    an augmentation and no part of this.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      scale: s, positive and finite; a number or an array that broadcasts to the shape
        of the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import dismax_loss
      >>> logits = jnp.array([[-0.1, -0.3]])
      >>> jnp.set_printoptions(precision=4)
      >>> print(dismax_loss(logits, jnp.array([0])))  # log(1 + e^(10 (0.1 - 0.3)))
      [0.1269]

    References:
      Macêdo et al., `Distinction Maximization Loss
      <https://arxiv.org/abs/2205.05874>`_, 2022, after `the authors' code
      <https://github.com/dlmacedo/distinction-maximization-loss>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    x, scale = inputs.own(x, checks.positive(scale, inputs.loss_type(x), "scale"))
    x, log_odds = log_odds_of_inputs(x, scale)
    return inputs.finish(softplus(-log_odds), x)
