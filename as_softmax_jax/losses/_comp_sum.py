"""Softmax losses with another curve than the logarithm: comp-sum, PolyLoss.

Each is a function of softmax cross-entropy, so of the label's log-odds, see
`as_softmax_jax._core.log_odds`.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import (
    log_odds_of_inputs,
    one_minus_p,
    softplus,
)
from as_softmax_jax._core.log_probs import log_probs
from as_softmax_jax._core.log_sum_exp import expm1
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Leng et al., arXiv 2204.12511",
    use="to pull harder (epsilon above 0) or less on labels that are right already",
    at_zero_logits=lambda c: math.log(c) + 2 * (1 - 1 / c),
    distributions=True,
    search={"epsilon": (-1.0, 1.0, 2.0, 4.0)},
    softmax_at={"epsilon": 0.0},
)
def poly_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    epsilon: ArrayLike = 2.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy with another weight of its first power (Poly-1).

    .. math:: \ell = -\log p_t + \epsilon (1 - p_t)

    Cross-entropy is the sum of :math:`(1 - p_t)^k / k`; this loss changes the first of
    its weights from 1 to :math:`1 + \epsilon`. With ``epsilon=0`` it is `softmax_loss`.
    The loss of a distribution q is the mean over labels drawn from it,

    .. math:: \ell = \sum_j q_j \bigl(-\log p_j + \epsilon (1 - p_j)\bigr)

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      epsilon: the weight, at least -1, below which a better :math:`p_t` would cost
        more, and finite; a number or an array that broadcasts to the shape of the
        loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import poly_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(poly_loss(logits, jnp.array([0]), epsilon=1.0))  # -log(0.5) + 0.5
      [1.1931]
      >>> # half of that, and half of -log(0.25) + 0.75
      >>> print(poly_loss(logits, jnp.array([[0.5, 0.5, 0.0]]), epsilon=1.0))
      [1.6647]

    References:
      Leng et al., `PolyLoss <https://arxiv.org/abs/2204.12511>`_, ICLR 2022; formula
      and default as in optax's ``poly_loss_cross_entropy``, which reports 2 for
      ImageNet and -1 for detection.
    """
    x = inputs.read_soft(logits, labels, where, class_mask, axis, clean=False)
    epsilon = checks.at_least(epsilon, -1, inputs.loss_type(x), "epsilon")
    x, epsilon = inputs.own(x, epsilon)
    if isinstance(x, inputs.DistributionInputs):
        log_p = log_probs(x.logits)
        each = -log_p - epsilon[..., None] * expm1(log_p)
        return inputs.finish(inputs.expected(each, x), x)
    x, log_odds = log_odds_of_inputs(x)
    loss = softplus(-log_odds) + epsilon * one_minus_p(log_odds)
    return inputs.finish(loss, x)


@register_loss(
    paper="Mao et al., arXiv 2304.07288",
    use="for noisy labels, by one number between cross-entropy and 1 - p",
    at_zero_logits=lambda c: (1 - c**-0.7) / 0.7,
    example_keywords={"tau": 1.7},
    search={"tau": (1.3, 1.5, 1.7, 2.0)},
    softmax_at={"tau": 1.0},
    infinite_at_probability_0=False,
)
def comp_sum_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    tau: ArrayLike,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Comp-sum loss: a family of functions of the sum over the label's rivals.

    .. math::
      \ell = \Phi_\tau\Bigl(\sum_{j \ne t} e^{o_j - o_t}\Bigr)
           = \frac{p_t^{\tau - 1} - 1}{1 - \tau}, \qquad
      \Phi_\tau(u) = \frac{(1 + u)^{1 - \tau} - 1}{1 - \tau}, \quad
      \Phi_1(u) = \log(1 + u)

    With tau of

    - 0 it is :math:`1 / p_t - 1`, the sum of exponentials;
    - 1, `softmax_loss`;
    - between 1 and 2, generalised cross-entropy (Zhang and Sabuncu) of q = tau - 1;
    - 2, :math:`1 - p_t`, which is `mean_absolute_error_loss`.

    Above 1 it is bounded by :math:`1 / (\tau - 1)`, so that a wrong label costs little,
    and the gradient of a row without hope is near 0. Below 1 loss and gradient grow as
    a power of :math:`1 / p_t`, and overflow to inf where :math:`p_t` is very small.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      tau: the family's exponent, at least 0 and finite; a number or an array that
        broadcasts to the shape of the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import comp_sum_loss
      >>> logits = jnp.log(jnp.array([[0.64, 0.36]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(comp_sum_loss(logits, jnp.array([0]), tau=1.5))  # 2 (1 - 0.8)
      [0.4]
      >>> print(comp_sum_loss(logits, jnp.array([0]), tau=0.0))  # 1 / 0.64 - 1
      [0.5625]

    References:
      Mao, Mohri and Zhong, `Cross-Entropy Loss Functions: Theoretical Analysis and
      Applications <https://arxiv.org/abs/2304.07288>`_, ICML 2023, after the abstract,
      which names the members; the members from 1 to 2 agree with `code on noisy labels
      <https://github.com/HanxunH/Active-Passive-Losses>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    tau = checks.at_least(tau, 0, inputs.loss_type(x), "tau")
    x, tau = inputs.own(x, tau)
    x, log_odds = log_odds_of_inputs(x)
    cross_entropy = softplus(-log_odds)
    # Over a mesh as the loss lies, which a select asks for.
    tau += jnp.zeros_like(cross_entropy)
    curved = tau != 1
    # Where it is not curved the other form has a -1 to work on, which gives no inf.
    power = jnp.where(curved, 1 - tau, -1.0)
    loss = expm1(power * cross_entropy) / power
    loss = jnp.where(curved, loss, cross_entropy)
    bound = jnp.where(power < 0, -1 / power, jnp.inf)
    return inputs.finish(loss, x, at_empty=jnp.where(curved, bound, jnp.inf))
