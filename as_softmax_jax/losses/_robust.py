r"""Losses that noisy labels mislead less: normalised, reverse, absolute error.

A loss is normalised by what it would be for every class as the label,

.. math:: \ell_{\mathrm{norm}}(o, t) = \frac{\ell(o, t)}{\sum_j \ell(o, j)}

so that it is in [0, 1] and, summed over all labels, constant. In the words of the paper
these are *active*: they look at :math:`p_t` alone. *Passive* losses also ask the other
classes to be weak, and one of each makes the active-passive loss.
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
    rivals_of_inputs,
)
from as_softmax_jax._core.log_sum_exp import expm1
from as_softmax_jax.losses._table import register_loss

_PAPER = "Ma et al., arXiv 2006.13554"
LOG_ZERO = math.log(1e-4)


@register_loss(
    paper=_PAPER,
    use="for noisy labels, with a passive loss beside it; see `active_passive`",
    at_zero_logits=lambda c: 1 / c,
    infinite_at_probability_0=False,
)
def normalized_cross_entropy_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy over its sum for every label (NCE).

    .. math:: \ell = \frac{\log p_t}{\sum_j \log p_j}

    In [0, 1]; 1 for a label of probability 0, and 0 with one class. It is not the
    metric of click prediction that has the same name.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import normalized_cross_entropy_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log(2) / (log(2) + log(4) + log(4))
      >>> print(normalized_cross_entropy_loss(logits, jnp.array([0])))
      [0.2]

    References:
      Ma et al., `Normalized Loss Functions for Deep Learning with Noisy Labels
      <https://arxiv.org/abs/2006.13554>`_, ICML 2020; formula as in `the authors' code
      <https://github.com/HanxunH/Active-Passive-Losses>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    x, label_logit, rivals = rivals_of_inputs(x)
    loss = _normalized(x, rivals.log_probs(x, label_logit))
    return inputs.finish(loss, x, at_empty=1.0)


@register_loss(
    paper=_PAPER,
    use="for noisy labels, as `normalized_cross_entropy`, easy classes weighed down",
    at_zero_logits=lambda c: 1 / c,
    search={"gamma": (0.5, 1.0, 2.0)},
    infinite_at_probability_0=False,
    exact_gradient=False,
)
def normalized_focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 0.5,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Focal loss over its sum for every label (NFL).

    .. math::
      \ell = \frac{w_t \log p_t}{\sum_j w_j \log p_j}, \qquad w_j = (1 - p_j)^\gamma

    No gradient flows through the weights :math:`w`, above the line and below, as in the
    authors' code. With ``gamma=0`` it is `normalized_cross_entropy_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      gamma: the focusing exponent, at least 0 and finite; a number or an array that
        broadcasts to the shape of the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import normalized_focal_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # 0.5 log(2) / (0.5 log(2) + 0.75 log(4) + 0.75 log(4))
      >>> print(normalized_focal_loss(logits, jnp.array([0]), gamma=1.0))
      [0.1429]

    References:
      Ma et al., `Normalized Loss Functions for Deep Learning with Noisy Labels
      <https://arxiv.org/abs/2006.13554>`_, ICML 2020; formula and default as in `the
      authors' code <https://github.com/HanxunH/Active-Passive-Losses>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    gamma = checks.at_least(gamma, 0, inputs.loss_type(x), "gamma")
    x, gamma = inputs.own(x, gamma)
    x, label_logit, rivals = rivals_of_inputs(x)
    loss = _normalized(x, rivals.log_probs(x, label_logit), gamma)
    return inputs.finish(loss, x, at_empty=1.0)


@register_loss(
    paper=_PAPER,
    use="for noisy labels, beside an active loss; see `active_passive`",
    at_zero_logits=lambda c: -LOG_ZERO * (1 - 1 / c),
    infinite_at_probability_0=False,
)
def reverse_cross_entropy_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    log_zero: ArrayLike = LOG_ZERO,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Cross-entropy with prediction and label in each other's place (RCE).

    .. math:: \ell = -\sum_{j \ne t} p_j\, A = -A (1 - p_t)

    with the number A for the log of a probability of 0. It is
    `mean_absolute_error_loss` times :math:`-A`, which is 9.21 by default.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      log_zero: A, negative and finite, log(1e-4) by default; a number or an array that
        broadcasts to the shape of the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import reverse_cross_entropy_loss
      >>> logits = jnp.log(jnp.array([[0.75, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(reverse_cross_entropy_loss(logits, jnp.array([0]), log_zero=-4.0))
      [1.]

    References:
      Ma et al., `Normalized Loss Functions for Deep Learning with Noisy Labels
      <https://arxiv.org/abs/2006.13554>`_, ICML 2020; formula and default as in `the
      authors' code <https://github.com/HanxunH/Active-Passive-Losses>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    log_zero = checks.negative(log_zero, inputs.loss_type(x), "log_zero")
    x, log_zero = inputs.own(x, log_zero, -1.0)
    x, log_odds = log_odds_of_inputs(x)
    loss = -log_zero * one_minus_p(log_odds)
    return inputs.finish(loss, x, at_empty=-log_zero)


@register_loss(
    paper="Ghosh et al., arXiv 1712.09482",
    use="for very noisy labels; it learns slowly by itself",
    at_zero_logits=lambda c: 1 - 1 / c,
    infinite_at_probability_0=False,
)
def mean_absolute_error_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Half the absolute error of the probabilities against the label (MAE).

    .. math:: \ell = \tfrac12 \sum_j \bigl| p_j - [j = t] \bigr| = 1 - p_t

    Bounded by 1; its gradient fades where :math:`p_t` is near 0 as where it is near 1.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import mean_absolute_error_loss
      >>> logits = jnp.log(jnp.array([[0.75, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(mean_absolute_error_loss(logits, jnp.array([0])))
      [0.25]

    References:
      Ghosh et al., `Robust Loss Functions under Label Noise for Deep Neural Networks
      <https://arxiv.org/abs/1712.09482>`_, AAAI 2017; half of it, as in `later code
      <https://github.com/HanxunH/Active-Passive-Losses>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    x, log_odds = log_odds_of_inputs(x)
    return inputs.finish(one_minus_p(log_odds), x, at_empty=1.0)


_ACTIVE = ("nce", "nfl")
_PASSIVE = ("rce", "mae")


@register_loss(
    paper=_PAPER,
    use="for noisy labels: an active loss to learn by, a passive one against the noise",
    at_zero_logits=lambda c: 1 / c - LOG_ZERO * (1 - 1 / c),
    search={"passive_weight": (0.1, 1.0, 10.0)},
    infinite_at_probability_0=False,
)
def active_passive_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    active: str = "nce",
    passive: str = "rce",
    active_weight: ArrayLike = 1.0,
    passive_weight: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Active-passive loss: a normalised loss and one that is robust by itself (APL).

    .. math:: \ell = \alpha\, \ell_{\mathrm{active}} + \beta\, \ell_{\mathrm{passive}}

    The authors take :math:`(\alpha, \beta)` of (1, 1) for CIFAR-10 and (1, 10) for
    MNIST; for CIFAR-100 (10, 0.1) with ``"rce"`` and (10, 1) with ``"mae"``.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      active: ``"nce"`` for `normalized_cross_entropy_loss`, ``"nfl"`` for
        `normalized_focal_loss`, at its default.
      passive: ``"rce"`` for `reverse_cross_entropy_loss`, at its default, ``"mae"``
        for `mean_absolute_error_loss`.
      active_weight: alpha, at least 0 and finite; a number or an array that broadcasts
        to the shape of the loss. Traced and out of range it gives NaN.
      passive_weight: beta; likewise.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import active_passive_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # 0.2 + 0.5
      >>> print(active_passive_loss(logits, jnp.array([0]), passive="mae"))
      [0.7]

    References:
      Ma et al., `Normalized Loss Functions for Deep Learning with Noisy Labels
      <https://arxiv.org/abs/2006.13554>`_, ICML 2020; formula and weights as in `the
      authors' code <https://github.com/HanxunH/Active-Passive-Losses>`_.
    """
    checks.one_of(active, _ACTIVE, "active")
    checks.one_of(passive, _PASSIVE, "passive")
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    like = inputs.loss_type(x)
    active_weight = checks.at_least(active_weight, 0, like, "active_weight")
    passive_weight = checks.at_least(passive_weight, 0, like, "passive_weight")
    x, active_weight = inputs.own(x, active_weight)
    x, passive_weight = inputs.own(x, passive_weight)
    gamma = jnp.full(like.shape, 0.5, like.dtype) if active == "nfl" else None
    scale = -LOG_ZERO if passive == "rce" else 1.0
    x, label_logit, rivals = rivals_of_inputs(x)
    loss = active_weight * _normalized(x, rivals.log_probs(x, label_logit), gamma)
    error = one_minus_p(rivals.log_odds(label_logit))
    loss += passive_weight * (scale * error)
    at_empty = active_weight + passive_weight * scale
    return inputs.finish(loss, x, at_empty=at_empty)


def _normalized(
    x: inputs.Inputs, log_p: jax.Array, gamma: jax.Array | None = None
) -> jax.Array:
    """Returns -w log p at the label over its sum, with weights (1 - p)^gamma or 1.

    As a / (a + b) with a the label's own and b the others': 1 where the label has no
    probability and a is +inf, 0 without others.
    """
    is_label = inputs.is_label(x.labels, x.logits.shape[-1])
    others = (x.logits > -jnp.inf) & ~is_label
    gone = inputs.take_label(log_p, x.labels) == -jnp.inf
    # A share of each, since a sum over many classes of float32's ends overflows.
    each = -log_p / log_p.shape[-1]
    if gamma is not None:
        weights = (-expm1(log_p)) ** gamma[..., None]
        each = jax.lax.stop_gradient(weights) * each
    own = jnp.where(gone, 1.0, inputs.take_label(each, x.labels))
    rest = jnp.sum(jnp.where(others, each, 0.0), axis=-1)
    alone = ~jnp.any(others, axis=-1)
    ratio = own / jnp.where(alone, 1.0, own + rest)
    return jnp.where(gone, 1.0, jnp.where(alone, 0.0, ratio))
