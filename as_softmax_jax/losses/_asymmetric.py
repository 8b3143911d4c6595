r"""Asymmetric losses (ASL), in which easy negatives weigh less than positives.

They are focal losses with one exponent for labels and another for the other classes.
"Asymmetric loss functions" for noisy labels (Zhou et al., 2021) are others.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import focal, rivals_of_inputs, softplus
from as_softmax_jax.losses._table import register_loss

_PAPER = "Ben-Baruch et al., arXiv 2009.14119"


@register_loss(
    paper=_PAPER,
    use="for several labels among many classes, nearly all of them negative",
    at_zero_logits=lambda c: math.log(2) - (c - 1) * 0.45**4 * math.log(0.55),
    search={"gamma_neg": (1.0, 2.0, 4.0)},
    zero_with_one_class=False,
    shift_invariant=False,
    labels_settle=False,
)
def multi_label_asymmetric_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    gamma_neg: ArrayLike = 4.0,
    gamma_pos: ArrayLike = 0.0,
    clip: ArrayLike = 0.05,
    stop_weight_gradient: bool = False,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Binary cross-entropy that weighs easy negatives down, and leaves some out (ASL).

    .. math::
      \ell = -\sum_{t \in P} (1 - p_t)^{\gamma_+} \log p_t
             -\sum_{i \in N} \bar p_i^{\,\gamma_-} \log(1 - \bar p_i), \qquad
      \bar p_i = \max(p_i - c, 0)

    with :math:`p` the sigmoid of the logits. The prediction is :math:`o_i > 0`. A
    negative with :math:`p_i \le c` has a loss and a gradient of exactly 0, and a row
    without positives is *settled* when all its classes have; a row with a positive
    never is. A negative that is surely wrong, :math:`p_i` near 1, has next to no
    gradient, which the paper means: it may be a label that was forgotten.

    With both exponents and the clip at 0 it is `multi_label_sigmoid_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      gamma_neg: the exponent of negatives, at least 0 and finite; a number or an array
        that broadcasts to the shape of the loss. Traced and out of range it gives NaN.
      gamma_pos: that of positives; likewise.
      clip: c, a probability in [0, 1]; likewise.
      stop_weight_gradient: whether the weights, powers of probabilities, count as
        constants in the gradient; a Python bool. The authors train so.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_asymmetric_loss
      >>> logits = jnp.array([[0.0, 0.0, -3.0]])  # p = 0.5, 0.5, 0.047
      >>> jnp.set_printoptions(precision=4)
      >>> # -log(0.5) - 0.45^4 log(0.55) - 0
      >>> print(multi_label_asymmetric_loss(logits, jnp.array([[1, 0, 0]])))
      [0.7177]

    References:
      Ben-Baruch et al., `Asymmetric Loss For Multi-Label Classification
      <https://arxiv.org/abs/2009.14119>`_, ICCV 2021; formula and defaults as in `the
      authors' code <https://github.com/Alibaba-MIIL/ASL>`_, which adds the rows and
      bounds probabilities from below, so that a positive below -18.4 learns nothing.
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    like = inputs.loss_type(x)
    gamma_neg = checks.at_least(gamma_neg, 0, like, "gamma_neg")
    gamma_pos = checks.at_least(gamma_pos, 0, like, "gamma_pos")
    clip = checks.unit_interval(clip, like, "clip")
    x, gamma_neg = inputs.own(x, gamma_neg)
    x, gamma_pos = inputs.own(x, gamma_pos)
    x, clip = inputs.own(x, clip)
    shape = x.logits.shape
    positives = _positive(
        jnp.where(x.positives, x.logits, 0.0),
        jnp.broadcast_to(gamma_pos[..., None], shape),
        constant=stop_weight_gradient,
    )
    negatives = _negative(
        x.logits,
        jnp.broadcast_to(gamma_neg[..., None], shape),
        clip[..., None],
        constant=stop_weight_gradient,
    )
    each = jnp.where(x.positives, positives, 0.0)
    each += jnp.where(x.negatives, negatives, 0.0)
    return inputs.finish(inputs.reaching_all(jnp.sum(each, axis=-1), x), x)


def multi_label_asymmetric_settled(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    gamma_neg: ArrayLike = 4.0,
    gamma_pos: ArrayLike = 0.0,
    clip: ArrayLike = 0.05,
    stop_weight_gradient: bool = False,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Whether a row has no positive, and no class above the clip: loss exactly 0.

    .. math:: \text{settled} \iff P = \emptyset \ \text{ and } \ p_i \le c
      \quad \forall i \in N

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      gamma_neg: has no part in it.
      gamma_pos: has no part in it.
      clip: c, a probability in [0, 1].
      stop_weight_gradient: has no part in it.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_asymmetric_settled
      >>> logits = jnp.array([[-3.0, -3.0], [-3.0, 0.0]])
      >>> print(multi_label_asymmetric_settled(logits, jnp.zeros((2, 2))))
      [ True False]
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    for name, value in (("gamma_neg", gamma_neg), ("gamma_pos", gamma_pos)):
        x, _ = inputs.own(x, checks.at_least(value, 0, inputs.loss_type(x), name))
    x, clip = inputs.own(x, checks.unit_interval(clip, inputs.loss_type(x), "clip"))
    counts = x.positives | (x.negatives & (x.logits > _logit(clip)[..., None]))
    return inputs.finish_settled(~jnp.any(counts, axis=-1), x)


@register_loss(
    paper=_PAPER,
    use="for one label among many classes, as label smoothing whose easy part is small",
    at_zero_logits=lambda c: (
        math.log(c) * (0.9 + 0.1 / c + 0.1 * (1 - 1 / c) * c**-4.0)
    ),
    search={"gamma_neg": (1.0, 2.0, 4.0)},
)
def asymmetric_single_label_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma_neg: ArrayLike = 4.0,
    gamma_pos: ArrayLike = 0.0,
    smoothing: ArrayLike = 0.1,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Label smoothing whose terms are weighed as in focal loss (ASL for one label).

    .. math::
      \ell = -\Bigl(1 - \epsilon + \frac{\epsilon}{K}\Bigr)
               (1 - p_t)^{\gamma_+} \log p_t
             -\frac{\epsilon}{K} \sum_{j \ne t} p_j^{\gamma_-} \log p_j

    The sum runs over the K classes that are valid: by `class_mask`, and with a logit
    above -inf. With both exponents at 0 it is `label_smoothing_loss`, with
    ``smoothing=0`` it is `focal_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      gamma_neg: the exponent of the other classes, at least 0 and finite; a number or
        an array that broadcasts to the shape of the loss. Traced and out of range it
        gives NaN.
      gamma_pos: that of the label; likewise.
      smoothing: epsilon, the share of the mass that is spread, in [0, 1]; likewise.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import asymmetric_single_label_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.5]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # (0.95 + 0.05 * 0.5^4) log(2)
      >>> print(asymmetric_single_label_loss(logits, jnp.array([0])))
      [0.6607]

    References:
      Ben-Baruch et al., `Asymmetric Loss For Multi-Label Classification
      <https://arxiv.org/abs/2009.14119>`_, ICCV 2021; formula and defaults as in `the
      authors' code <https://github.com/Alibaba-MIIL/ASL>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    like = inputs.loss_type(x)
    gamma_neg = checks.at_least(gamma_neg, 0, like, "gamma_neg")
    gamma_pos = checks.at_least(gamma_pos, 0, like, "gamma_pos")
    smoothing = checks.unit_interval(smoothing, like, "smoothing")
    x, gamma_neg = inputs.own(x, gamma_neg)
    x, gamma_pos = inputs.own(x, gamma_pos)
    x, smoothing = inputs.own(x, smoothing)
    x, label_logit, rivals = rivals_of_inputs(x)
    present = x.logits > -jnp.inf
    others = present & ~inputs.is_label(x.labels, x.logits.shape[-1])
    share = smoothing / jnp.sum(present, axis=-1).astype(smoothing.dtype)
    log_p = jnp.where(others, rivals.log_probs(x, label_logit), -1.0)
    each = jnp.exp(gamma_neg[..., None] * log_p) * (share[..., None] * -log_p)
    own = focal(rivals.log_odds(label_logit), gamma_pos)
    loss = (1 - smoothing + share) * own
    return inputs.finish(loss + jnp.sum(each, axis=-1, where=others), x)


def _positive(logits: jax.Array, gamma: jax.Array, *, constant: bool) -> jax.Array:
    """Returns (1 - p)^gamma * -log p of each positive class."""
    if not constant:
        return focal(logits, gamma)
    weight = jax.lax.stop_gradient(jnp.exp(-gamma * softplus(logits)))
    return weight * softplus(-logits)


def _negative(
    logits: jax.Array, gamma: jax.Array, clip: jax.Array, *, constant: bool
) -> jax.Array:
    r"""Returns q^gamma * -log(1 - q) of each negative class, q = max(p - c, 0).

    With l the logit of c, :math:`p - c = p (1 - c) (1 - e^{l - o})`, which keeps the
    digits of a small one, and :math:`1 - q = (1 - p) + c`.
    """
    above = logits > _logit(clip)
    o = jnp.where(above, logits, 1.0)
    # Where nothing is above the clip this is out of range, and not used.
    floor = jnp.where(above, jnp.broadcast_to(_logit(clip), o.shape), 0.0)
    excess = jax.nn.sigmoid(o) * (1 - clip) * -jnp.expm1(floor - o)
    weight = excess**gamma
    if constant:
        weight = jax.lax.stop_gradient(weight)
    near = -jnp.log1p(-jnp.where(o < 0, excess, 0.0))
    far = -jnp.logaddexp(-softplus(o), jnp.log(clip))
    return jnp.where(above, weight * jnp.where(o < 0, near, far), 0.0)


def _logit(p: jax.Array) -> jax.Array:
    """Returns the logit of a probability; a negative at most that is left out."""
    return jnp.log(p) - jnp.log1p(-p)
