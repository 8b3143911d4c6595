r"""Softmax on cosines in which the label must win by a margin: seven papers, one form.

.. math::
  \ell = -\log \frac{e^{s (\psi(c_t) - b)}}
                    {e^{s (\psi(c_t) - b)} + \sum_{j \ne t} e^{s c_j}}, \qquad
  \psi(c) = \cos(\arccos c + a)
          = c \cos a - \sqrt{1 - c^2}\, \sin a

with the scale s, a margin of the angle a and a margin of the cosine b. AM-Softmax
(CosFace), ArcFace, ElasticFace, LDAM and MadaCos differ in where s, a and b come from.
The margin touches the label's logit alone, so each is a function of the label's
log-odds, see `as_softmax_jax._core.log_odds`.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis, from_last
from as_softmax_jax._core.cosine_margin import (
    Beyond,
    lowered_logit,
    margin_loss,
    own,
)
from as_softmax_jax._core.log_odds import scaled
from as_softmax_jax.losses._table import register_loss


def margin_logits(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Logits of cosines in which the label's is lowered by a margin.

    .. math::
      z_t = s\, (\cos(\arccos c_t + a) - b), \qquad z_j = s\, c_j

    Any loss on logits takes them: ``as_softmax_loss(margin_logits(cosines, labels,
    angle=0.5), labels, logit_margin=2.0)``.

    Shared arguments: `as_softmax_jax.losses`; `logits` are the cosines.

    Args:
      scale: s, positive and finite; a number or an array that broadcasts to the shape
        of the loss. Traced and out of range it makes its row NaN, as do the others.
      angle: a, in radians, in [-pi, pi]; likewise.
      cosine: b, finite; likewise.
      beyond: for an angle that the margin takes past pi: "linear" lowers the cosine by
        a sin(a), so that nearer stays better; "plain" takes the formula as it is;
        "clip" takes -1, and 1 where a negative margin takes the angle below 0, both
        without a gradient.
      straight_through: the gradient by the cosine as if the angle's margin were not
        there, which some published code has.

    Returns:
      The logits, of the shape of `logits`, float32 or float64; -inf for masked
      classes, 0 in rows left out.

    Raises:
      ValueError: `beyond` is none of these.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import margin_logits
      >>> cosines, labels = jnp.array([[0.9, 0.4]]), jnp.array([0])
      >>> print(margin_logits(cosines, labels, scale=10.0, cosine=0.5))
      [[4. 4.]]

    References:
      Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019, which
      joins the margins of three papers.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    x, margin = own(x, scale, angle, cosine, beyond, straight_through)
    turned = margin.turned(inputs.take_label(x.logits, x.labels))
    is_label = inputs.is_label(x.labels, x.logits.shape[-1])
    own_logit = lowered_logit(turned, margin)[..., None]
    changed = jnp.where(is_label, own_logit, scaled(x.logits, margin.scale))
    whole = inputs.UnlabelledInputs(changed, x.where, None, x.bad)
    return from_last(inputs.finish_probs(changed, whole), jnp.shape(logits), axis)


@register_loss(
    paper="Deng et al., arXiv 1801.07698",
    use="the form of AM-Softmax, ArcFace and their kin, with margins of one's own",
    at_zero_logits=math.log,
    input="cosines",
    search={"cosine": (0.1, 0.2, 0.35)},
    linear={},
)
def margin_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy on cosines, with margins of the label's angle and cosine.

    .. math::
      \ell = \log \Bigl(1 + \sum_{j \ne t} e^{s c_j - s (\cos(\arccos c_t + a) - b)}
             \Bigr)

    Without margins this is the softmax of scaled cosines (normalised softmax); with b
    alone AM-Softmax or CosFace, with a alone ArcFace. An array of margins gives each
    example its own.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      scale: s, see `margin_logits`, as are all that follow.
      angle: a.
      cosine: b.
      beyond: what holds past an angle of pi.
      straight_through: whose gradient.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import margin_softmax_loss
      >>> cosines = jnp.array([[0.0, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # cos(pi/2 + pi/6) = -1/2: log(1 + exp(0 - 2 * (-1/2)))
      >>> print(margin_softmax_loss(
      ...     cosines, jnp.array([0]), scale=2.0, angle=jnp.pi / 6
      ... ))
      [1.3133]

    References:
      Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019; the form
      past pi as in `pytorch-metric-learning
      <https://github.com/KevinMusgrave/pytorch-metric-learning>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    return margin_loss(x, scale, angle, cosine, beyond, straight_through)


@register_loss(
    paper="Wang et al., arXiv 1801.05599",
    use="on cosines of features and class weights, as for faces",
    at_zero_logits=lambda c: math.log1p((c - 1) * math.exp(30.0 * 0.35)),
    input="cosines",
    search={"margin": (0.1, 0.2, 0.35)},
    linear={"cosine": "margin"},
)
def am_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.35,
    scale: ArrayLike = 30.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Additive-margin softmax on cosine similarities (AM-Softmax).

    .. math::
      \ell = -\log \frac{e^{s (c_t - m)}}
                        {e^{s (c_t - m)} + \sum_{j \ne t} e^{s c_j}}

    with :math:`c_j` the cosine of the angle between the features and the weights of
    class j. Scaling happens here, so pass plain cosines as `logits`; their
    range is not checked.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    This is `margin_softmax_loss` with a margin of the cosine.

    Args:
      margin: m, a difference of cosines, at least 0 and finite; a number or an array
        that broadcasts to the shape of the loss. Traced and out of range it gives
        NaN.
      scale: s, positive and finite; likewise.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import am_softmax_loss
      >>> cosines = jnp.array([[0.9, 0.4]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + exp(10 * (0.4 - (0.9 - 0.35))))
      >>> print(am_softmax_loss(cosines, jnp.array([0]), margin=0.35, scale=10.0))
      [0.2014]

    References:
      Wang et al., `Additive Margin Softmax for Face Verification
      <https://arxiv.org/abs/1801.05599>`_, 2018, equation 6.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    margin = checks.at_least(margin, 0, inputs.loss_type(x), "margin")
    x, margin = inputs.own(x, margin)
    return margin_loss(x, scale, cosine=margin)


@register_loss(
    paper="Deng et al., arXiv 1801.07698",
    use="faces and other classes that are compared later on",
    at_zero_logits=lambda c: math.log1p((c - 1) * math.exp(64.0 * math.sin(0.5))),
    input="cosines",
    search={"margin": (0.1, 0.3, 0.5)},
    linear={"angle": "margin"},
    shift_invariant=False,
)
def arcface_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.5,
    scale: ArrayLike = 64.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax on cosines with a margin of the label's angle (ArcFace).

    .. math::
      \ell = -\log \frac{e^{s \cos(\theta_t + m)}}
                        {e^{s \cos(\theta_t + m)} + \sum_{j \ne t} e^{s \cos \theta_j}}

    with :math:`\theta_j` the angle between the features and the weights of class j.
    This is `margin_softmax_loss` with a margin of the angle. Several centres a class
    (sub-centre ArcFace): the largest cosine of each class, and this loss.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      margin: m, in radians, in [0, pi]; a number or an array that broadcasts to the
        shape of the loss. Traced and out of range it gives NaN.
      scale: s, positive and finite; likewise.
      beyond: what holds where the angle and the margin pass pi, see `margin_logits`.
      straight_through: the gradient of InsightFace's code, which leaves the margin out
        of the derivative of the cosine; the default is that of the formula.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import arcface_loss
      >>> cosines = jnp.array([[0.0, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # cos(pi/2 + pi/6) = -1/2: log(1 + exp(0 - 2 * (-1/2)))
      >>> print(arcface_loss(
      ...     cosines, jnp.array([0]), margin=jnp.pi / 6, scale=2.0
      ... ))
      [1.3133]

    References:
      Deng et al., `ArcFace: Additive Angular Margin Loss for Deep Face Recognition
      <https://arxiv.org/abs/1801.07698>`_, CVPR 2019; values as in
      `pytorch-metric-learning
      <https://github.com/KevinMusgrave/pytorch-metric-learning>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    margin = checks.between(margin, 0, math.pi, inputs.loss_type(x), "margin")
    x, margin = inputs.own(x, margin, 0.5)
    return margin_loss(x, scale, margin, 0.0, beyond, straight_through)
