r"""A yes or no of each class by the Gumbel distribution in place of the sigmoid: GOL.

.. math:: p = e^{-a}, \qquad a = e^{-o}

The binary cross-entropies are a of a class that is there, and :math:`-\log(1 - e^{-a})`
of one that is not.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import inputs
from as_softmax_jax._core.class_axes import Axis, from_last
from as_softmax_jax.losses._table import register_loss

# Below this logit a goes on as a line; the authors' code cuts here.
_LINE = -4.0
# Below this logit p and its slope are 0 to any precision, and a would overflow.
_LOWEST = -6.5


def _at_zero(c: int) -> float:
    return 1 - (c - 1) * math.log(1 - math.exp(-1))


@register_loss(
    paper="Alexandridis et al., arXiv 2207.10936",
    use="many rare classes, each a yes or no of its own, as of objects in pictures",
    at_zero_logits=_at_zero,
    zero_with_one_class=False,
    shift_invariant=False,
)
def gumbel_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Binary cross-entropy of each class with the Gumbel activation (GOL).

    .. math::
      \ell = e^{-o_t} - \sum_{j \ne t} \log \bigl(1 - e^{-e^{-o_j}}\bigr)

    A class that is there is pushed up the harder the further it is off, by
    :math:`e^{-o}`; below a logit of -4 this goes on as a line,
    :math:`-e^4 (3 + o)`, with the slope that it has there.

    The authors' code cuts logits to [-4, 10] in place of this, because the formula
    overflows below and has no digits above. Within, losses and gradients are the same;
    outside it has a gradient of exactly 0 and a constant loss, for the worst labels
    too, and here the closed form holds at either end. Nor is the loss of all examples
    cut to [0, 20]. The authors start with a bias of -2 in the output layer, as most
    classes are not there; the weights that leave out rare classes, for detectors, are
    not a part of this.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import gumbel_loss
      >>> logits = -jnp.log(jnp.log(jnp.array([[4.0, 2.0]])))  # p = (1/4, 1/2)
      >>> jnp.set_printoptions(precision=4)
      >>> print(gumbel_loss(logits, jnp.array([0])))  # -log(1/4) - log(1 - 1/2)
      [2.0794]

    References:
      Alexandridis et al., `Long-tailed Instance Segmentation using Gumbel Optimized
      Loss <https://arxiv.org/abs/2207.10936>`_, ECCV 2022, after `the authors' code
      <https://github.com/kostas1515/GOL>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    return inputs.finish(_loss(inputs.as_multi_hot(x)), x)


@register_loss(
    paper="Alexandridis et al., arXiv 2207.10936",
    use="the same for several labels",
    at_zero_logits=_at_zero,
    baseline="multi_label_sigmoid",
    zero_with_one_class=False,
    shift_invariant=False,
)
def multi_label_gumbel_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Binary cross-entropy with the Gumbel activation, for several labels (GOL).

    .. math::
      \ell = \sum_{t \in \mathcal{P}} e^{-o_t}
             - \sum_{j \in \mathcal{N}} \log \bigl(1 - e^{-e^{-o_j}}\bigr)

    A class has a probability above one half where its logit is above
    :math:`-\log \log 2`, 0.37. What differs from the authors' code: see `gumbel_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_gumbel_loss
      >>> logits = -jnp.log(jnp.log(jnp.array([[4.0, 2.0]])))  # p = (1/4, 1/2)
      >>> jnp.set_printoptions(precision=4)
      >>> print(multi_label_gumbel_loss(logits, jnp.array([[1, 1]])))  # log(4) + log(2)
      [2.0794]

    References:
      Alexandridis et al., `Long-tailed Instance Segmentation using Gumbel Optimized
      Loss <https://arxiv.org/abs/2207.10936>`_, ECCV 2022, after `the authors' code
      <https://github.com/kostas1515/GOL>`_.
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    return inputs.finish(_loss(x), x)


def gumbel_probs(
    logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""The probability of each class by itself, in place of the sigmoid.

    .. math:: p_i = e^{-e^{-o_i}}

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import gumbel_probs
      >>> jnp.set_printoptions(precision=4)
      >>> print(gumbel_probs(jnp.array([[0.0, 4.6]])))  # 1 / e
      [[0.3679 0.99  ]]

    References:
      Alexandridis et al., `Long-tailed Instance Segmentation using Gumbel Optimized
      Loss <https://arxiv.org/abs/2207.10936>`_, ECCV 2022.
    """
    x = inputs.read_unlabelled(logits, where, class_mask, axis)
    probs = jnp.exp(-jnp.exp(-jnp.maximum(x.logits, _LOWEST)))
    # Exactly 0 at -inf, where float64 has a number of 1e-289.
    probs = jnp.where(x.logits == -jnp.inf, 0, probs)
    return from_last(inputs.finish_probs(probs, x), jnp.shape(logits), axis)


def _loss(x: inputs.MultiHotInputs) -> jax.Array:
    """Returns the sum over the known classes of each row, [...]."""
    # Not by a maximum, whose derivative is one half where both are equal.
    far = x.logits < _LINE
    falling = jnp.exp(-jnp.where(far, _LINE, x.logits))
    line = math.exp(-_LINE) * (1 + _LINE - x.logits)
    there = jnp.where(far, line, falling)
    each = jnp.where(x.positives, there, _absent(x.logits))
    return jnp.sum(each, axis=-1, where=x.positives | x.negatives)


@jax.custom_jvp
def _absent(logits: jax.Array) -> jax.Array:
    """Returns -log(1 - e^-a), which is -log a, so the logit, where a is small."""
    above = jnp.maximum(logits, 0)
    small = jnp.exp(-above)
    # (1 - e^-a) / a, and 1 where a underflows.
    ratio = jnp.where(small > 0, -jnp.expm1(-small) / jnp.where(small > 0, small, 1), 1)
    large = jnp.exp(-jnp.clip(logits, _LOWEST, 0))
    below = -jnp.log1p(-jnp.exp(-large))
    return jnp.where(logits > 0, above - jnp.log(ratio), below)


@_absent.defjvp
def _absent_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    (logits,) = primals
    return _absent(logits), _slope(logits) * tangents[0]


def _slope(logits: jax.Array) -> jax.Array:
    """Returns a / (e^a - 1), from 0 at -inf to 1 at +inf."""
    a = jnp.exp(-jnp.maximum(logits, _LOWEST))
    # Of a small a the quotient's derivative is a difference of close numbers.
    near = a < 0.05
    large = jnp.where(near, jnp.ones((), a.dtype), a)
    quotient = large * jnp.exp(-large) / -jnp.expm1(-large)
    series = 1 - a / 2 + a**2 / 12 - a**4 / 720 + a**6 / 30240
    slope = jnp.where(near, series, quotient)
    return jnp.where(logits < _LOWEST, jnp.zeros((), slope.dtype), slope)
