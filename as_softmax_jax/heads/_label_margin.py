r"""Softmax of a linear layer with a margin by lengths and angle: L-Softmax, noisy.

.. math:: o_j = x \cdot w_j = \lVert x \rVert \lVert w_j \rVert \cos \theta_j

Unlike the margins on cosines these keep the lengths, and so take features and kernel.
Only the label's logit changes.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.norms import norm
from as_softmax_jax.heads._products import product, read, sum_dtype
from as_softmax_jax.losses._softmax import softmax_loss


def l_softmax_logits(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    margin: int = 4,
    blend: ArrayLike = 0.0,
    kernel_layout: str = "dc",
) -> jax.Array:
    r"""Logits in which the label's angle counts several times (L-Softmax).

    .. math::
      z_t = \frac{\lambda\, o_t + \lVert x \rVert \lVert w_t \rVert \psi(\theta_t)}
                 {1 + \lambda}, \qquad
      \psi(\theta) = (-1)^k \cos(m \theta) - 2 k, \quad
      \frac{k \pi}{m} \le \theta \le \frac{(k + 1) \pi}{m}

    and the others stay. Any loss on logits takes them. `l_softmax_loss` documents the
    arguments.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C].
      labels: integers [...]; the logits of one outside [0, C) stay as they are.
      margin: m.
      blend: lambda.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The logits [..., C], float32 (float64 of float64 features).

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import l_softmax_logits
      >>> features, kernel = jnp.array([[3.0, 4.0]]), jnp.eye(2)
      >>> jnp.set_printoptions(precision=4)
      >>> # a cosine of 3/5, and 5 (2 (3/5)^2 - 1) of twice the angle
      >>> print(l_softmax_logits(features, kernel, jnp.array([0]), margin=2))
      [[-1.4  4. ]]

    References:
      Liu et al., `Large-Margin Softmax Loss for Convolutional Neural Networks
      <https://arxiv.org/abs/1612.02295>`_, ICML 2016.
    """
    return _l_softmax(features, kernel, labels, margin, blend, kernel_layout, None)


def l_softmax_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    margin: int = 4,
    blend: ArrayLike = 0.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
) -> jax.Array:
    r"""Softmax cross-entropy of a layer with a multiplied angle (L-Softmax).

    .. math::
      \ell = -\log \frac{e^{z_t}}{e^{z_t} + \sum_{j \ne t} e^{o_j}}, \qquad
      z_t = \frac{\lambda\, o_t + \lVert x \rVert \lVert w_t \rVert \psi(\theta_t)}
                 {1 + \lambda}

    with :math:`\psi` of `l_softmax_logits`, which falls from 1 to 1 - 2m and is
    :math:`\cos(m \theta)` up to an angle of :math:`\pi / m`. Features or weights of
    length 0 give a label's logit of 0.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C].
      labels: integers [...] in [0, C).
      margin: m, a Python integer of at least 1, with which this is `softmax_loss` of
        the layer.
      blend: lambda, at least 0 and finite; a number or an array that broadcasts to the
        loss. The authors begin with a large one, which is softmax, and let it fall to a
        few units. Traced and out of range it gives NaN.
      where: boolean, broadcasts to the loss: the rows that count. None: all.
      class_mask: boolean, broadcasts to [..., C]: the valid classes. None: all.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The loss of each example, [...], float32 (float64 of float64 features).

    Raises:
      ValueError: the shapes do not fit, or `margin` or a known `blend` is out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import l_softmax_loss
      >>> features, kernel = jnp.array([[3.0, 4.0]]), jnp.eye(2)
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + e^(4 - 5 (2 (3/5)^2 - 1)))
      >>> print(l_softmax_loss(features, kernel, jnp.array([0]), margin=2))
      [5.4045]

    References:
      Liu et al., `Large-Margin Softmax Loss for Convolutional Neural Networks
      <https://arxiv.org/abs/1612.02295>`_, ICML 2016; lambda as in `the authors' code
      <https://github.com/wy1iu/LargeMargin_Softmax_Loss>`_.
    """
    logits = _l_softmax(features, kernel, labels, margin, blend, kernel_layout, where)
    return softmax_loss(logits, labels, where=where, class_mask=class_mask)


def noisy_softmax_logits(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    noise: ArrayLike | None = None,
    alpha: ArrayLike = 0.1,
    kernel_layout: str = "dc",
) -> jax.Array:
    r"""Logits in which noise lowers the label's, the more the further it is off.

    .. math::
      z_t = o_t - \alpha |\xi| \lVert x \rVert \lVert w_t \rVert (1 - \cos \theta_t)

    and the others stay. Any loss on logits takes them. `noisy_softmax_loss` documents
    the arguments.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C].
      labels: integers [...]; the logits of one outside [0, C) stay as they are.
      key: of the step.
      noise: xi, in its place.
      alpha: the strength.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The logits [..., C], float32 (float64 of float64 features).

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import noisy_softmax_logits
      >>> features, kernel = jnp.array([[3.0, 4.0]]), jnp.eye(2)
      >>> # 3 - 0.1 * 2 * (5 - 3)
      >>> print(noisy_softmax_logits(
      ...     features, kernel, jnp.array([0]), noise=jnp.array([2.0])
      ... ))
      [[2.6 4. ]]

    References:
      Chen et al., `Noisy Softmax <https://arxiv.org/abs/1708.03769>`_, CVPR 2017.
    """
    noise = _drawn(key, noise, labels)
    return _noisy(features, kernel, labels, noise, alpha, kernel_layout, None)


def noisy_softmax_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array | None = None,
    noise: ArrayLike | None = None,
    alpha: ArrayLike = 0.1,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
) -> jax.Array:
    r"""Softmax cross-entropy of a layer whose label's logit noise lowers.

    .. math::
      \ell = -\log \frac{e^{z_t}}{e^{z_t} + \sum_{j \ne t} e^{o_j}}, \qquad
      z_t = o_t - \alpha |\xi| \lVert x \rVert \lVert w_t \rVert (1 - \cos \theta_t),
      \quad \xi \sim \mathcal{N}(0, 1)

    so that examples which are right already go on to count. Gradients flow through the
    lengths and the cosine, and not through the noise. Evaluate with ``alpha=0``, which
    is `softmax_loss` of the layer.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C].
      labels: integers [...] in [0, C).
      key: of the step, from which xi is drawn, one an example; or else
      noise: xi, which broadcasts to the loss. What trains on some of a batch's examples
        again must give them the noise that they had.
      alpha: at least 0 and finite; a number or an array that broadcasts to the loss.
        Traced and out of range it gives NaN.
      where: boolean, broadcasts to the loss: the rows that count. None: all.
      class_mask: boolean, broadcasts to [..., C]: the valid classes. None: all.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The loss of each example, [...], float32 (float64 of float64 features).

    Raises:
      ValueError: both or none of `key` and `noise` are given, the shapes do not fit, or
        a known `alpha` is out of range.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import noisy_softmax_loss
      >>> features, kernel = jnp.array([[3.0, 4.0]]), jnp.eye(2)
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + e^(4 - (3 - 0.1 * 2 * (5 - 3))))
      >>> print(noisy_softmax_loss(
      ...     features, kernel, jnp.array([0]), noise=jnp.array([2.0])
      ... ))
      [1.6204]

    References:
      Chen et al., `Noisy Softmax: Improving the Generalization Ability of DCNN via
      Postponing the Early Softmax Saturation <https://arxiv.org/abs/1708.03769>`_, CVPR
      2017, equations 5 and 6 as others cite them.
    """
    noise = _drawn(key, noise, labels)
    logits = _noisy(features, kernel, labels, noise, alpha, kernel_layout, where)
    return softmax_loss(logits, labels, where=where, class_mask=class_mask)


class _Label(NamedTuple):
    """What the label's logit is made of."""

    logits: jax.Array  # [..., C], without a margin
    labels: jax.Array  # int32 [...] in [0, C)
    valid: jax.Array  # bool [...], whether the label was in range
    own: jax.Array  # the label's logit, [...]
    largest: jax.Array  # |x| |w_t|, what it would be at an angle of 0, [...]
    like: checks.LossType


def _read(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    kernel_layout: str,
    where: ArrayLike | None,
) -> _Label:
    """Returns the parts; rows left out have features of 0."""
    x = read(features, kernel, kernel_layout)
    num_classes = x.kernel.shape[1]
    labels = checks.integer_labels(labels, x.features.shape[:-1], num_classes)
    there = checks.boolean_mask(where, labels.shape, "loss", "where")
    if there is not None:
        # What they hold would reach the kernel's gradient as 0 times NaN.
        zero = jnp.zeros((), x.features.dtype)
        x = x._replace(features=jnp.where(there[..., None], x.features, zero))
    dtype, logits = sum_dtype(x), product(x)
    valid = (labels >= 0) & (labels < num_classes)
    labels = jnp.clip(labels, 0, num_classes - 1)
    columns = norm(x.kernel.astype(dtype), axis=0)
    largest = norm(x.features.astype(dtype), axis=-1) * columns[labels]
    own = inputs.take_label(logits, labels)
    like = checks.LossType(labels.shape, dtype, there)
    return _Label(logits, labels, valid, own, largest, like)


def _with_label(x: _Label, changed: jax.Array) -> jax.Array:
    """Returns the logits with another one for the label."""
    is_label = inputs.is_label(x.labels, x.logits.shape[-1]) & x.valid[..., None]
    return jnp.where(is_label, changed[..., None], x.logits)


def _l_softmax(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    margin: int,
    blend: ArrayLike,
    kernel_layout: str,
    where: ArrayLike | None,
) -> jax.Array:
    margin = checks.integer(margin, "margin", at_least=1)
    x = _read(features, kernel, labels, kernel_layout, where)
    blend = checks.at_least(blend, 0, x.like, "blend")
    there = x.largest > 0
    cosine = jnp.where(there, x.own / jnp.where(there, x.largest, 1), 0)
    # Rounding may pass 1 by some ulp: the value is clipped, its gradient is not.
    cosine += jax.lax.stop_gradient(jnp.clip(cosine, -1, 1) - cosine)
    turned = x.largest * _multiplied(cosine, margin)
    return _with_label(x, (blend * x.own + turned) / (1 + blend))


def _multiplied(cosine: jax.Array, margin: int) -> jax.Array:
    """Returns psi by the recurrence of cos(m theta), without the angle."""
    before, now = jnp.ones_like(cosine), cosine
    for _ in range(margin - 1):
        before, now = now, 2 * cosine * now - before
    bounds = [math.cos(j * math.pi / margin) for j in range(1, margin)]
    past = sum(((cosine < bound).astype(jnp.int32) for bound in bounds), 0)
    k = jnp.asarray(past, cosine.dtype)
    sign = 1 - 2 * (k % 2)
    return sign * now - 2 * k


def _noisy(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    noise: ArrayLike,
    alpha: ArrayLike,
    kernel_layout: str,
    where: ArrayLike | None,
) -> jax.Array:
    x = _read(features, kernel, labels, kernel_layout, where)
    alpha = checks.at_least(alpha, 0, x.like, "alpha")
    noise = checks.finite(noise, x.like, "noise")
    strength = alpha * jnp.abs(jax.lax.stop_gradient(noise))
    return _with_label(x, x.own - strength * (x.largest - x.own))


def _drawn(
    key: jax.Array | None, noise: ArrayLike | None, labels: ArrayLike
) -> ArrayLike:
    """Returns the noise, given or drawn."""
    if (key is None) == (noise is None):
        given = "none" if key is None else "both"
        raise ValueError(
            f"Exactly one of `key` and `noise` must be given; got {given}."
        )
    if noise is not None:
        return noise
    assert key is not None, "one of the two is given"
    # In float32, so that float64 features have the noise of float32 ones.
    return jax.random.normal(key, jnp.shape(labels), jnp.float32)
