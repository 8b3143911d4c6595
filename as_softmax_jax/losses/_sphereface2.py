r"""A yes or no of each class by its cosine, with a margin on each side: SphereFace2."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax.losses._extras import Learned
from as_softmax_jax.losses._table import register_loss


def sphereface2_bias(
    num_classes: int,
    *,
    positive_weight: float = 0.7,
    scale: float = 40.0,
    margin: float = 0.4,
    exponent: float = 3.0,
) -> float:
    r"""The bias with which `sphereface2_loss` should begin.

    .. math::
      b = \log \frac{2 z\, e^{-a_+}}
                    {1 - z + \sqrt{(1 - z)^2 + 4 z\, e^{a_- - a_+}}}, \qquad
      z = \frac{w}{(1 - w) (C - 1)}, \qquad a_\pm = s (g(0) \pm m)

    It makes the loss least where every cosine is 0.

    Args:
      num_classes: C, at least 2.
      positive_weight: w, above 0 and below 1.
      scale: s, above 0.
      margin: m.
      exponent: of g, at least 1.

    Returns:
      The bias.

    Raises:
      ValueError: there are fewer than two classes, or the weight or the scale is out of
        range.

    Examples:
      >>> from as_softmax_jax.losses import sphereface2_bias
      >>> print(round(sphereface2_bias(4), 4))
      15.2528

    References:
      Wen et al., `SphereFace2 <https://arxiv.org/abs/2108.01513>`_, ICLR 2022; as in
      `the authors' code <https://github.com/ydwen/opensphere>`_.
    """
    num_classes = checks.integer(num_classes, "num_classes", at_least=2)
    scale = checks.positive_float(scale, "scale")
    weight = checks.unit_interval_float(positive_weight, "positive_weight")
    if weight in (0.0, 1.0):
        raise ValueError(f"`positive_weight` must be inside (0, 1); got {weight}.")
    z = weight / ((1 - weight) * (num_classes - 1))
    at_0 = 2 * 0.5**exponent - 1
    above = scale * (at_0 + margin)
    log_gap = math.log(4 * z) - 2 * scale * margin
    root = math.sqrt((1 - z) ** 2 + math.exp(log_gap))
    # Of z above 1 their sum would be a difference of close numbers.
    log_sum = math.log(1 - z + root) if z < 1 else log_gap - math.log(root - 1 + z)
    return math.log(2 * z) - above - log_sum


@register_loss(
    paper="Wen et al., arXiv 2108.01513",
    use="faces, each class by itself, so that classes split over devices",
    at_zero_logits=None,
    extras={"bias": Learned(sphereface2_bias)},
    input="cosines",
    search={"margin": (0.2, 0.4, 0.5)},
    zero_with_one_class=False,
    shift_invariant=False,
)
def sphereface2_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike,
    positive_weight: ArrayLike = 0.7,
    scale: ArrayLike = 40.0,
    margin: ArrayLike = 0.4,
    exponent: ArrayLike = 3.0,
    straight_through: bool = False,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Binary cross-entropy of each class's cosine with a margin (SphereFace2).

    .. math::
      \ell = \frac{w}{s} \log \bigl(1 + e^{-s (g(c_t) - m) - b}\bigr)
             + \frac{1 - w}{s} \sum_{j \ne t}
               \log \bigl(1 + e^{s (g(c_j) + m) + b}\bigr), \qquad
      g(c) = 2 \Bigl(\frac{c + 1}{2}\Bigr)^{h} - 1

    g spreads the large cosines out, where the label's and its rivals' would crowd. The
    bias b is one number for all classes, trained with the network: a gradient flows to
    it.

    The authors' code takes 50 times the mean of this, and treats g and m as constants
    in the gradient, which `straight_through` does.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      bias: b, finite, a parameter that begins at `sphereface2_bias`; a number or an
        array that broadcasts to the shape of the loss. Traced and out of range it gives
        NaN.
      positive_weight: w, in [0, 1]; likewise.
      scale: s, positive and finite; likewise.
      margin: m, a difference of g, at least 0 and finite; likewise.
      exponent: h, at least 1 and finite; likewise.
      straight_through: a gradient as if g(c) were c.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import sphereface2_loss
      >>> cosines = jnp.array([[1.0, 0.0]])
      >>> loss = sphereface2_loss(
      ...     cosines, jnp.array([0]), bias=0.0, scale=1.0, margin=0.0, exponent=1.0
      ... )
      >>> jnp.set_printoptions(precision=4)
      >>> print(loss)  # 0.7 log(1 + 1/e) + 0.3 log(1 + 1)
      [0.4272]

    References:
      Wen et al., `SphereFace2: Binary Classification is All You Need for Deep Face
      Recognition <https://arxiv.org/abs/2108.01513>`_, ICLR 2022; as in `the authors'
      code <https://github.com/ydwen/opensphere>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    like = inputs.loss_type(x)
    x, bias = inputs.own(x, checks.finite(bias, like, "bias"), 0.0)
    weight = checks.unit_interval(positive_weight, like, "positive_weight")
    x, weight = inputs.own(x, weight)
    x, scale = inputs.own(x, checks.positive(scale, like, "scale"))
    x, margin = inputs.own(x, checks.at_least(margin, 0, like, "margin"))
    x, exponent = inputs.own(x, checks.at_least(exponent, 1, like, "exponent"))
    absent = x.logits == -jnp.inf
    cosines = jnp.where(absent, jnp.zeros((), x.logits.dtype), x.logits)
    spread = _spread(cosines, exponent[..., None])
    if straight_through:
        spread = cosines + jax.lax.stop_gradient(spread - cosines)
    is_label = inputs.is_label(x.labels, cosines.shape[-1])
    m, s, b = (part[..., None] for part in (margin, scale, bias))
    lead = s * (spread + jnp.where(is_label, -m, m)) + b
    # A class of -inf has no part; as the label it costs all there is.
    lead = jnp.where(absent, x.logits * jax.lax.stop_gradient(s), lead)
    each = softplus(jnp.where(is_label, -lead, lead))
    own = inputs.take_label(each, x.labels)
    others = jnp.sum(jnp.where(is_label, 0, each), axis=-1)
    # A weight of 0 leaves out even what is infinite.
    own = jnp.where(weight == 0, 0, weight * own)
    return inputs.finish((own + (1 - weight) * others) / scale, x)


def _spread(cosines: jax.Array, exponent: jax.Array) -> jax.Array:
    """Returns g; rounding may have taken a cosine below -1."""
    half = (cosines + 1) / 2
    half = jnp.where(half < 0, jnp.zeros((), half.dtype), half)
    return 2 * half**exponent - 1
