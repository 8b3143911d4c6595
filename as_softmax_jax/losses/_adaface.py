r"""Softmax on cosines with a margin by the length of the features: AdaFace."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cosine_margin import margin_loss
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax.losses._extras import FromFeatures, PerRun
from as_softmax_jax.losses._table import register_loss

_SHORTEST, _LONGEST = 1e-3, 100.0


class NormState(NamedTuple):
    """What the features' lengths have been so far, on average."""

    mean: jax.Array  # shape=(), dtype=float32
    deviation: jax.Array  # shape=(), dtype=float32


def feature_norms(features: ArrayLike) -> jax.Array:
    r"""The length of each example's features.

    .. math:: n = \lVert x \rVert_2

    Args:
      features: floating point [..., D].

    Returns:
      The lengths, [...], float32 (float64 of float64 features), through which no
      gradient flows.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import feature_norms
      >>> print(feature_norms(jnp.array([[3.0, 4.0]])))
      [5.]
    """
    x = checks.floating_array(features, "features")
    x = jax.lax.stop_gradient(x.astype(compute_dtype(x.dtype)))
    return jnp.sqrt(jnp.sum(x * x, axis=-1))


def init_norm_state(*, mean: float = 20.0, deviation: float = 100.0) -> NormState:
    """Returns the state before the first batch.

    Args:
      mean: of the lengths.
      deviation: of the lengths; as large as it is here, the first margins lie close
        together.

    Examples:
      >>> from as_softmax_jax.losses import init_norm_state
      >>> state = init_norm_state()
      >>> print(state.mean, state.deviation)
      20.0 100.0
    """
    return NormState(jnp.float32(mean), jnp.float32(deviation))


def update_norm_state(
    state: NormState,
    norms: ArrayLike,
    *,
    decay: ArrayLike = 0.99,
    where: ArrayLike | None = None,
    axis_name: str | None = None,
) -> NormState:
    r"""Returns the state after a batch, a moving average.

    .. math::
      \mu \leftarrow d \mu + (1 - d)\, \bar n, \qquad
      \sigma \leftarrow d \sigma + (1 - d) \sqrt{\frac{\sum_i (n_i - \bar n)^2}{N - 1}}

    of lengths cut to [0.001, 100]. It belongs beside the parameters, in a checkpoint
    too. Of a single example there is no deviation, and of none no mean: these stay. A
    length that is NaN does not count.

    Args:
      state: before the batch.
      norms: n, floating point [...], at least 0.
      decay: d, in [0, 1]; a scalar. Traced and out of range it gives NaN.
      where: boolean, broadcasts to `norms`: the rows that count. None: all.
      axis_name: inside `jax.shard_map`, the mesh axis that the examples are split
        over; None: the examples at hand are all there are. Under `jax.jit` alone they
        are, wherever they lie.

    Returns:
      The new state, through which no gradient flows.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import init_norm_state, update_norm_state
      >>> state = update_norm_state(init_norm_state(), jnp.array([8.0, 12.0]))
      >>> # 0.99 * 20 + 0.01 * 10, 0.99 * 100 + 0.01 * sqrt(8)
      >>> print(f"{state.mean:.1f} {state.deviation:.4f}")
      19.9 99.0283
    """
    norms = jax.lax.stop_gradient(checks.floating_array(norms, "norms"))
    valid = ~jnp.isnan(norms)
    where = checks.boolean_mask(where, norms.shape, "norms", "where")
    valid = valid if where is None else valid & where
    dtype = compute_dtype(norms.dtype)
    decay = checks.unit_interval(decay, checks.LossType((), dtype), "decay")
    cut = jnp.clip(norms.astype(dtype), _SHORTEST, _LONGEST)

    def total(values: jax.Array) -> jax.Array:
        found = jnp.sum(jnp.where(valid, values, 0), dtype=dtype)
        return found if axis_name is None else jax.lax.psum(found, axis_name)

    count = total(jnp.ones_like(cut))
    mean = total(cut) / jnp.maximum(count, 1)
    square = total((cut - mean) ** 2) / jnp.maximum(count - 1, 1)

    def moved(old: jax.Array, new: jax.Array, at_least: int) -> jax.Array:
        new = decay * old.astype(dtype) + (1 - decay) * new
        return jnp.where(count >= at_least, new.astype(old.dtype), old)

    new = NormState(
        moved(jnp.asarray(state.mean), mean, 1),
        moved(jnp.asarray(state.deviation), jnp.sqrt(square), 2),
    )
    return jax.lax.stop_gradient(new)


def norm_margins(
    norms: ArrayLike,
    norm_state: NormState,
    *,
    margin: ArrayLike = 0.4,
    concentration: ArrayLike = 0.333,
) -> tuple[jax.Array, jax.Array]:
    r"""The margins of `adaface_loss`, of the label's angle and of its cosine.

    .. math::
      a = -m q, \qquad b = m + m q, \qquad
      q = \mathrm{clip}\Bigl(h\, \frac{n - \mu}{\sigma}, -1, 1\Bigr)

    Long features, the sign of a good picture, have a margin of the cosine, short ones
    of the angle.

    Args:
      norms: n, floating point [...]; the length of each example's features.
      norm_state: the mean mu and the deviation sigma of the lengths so far.
      margin: m, in radians; a number or an array that broadcasts to `norms`.
      concentration: h; likewise. Below 0 it turns the order round.

    Returns:
      ``(angle, cosine)``, which `margin_logits` takes with ``beyond="clip"``, [...]
      each. No gradient flows through them.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import NormState, norm_margins
      >>> state = NormState(jnp.float32(20.0), jnp.float32(10.0))
      >>> norms = jnp.array([5.0, 20.0, 99.0])
      >>> jnp.set_printoptions(precision=2, suppress=True)
      >>> print(*norm_margins(norms, state, concentration=0.5))
      [ 0.3 -0.  -0.4] [0.1 0.4 0.8]
    """
    norms = checks.floating_array(norms, "norms")
    dtype = compute_dtype(norms.dtype)
    margin = checks.number(margin, dtype, "margin")
    concentration = checks.number(concentration, dtype, "concentration")
    cut = jnp.clip(norms.astype(dtype), _SHORTEST, _LONGEST)
    mean, deviation = (jnp.asarray(part, dtype) for part in norm_state)
    # Added to the deviation as the authors' code has it, so that 0 divides nothing.
    quality = jnp.clip(concentration * (cut - mean) / (deviation + 1e-3), -1, 1)
    return jax.lax.stop_gradient((-margin * quality, margin + margin * quality))


@register_loss(
    paper="Kim et al., arXiv 2204.00964",
    use="faces of uneven quality, which the length of the features tells",
    at_zero_logits=None,
    extras={
        "norms": FromFeatures(feature_norms),
        "norm_state": PerRun(init_norm_state, update_norm_state, of="norms"),
    },
    input="cosines",
    search={"margin": (0.1, 0.2, 0.4)},
    shift_invariant=False,
)
def adaface_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    norms: ArrayLike,
    norm_state: NormState,
    margin: ArrayLike = 0.4,
    concentration: ArrayLike = 0.333,
    scale: ArrayLike = 64.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax on cosines with a margin that suits the quality of an example (AdaFace).

    .. math::
      \ell = -\log \frac{e^{s (\cos(\theta_t + a) - b)}}
                        {e^{s (\cos(\theta_t + a) - b)}
                         + \sum_{j \ne t} e^{s \cos \theta_j}}, \qquad
      a = -m q, \quad b = m + m q

    with q in [-1, 1] how long the features are among those of training, see
    `norm_margins`. Examples of high quality are pushed where they are hard, those of
    low quality where they are easy. No gradient flows through lengths and margins.

    This is `margin_softmax_loss` with these margins and ``beyond="clip"``; the authors'
    code also keeps every cosine within 0.999 of 0, which this one does not.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      norms: the length of each example's features, see `feature_norms`; a number of at
        least 0 or an array that broadcasts to the shape of the loss.
      norm_state: of `update_norm_state`, which has seen this batch, too.
      margin: m, in radians, in [0, pi]; a number or an array that broadcasts to the
        shape of the loss. Traced and out of range it gives NaN.
      concentration: h of `norm_margins`, finite; likewise.
      scale: s, positive and finite; likewise.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import (
      ...     adaface_loss, feature_norms, init_norm_state, update_norm_state
      ... )
      >>> features = jnp.array([[3.0, 4.0], [0.6, 0.8]])
      >>> cosines, labels = jnp.array([[0.6, 0.8], [0.6, 0.8]]), jnp.array([1, 1])
      >>> norms = feature_norms(features)
      >>> state = update_norm_state(init_norm_state(), norms)
      >>> loss = adaface_loss(
      ...     cosines, labels, norms=norms, norm_state=state, scale=10.0
      ... )
      >>> print(loss.shape)
      (2,)

    References:
      Kim et al., `AdaFace: Quality Adaptive Margin for Face Recognition
      <https://arxiv.org/abs/2204.00964>`_, CVPR 2022, after `the authors' code
      <https://github.com/mk-minchul/AdaFace>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    like = inputs.loss_type(x)
    mean, deviation = norm_state
    x, norms = inputs.own(x, checks.not_negative(norms, like, "norms"))
    x, mean = inputs.own(x, checks.finite(mean, like, "norm_state.mean"))
    spread = checks.at_least(deviation, 0, like, "norm_state.deviation")
    x, spread = inputs.own(x, spread)
    x, margin = inputs.own(x, checks.between(margin, 0, math.pi, like, "margin"), 0.5)
    x, given = inputs.own(x, checks.finite(concentration, like, "concentration"))
    angle, cosine = norm_margins(
        norms, NormState(mean, spread), margin=margin, concentration=given
    )
    return margin_loss(x, scale, angle, cosine, "clip")
