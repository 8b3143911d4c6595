"""Softmax cross-entropy and a penalty on the logits: MaxSup, squentropy."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import (
    log_odds_of_inputs,
    mean_below,
    softplus,
)
from as_softmax_jax._core.squares import square
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Zhou et al., arXiv 2502.15798",
    use="in place of label smoothing, where wrong predictions should not be spared",
    at_zero_logits=math.log,
    search={"weight": (0.05, 0.1, 0.2)},
    softmax_at={"weight": 0.0},
)
def maxsup_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike = 0.1,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy that holds the largest logit down (MaxSup).

    .. math:: \ell = -\log p_t + w \Bigl(\max_j o_j - \frac1K \sum_j o_j\Bigr)

    Label smoothing penalises the label's logit where this penalises the largest, so
    the two are one where the label is the largest. The mean runs over the K classes
    that are valid: by `class_mask`, and with a logit above -inf. Logits that tie for
    the largest share its gradient. With ``weight=0`` this is `softmax_loss`; the
    penalty is not 0 at the optimum.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      weight: w, at least 0 and finite; a number or an array that broadcasts to the
        shape of the loss. Traced and out of range it gives NaN. The authors let it grow
        from 0.1 to 0.2 over training.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import maxsup_loss
      >>> logits = jnp.array([[1.0, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + e) + 0.2 (1 - 0.5)
      >>> print(maxsup_loss(logits, jnp.array([1]), weight=0.2))
      [1.4133]

    References:
      Zhou et al., `MaxSup <https://arxiv.org/abs/2502.15798>`_, NeurIPS 2025; formula
      and default as in `the authors' code
      <https://github.com/ZhouYuxuanYX/Maximum-Suppression-Regularization>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    weight = checks.at_least(weight, 0, inputs.loss_type(x), "weight")
    x, weight = inputs.own(x, weight)
    logits = x.logits
    x, log_odds = log_odds_of_inputs(x)
    lead = mean_below(logits, jnp.max(x.logits, axis=-1), weight, x)
    return inputs.finish(softplus(-log_odds) + lead, x)


@register_loss(
    paper="Hui et al., arXiv 2302.03952",
    use="to hold the logits of wrong classes near 0, without a parameter to tune",
    at_zero_logits=math.log,
    shift_invariant=False,
    linear_growth=False,
)
def squentropy_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy and the mean square of the other logits (squentropy).

    .. math:: \ell = -\log p_t + \frac{1}{K - 1} \sum_{j \ne t} o_j^2

    The sum runs over the K - 1 other classes that are valid: by `class_mask`, and with
    a logit above -inf; without any it is 0. So logits have a place of their own: adding
    a number to all of them changes the loss.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import squentropy_loss
      >>> logits = jnp.array([[1.0, 2.0, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(e + e^2 + 1) - 1 + (4 + 0) / 2
      >>> print(squentropy_loss(logits, jnp.array([0])))
      [3.4076]

    References:
      Hui et al., `Cut your Losses with Squentropy <https://arxiv.org/abs/2302.03952>`_,
      ICML 2023; formula as in `the authors' code
      <https://github.com/Like-Hui/Squentropy-for-classification>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    # As they came: a pass over clean ones costs two.
    others = jnp.isfinite(x.logits)
    others &= ~inputs.is_label(x.labels, x.logits.shape[-1])
    squares = square(jnp.where(others, x.logits, 0.0))
    x, log_odds = log_odds_of_inputs(x)
    number = jnp.maximum(jnp.sum(others, axis=-1), 1).astype(squares.dtype)
    loss = softplus(-log_odds) + jnp.sum(squares, axis=-1) / number
    return inputs.finish(loss, x)
