"""Softmax in which the label must win by a margin of logits: SM-Softmax.

A margin lowers the label's log-odds by a constant, see `as_softmax_jax._core.log_odds`.
"""

import math

import jax
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import log_odds_of_inputs, softplus
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Liang et al., doi 10.1007/978-3-319-70096-0_43",
    use="where the label should lead by a margin, and training may stay dense",
    at_zero_logits=lambda c: math.log1p((c - 1) * math.exp(0.5)),
    search={"margin": (0.25, 0.5, 1.0, 2.0)},
    softmax_at={"margin": 0.0},
)
def soft_margin_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.5,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy with the label's logit lowered by a margin (SM-Softmax).

    .. math::
      \ell = -\log \frac{e^{o_t - m}}{e^{o_t - m} + \sum_{j \ne t} e^{o_j}}

    The label must lead by m before it scores what it would score without a margin.
    With ``margin=0`` this is `softmax_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      margin: m, a difference of logits, at least 0 and finite; a number or an array
        that broadcasts to the shape of the loss. Traced and out of range it gives
        NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import soft_margin_softmax_loss
      >>> logits = jnp.array([[2.0, 1.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + exp(1.0 - (2.0 - 0.5)))
      >>> print(soft_margin_softmax_loss(logits, jnp.array([0]), margin=0.5))
      [0.4741]

    References:
      Liang et al., `Soft-Margin Softmax for Deep Classification
      <https://doi.org/10.1007/978-3-319-70096-0_43>`_, ICONIP 2017.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    margin = checks.at_least(margin, 0, inputs.loss_type(x), "margin")
    x, margin = inputs.own(x, margin)
    x, log_odds = log_odds_of_inputs(x)
    return inputs.finish(softplus(margin - log_odds), x)
