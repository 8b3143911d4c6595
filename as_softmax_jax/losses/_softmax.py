r"""Softmax cross-entropy and its kin: temperature, label smoothing, focal.

Each is a function of the label's log-odds, see `as_softmax_jax._core.log_odds`.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cross_entropy import cross_entropy
from as_softmax_jax._core.log_odds import (
    focal,
    log_odds_of_inputs,
    mean_below,
    rivals_of_inputs,
    softplus,
)
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Bridle, doi 10.1007/978-3-642-76153-9_28",
    use="the one to start from",
    at_zero_logits=math.log,
    linear={"delta": 1.0},
)
def softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy, one value an example.

    .. math:: \ell = -\log p_t, \qquad p_i = e^{o_i} \Big/ \sum_j e^{o_j}

    with :math:`o` the logits and :math:`t` the label. Only rounding makes it 0,
    and some rival always has a gradient, so no example ever settles.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import softmax_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(softmax_loss(logits, jnp.array([0])))  # -log(0.5)
      [0.6931]

    References:
      Bridle, `Probabilistic Interpretation of Feedforward Classification Network
      Outputs <https://doi.org/10.1007/978-3-642-76153-9_28>`_, 1990.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    loss, bad = cross_entropy(x)
    return inputs.finish(loss, x, bad)


@register_loss(
    paper="Hinton et al., arXiv 1503.02531",
    use="where probabilities should be softer or sharper in training",
    at_zero_logits=math.log,
    search={"temperature": (0.5, 2.0, 4.0)},
    softmax_at={"temperature": 1.0},
)
def temperature_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 2.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy on logits divided by a temperature (T-Softmax).

    .. math:: \ell = -\log \frac{e^{o_t / T}}{\sum_j e^{o_j / T}}

    A temperature above 1 makes the probabilities softer, so that examples which are
    already right go on to count; below 1 it makes them sharper. The gradient is
    divided by T as well; with ``temperature=1`` this is `softmax_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      temperature: T, positive and finite; a number or an array that broadcasts to
        the shape of the loss. It may be traced, and differentiated by; out of range
        it then gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import temperature_softmax_loss
      >>> logits = jnp.log(jnp.array([[0.64, 0.36]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # -log(0.8 / (0.8 + 0.6))
      >>> print(temperature_softmax_loss(logits, jnp.array([0]), temperature=2.0))
      [0.5596]

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, equation 1.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    temperature = checks.positive(temperature, inputs.loss_type(x), "temperature")
    x, temperature = inputs.own(x, temperature)
    x, log_odds = log_odds_of_inputs(x, 1 / temperature)
    return inputs.finish(softplus(-log_odds), x)


@register_loss(
    paper="Szegedy et al., arXiv 1512.00567",
    use="against overconfidence, and for better calibration",
    at_zero_logits=math.log,
    search={"smoothing": (0.05, 0.1, 0.2)},
    softmax_at={"smoothing": 0.0},
)
def label_smoothing_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    smoothing: ArrayLike = 0.1,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy against a label that shares its mass with all classes.

    .. math:: \ell = -(1 - \epsilon) \log p_t - \frac{\epsilon}{K} \sum_j \log p_j

    The sum runs over the K classes that are valid: by `class_mask`, and with a logit
    above -inf. The others carry no mass. With ``smoothing=0`` this is `softmax_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      smoothing: epsilon, the share of the mass that is spread, in [0, 1]; a number
        or an array that broadcasts to the shape of the loss. Traced and out of range
        it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import label_smoothing_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # -0.8 log(0.5) - 0.1 log(0.25) - 0.1 log(0.25)
      >>> print(label_smoothing_loss(logits, jnp.array([0]), smoothing=0.3))
      [0.8318]

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
      <https://arxiv.org/abs/1512.00567>`_, CVPR 2016, section 7.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    smoothing = checks.unit_interval(smoothing, inputs.loss_type(x), "smoothing")
    x, smoothing = inputs.own(x, smoothing)
    logits = x.logits
    x, label_logit, rivals = rivals_of_inputs(x)
    own = softplus(-rivals.log_odds(label_logit))
    share = 1 - smoothing
    # With smoothing = 1 the label has no part, even where its own loss is +inf.
    own = jnp.where(share == 0, jnp.zeros((), own.dtype), share * own)
    peak, log_total = rivals.with_label(label_logit)
    spread = smoothing * log_total + mean_below(logits, peak, smoothing, x)
    return inputs.finish(own + spread, x)


@register_loss(
    paper="Lin et al., arXiv 1708.02002",
    use="where easy examples outnumber hard ones, but none should settle",
    at_zero_logits=lambda c: (1 - 1 / c) ** 2 * math.log(c),
    search={"gamma": (0.5, 1.0, 2.0, 5.0)},
    softmax_at={"gamma": 0.0},
)
def focal_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: ArrayLike = 2.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy that weighs easy examples down.

    .. math:: \ell = -(1 - p_t)^\gamma \log p_t

    Loss and gradient shrink as :math:`p_t \to 1` but do not reach 0; both stay finite
    for every :math:`\gamma \ge 0`. With ``gamma=0`` this is `softmax_loss`; times class
    weights it is the paper's balanced form.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      gamma: the focusing exponent, at least 0 and finite; a number or an array that
        broadcasts to the shape of the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import focal_loss
      >>> logits = jnp.log(jnp.array([[0.75, 0.25]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(focal_loss(logits, jnp.array([0]), gamma=2.0))  # -0.25**2 log(0.75)
      [0.018]

    References:
      Lin et al., `Focal Loss for Dense Object Detection
      <https://arxiv.org/abs/1708.02002>`_, ICCV 2017, equation 4.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    gamma = checks.at_least(gamma, 0, inputs.loss_type(x), "gamma")
    x, gamma = inputs.own(x, gamma)
    x, log_odds = log_odds_of_inputs(x)
    return inputs.finish(focal(log_odds, gamma), x)
