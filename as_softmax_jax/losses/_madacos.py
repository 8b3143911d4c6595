r"""Softmax on cosines with a scale and a margin that the batch decides: MadaCos."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cosine_margin import margin_loss
from as_softmax_jax._core.log_sum_exp import finite_shift
from as_softmax_jax._core.mesh import whole
from as_softmax_jax.losses._table import register_loss


def madacos_scale_margin(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 0.1,
    min_scale: ArrayLike = 32.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""The scale and the margin of `madacos_loss`, of a batch.

    .. math::
      s = \max\Bigl(s_0, \frac{1}{1 - c} \log \frac{(10^7 - 1) (1 - \alpha)}{\alpha}
             \Bigr), \qquad
      m = \max\Bigl(0, c - \frac1s \log \frac{\alpha B}{1 - \alpha}\Bigr), \qquad
      B = \sum_{j \ne t} e^{s c_j}

    with c the median of the labels' cosines, the lower of two, and B of the example
    that has it: with this margin its label has a probability of alpha.

    Rows whose loss is NaN or +inf do not count; without any, and without a rival, the
    margin is 0. B stays a logarithm; the authors' code overflows where s times a cosine
    passes 88, and takes 0 for the margin then.

    This ties the examples of a batch together. What trains on some of them, such as
    `as_softmax_jax.compact_value_and_grad`, takes both of the whole batch:
    ``margin_softmax_loss(..., scale=scale, cosine=margin)``.

    Shared arguments: `as_softmax_jax.losses`; `logits` are the cosines.

    Args:
      alpha: above 0 and below 1; a scalar. Traced and out of range it gives NaN.
      min_scale: s_0, positive and finite; likewise.
      axis_name: inside `jax.shard_map`, the mesh axis that the examples are split
        over, each device having equally many; None: the examples at hand are all there
        are. Under `jax.jit` alone they are, wherever they lie.

    Returns:
      ``(scale, margin)``, scalars, through which no gradient flows.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import madacos_scale_margin
      >>> cosines, labels = jnp.array([[0.5, 0.25], [0.9, 0.1]]), jnp.array([0, 0])
      >>> scale, margin = madacos_scale_margin(cosines, labels, alpha=0.5)
      >>> # max(32, log(1e7 - 1) / (1 - 0.5)), 0.5 - 0.25
      >>> print(f"{scale:.4f} {margin:.4f}")
      32.2362 0.2500

    References:
      Zhu et al., `Coarse-to-Fine: Learning Compact Discriminative Representation for
      Single-Stage Image Retrieval <https://arxiv.org/abs/2308.04008>`_, ICCV 2023,
      after `the authors' code <https://github.com/bassyess/CFCD>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    return _scale_margin(x, alpha, min_scale, axis_name)


@register_loss(
    paper="Zhu et al., arXiv 2308.04008",
    use="image retrieval, with nothing to tune: the batch decides scale and margin",
    # At a cosine of 0 the margin brings up to nine rivals to what nine cost.
    at_zero_logits=lambda c: math.log(max(c, 10)),
    input="cosines",
    search={"alpha": (0.02, 0.1, 0.3)},
    shift_invariant=False,
    row_local=False,
    exact_gradient=False,
)
def madacos_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 0.1,
    min_scale: ArrayLike = 32.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
    axis_name: str | None = None,
) -> jax.Array:
    r"""AM-Softmax whose scale and margin the batch decides (MadaCos).

    .. math::
      \ell = -\log \frac{e^{s (c_t - m)}}{e^{s (c_t - m)} + \sum_{j \ne t} e^{s c_j}}

    with s and m those of `madacos_scale_margin`, constants as far as the gradient
    is concerned: the median example always has a probability of alpha, or less where
    the margin would be below 0. Predict by the plain cosines.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      alpha: above 0 and below 1; a scalar. Traced and out of range it gives NaN.
      min_scale: the least scale, positive and finite; likewise.
      axis_name: of `madacos_scale_margin`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import madacos_loss
      >>> cosines, labels = jnp.array([[0.5, 0.25], [0.9, 0.1]]), jnp.array([0, 0])
      >>> jnp.set_printoptions(precision=4)
      >>> print(madacos_loss(cosines, labels, alpha=0.5)[:1])  # log(1 + 1)
      [0.6931]

    References:
      Zhu et al., `Coarse-to-Fine: Learning Compact Discriminative Representation for
      Single-Stage Image Retrieval <https://arxiv.org/abs/2308.04008>`_, ICCV 2023,
      after `the authors' code <https://github.com/bassyess/CFCD>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    scale, margin = _scale_margin(x, alpha, min_scale, axis_name)
    return margin_loss(x, scale, cosine=margin)


def _scale_margin(
    x: inputs.Inputs,
    alpha: ArrayLike,
    min_scale: ArrayLike,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array]:
    """Returns both, on clean inputs."""
    scalar = checks.LossType((), x.logits.dtype)
    alpha = checks.parameter(
        alpha,
        scalar,
        "alpha",
        allowed="above 0 and below 1",
        holds=lambda v: (v > 0) & (v < 1),
        inside=0.5,
    )
    min_scale = checks.positive(min_scale, scalar, "min_scale")
    cosines = jax.lax.stop_gradient(x.logits)
    own = inputs.take_label(cosines, x.labels)
    valid = ~(x.bad | x.empty) & (own > -jnp.inf)
    valid = valid if x.where is None else valid & x.where
    own = jnp.where(valid, own, jnp.inf)
    if not own.size:
        return min_scale, jnp.zeros((), own.dtype)
    every, first = _of_all_devices(whole(own).ravel(), axis_name)
    middle = jnp.maximum((jnp.sum(every < jnp.inf) - 1) // 2, 0)
    row = jnp.argsort(every)[middle].astype(jnp.int32)
    median, none = every[row], every[row] == jnp.inf
    median = jnp.where(none, 0, median)
    odds = jnp.log(1 - alpha) - jnp.log(alpha)
    scale = (math.log(1e7 - 1) + odds) / jnp.maximum(1 - median, 1e-6)
    scale = jnp.where(none, min_scale, jnp.maximum(scale, min_scale))
    is_label = inputs.is_label(x.labels, cosines.shape[-1])
    rivals = jnp.where(is_label, -jnp.inf, cosines)
    # The row's, by a sum: one device has it, and the others add 0.
    number = jnp.arange(own.size, dtype=row.dtype).reshape(own.shape) + first
    of_row = jnp.where((number == row)[..., None], rivals, 0)
    of_row = jnp.sum(of_row, axis=tuple(range(own.ndim)))
    if axis_name is not None:
        of_row = jax.lax.psum(of_row, axis_name)
    log_b = _log_sum_exp(scale * of_row)
    margin = jnp.maximum(median - (log_b - odds) / scale, 0)
    margin = jnp.where(none | (log_b == -jnp.inf), 0, margin)
    return scale, margin.astype(own.dtype) + 0 * alpha


def _of_all_devices(
    values: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array | int]:
    """Returns the values [n] of all devices, [N], and where this device's begin."""
    if axis_name is None:
        return values, 0
    number = jax.lax.axis_index(axis_name)
    # A sum, unlike a gathered array, is known to be the same on every device.
    room = jnp.zeros((jax.lax.axis_size(axis_name), values.size), values.dtype)
    every = jax.lax.psum(room.at[number].set(values), axis_name)
    return every.ravel(), number * values.size


def _log_sum_exp(values: jax.Array) -> jax.Array:
    """Returns the log of the sum of exponentials of [C]; -inf where all are."""
    peak = finite_shift(jnp.max(values))
    return peak + jnp.log(jnp.sum(jnp.exp(values - peak)))
