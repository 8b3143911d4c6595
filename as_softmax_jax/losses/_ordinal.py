r"""Ordered classes: C - 1 thresholds between C ranks, as CORAL has them."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cross_entropy import binary_cross_entropy
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Cao et al., arXiv 1901.07884",
    use="for classes in order, such as ratings: near answers cost less than far ones",
    at_zero_logits=lambda c: (c - 1) * math.log(2),
    input="thresholds",
    zero_with_one_class=False,
    shift_invariant=False,
    symmetric=False,
)
def ordinal_cross_entropy_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Cross-entropy of ordered classes: whether the label passes each threshold.

    .. math::
      \ell = \sum_{k=0}^{C-2} \Bigl(\log(1 + e^{o_k}) - [\, k < t \,]\, o_k\Bigr),
      \qquad P(y > k) = \frac{1}{1 + e^{-o_k}}

    C classes in order, 0 to C - 1, have C - 1 thresholds between them, and `logits` one
    entry for each: [..., C - 1]. An answer near the label costs less than one far
    off. The prediction is the number of k with :math:`o_k > 0`, and `ordinal_probs` are
    the probabilities. With two classes this is the logistic loss.

    Shared arguments, and what comes out: `as_softmax_jax.losses`. As the logits are of
    thresholds, so is `class_mask`: a threshold left out has no part in the sum.

    Args:
      labels: integers in [0, C), C being one more than there are logits.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import ordinal_cross_entropy_loss
      >>> logits = jnp.log(jnp.array([[4.0, 0.5]]))  # P(y > 0) = 4/5, P(y > 1) = 1/3
      >>> jnp.set_printoptions(precision=4)
      >>> print(ordinal_cross_entropy_loss(logits, jnp.array([1])))  # -log(4/5 * 2/3)
      [0.6286]

    References:
      Cao et al., `Rank Consistent Ordinal Regression for Neural Networks
      <https://arxiv.org/abs/1901.07884>`_, 2020 (CORAL, in which all thresholds share
      one score); the sum over thresholds as in `the code
      <https://github.com/ck37/coral-ordinal>`_ of Kennedy et al., `Constructing
      interval variables <https://arxiv.org/abs/2009.10277>`_, 2020, who name the loss.
    """
    x = inputs.read_ranks(logits, labels, where, class_mask, axis)
    return inputs.finish(binary_cross_entropy(x), x)


def ordinal_probs(logits: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Probabilities of C ordered classes from the logits of C - 1 thresholds.

    .. math::
      P(0) = 1 - \sigma(o_0), \qquad P(k) = \sigma(o_{k-1}) - \sigma(o_k), \qquad
      P(C - 1) = \sigma(o_{C-2})

    They sum to 1. Where the logits do not fall from threshold to threshold some are
    negative, and stay so.

    Args:
      logits: floating point [..., C - 1], those of `ordinal_cross_entropy_loss`.
      axis: of the thresholds.

    Returns:
      The probabilities, [..., C], with the classes at `axis`; float32, or float64 for
      float64 logits.

    Raises:
      TypeError: `logits` are not floating point, or `axis` is no integer.
      ValueError: `logits` have no such axis, or none on it.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import ordinal_probs
      >>> jnp.set_printoptions(precision=4)
      >>> # P(y > 0) = 4/5, P(y > 1) = 1/3
      >>> print(ordinal_probs(jnp.log(jnp.array([[4.0, 0.5]]))))
      [[0.2    0.4667 0.3333]]

    References:
      Kennedy et al., `Constructing interval variables
      <https://arxiv.org/abs/2009.10277>`_, 2020, after `their code
      <https://github.com/ck37/coral-ordinal>`_.
    """
    array = checks.floating_array(logits, "logits")
    (place,) = checks.class_axes(array.ndim, axis)
    checks.at_least_one_class(array.shape[place])
    array = jnp.moveaxis(array.astype(compute_dtype(array.dtype)), place, -1)
    first, last = jax.nn.sigmoid(-array[..., :1]), jax.nn.sigmoid(array[..., -1:])
    above, below = array[..., :-1], array[..., 1:]
    # Of numbers near 1 the difference is that of their complements.
    high = above + below > 0
    upper = jax.nn.sigmoid(jnp.where(high, -below, above))
    lower = jax.nn.sigmoid(jnp.where(high, -above, below))
    return jnp.moveaxis(
        jnp.concatenate([first, upper - lower, last], axis=-1), -1, place
    )
