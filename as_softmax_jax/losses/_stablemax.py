r"""StableMax: softmax with a function in place of the exponential that cannot overflow.

.. math::
  s(o) = \begin{cases} 1 + o & o \ge 0 \\ 1 / (1 - o) & o < 0 \end{cases}, \qquad
  \log s(o) = \mathrm{sign}(o) \log(1 + |o|)

So it is the softmax of :math:`\log s(o)`, and nothing more needs computing.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import inputs
from as_softmax_jax._core.class_axes import Axis, from_last
from as_softmax_jax._core.log_odds import label_log_odds, softplus
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Prieto et al., arXiv 2501.04697",
    use="where logits grow without end and float32 stops learning, as in grokking",
    at_zero_logits=math.log,
    shift_invariant=False,
    infinite_at_probability_0=False,
)
def stablemax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Cross-entropy by StableMax, whose gradient fades slowly.

    .. math::
      \ell = -\log p_t, \qquad p_i = \frac{s(o_i)}{\sum_j s(o_j)}, \qquad
      s(o) = \begin{cases} 1 + o & o \ge 0 \\ 1 / (1 - o) & o < 0 \end{cases}

    The gradient :math:`(p_i - [i = t]) / (1 + |o_i|)` falls as a power of the logits
    and not as their exponential, so rounding does not end it. Adding a number to all
    logits changes the loss. A label of -inf costs +inf, and has no gradient.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import stablemax_loss
      >>> logits = jnp.array([[3.0, -1.0, 0.5]])
      >>> jnp.set_printoptions(precision=4)
      >>> print(stablemax_loss(logits, jnp.array([0])))  # -log(4 / (4 + 0.5 + 1.5))
      [0.4055]

    References:
      Prieto et al., `Grokking at the Edge of Numerical Stability
      <https://arxiv.org/abs/2501.04697>`_, 2025; formula as in `the authors' code
      <https://github.com/LucasPrietoAl/grokking-at-the-edge-of-numerical-stability>`_,
      which computes it in float64.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    log_odds = label_log_odds(_log_s(x.logits), x.labels)
    return inputs.finish(softplus(-log_odds), x)


def stablemax_probs(
    logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""StableMax, in place of softmax.

    .. math::
      p_i = \frac{s(o_i)}{\sum_j s(o_j)}, \qquad
      s(o) = \begin{cases} 1 + o & o \ge 0 \\ 1 / (1 - o) & o < 0 \end{cases}

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import stablemax_probs
      >>> jnp.set_printoptions(precision=4)
      >>> print(stablemax_probs(jnp.array([[2.0, -1.0, -1.0]])))
      [[0.75  0.125 0.125]]

    References:
      Prieto et al., `Grokking at the Edge of Numerical Stability
      <https://arxiv.org/abs/2501.04697>`_, 2025.
    """
    x = inputs.read_unlabelled(logits, where, class_mask, axis)
    probs = jax.nn.softmax(_log_s(x.logits), axis=-1)
    return from_last(inputs.finish_probs(probs, x), jnp.shape(logits), axis)


def _log_s(logits: jax.Array) -> jax.Array:
    """Returns sign(o) log(1 + |o|), with its derivative of 1 at 0."""
    above = jnp.where(logits >= 0, logits, 0.0)
    below = jnp.where(logits < 0, logits, 0.0)
    return jnp.log1p(above) - jnp.log1p(-below)
