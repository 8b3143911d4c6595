"""Softmax on cosines with margins drawn anew for each example: ElasticFace."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cosine_margin import margin_loss
from as_softmax_jax.losses._extras import StepKey
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Boutros et al., arXiv 2109.09416",
    use="as ArcFace, with classes of uneven spread",
    at_zero_logits=None,
    extras={"key": StepKey()},
    input="cosines",
    search={"mean": (0.1, 0.3, 0.5)},
    shift_invariant=False,
)
def elastic_arcface_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    mean: ArrayLike = 0.5,
    deviation: ArrayLike = 0.05,
    scale: ArrayLike = 64.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""ArcFace with a margin that is drawn anew for each example (ElasticFace-Arc).

    .. math::
      \ell = -\log \frac{e^{s \cos(\theta_t + a)}}
                        {e^{s \cos(\theta_t + a)} + \sum_{j \ne t} e^{s \cos \theta_j}},
      \qquad a \sim \mathcal{N}(\mu, \sigma^2)

    Ranked draws (ElasticFace+), and draws that a smaller batch of the same step has to
    share: ``margin_softmax_loss(..., angle=rank_margins(elastic_margins(key, ...),
    target_cosines), beyond="plain")``.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      key: of the step's draws, from `jax.random.key`. Over a mesh with `jax.jit` the
        draws are those of one device; inside `jax.shard_map` they are of a device's
        own rows, and each device wants its own key, ``jax.random.fold_in(key,
        jax.lax.axis_index("data"))``.
      mean: mu, in radians, finite; a number or an array that broadcasts to the shape
        of the loss. Traced and not finite it gives NaN.
      deviation: sigma, at least 0 and finite; likewise.
      scale: s, positive and finite; likewise.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.losses import arcface_loss, elastic_arcface_loss
      >>> cosines, labels = jnp.array([[0.6, 0.5]]), jnp.array([0])
      >>> key = jax.random.key(0)
      >>> a = elastic_arcface_loss(cosines, labels, key=key, deviation=0.0)
      >>> print(a == arcface_loss(cosines, labels))
      [ True]

    References:
      Boutros et al., `ElasticFace <https://arxiv.org/abs/2109.09416>`_, CVPRW 2022,
      after `the authors' code <https://github.com/fdbtrs/ElasticFace>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    x, margins = _drawn(x, key, mean, deviation)
    return margin_loss(x, scale, angle=margins, beyond="plain")


@register_loss(
    paper="Boutros et al., arXiv 2109.09416",
    use="as AM-Softmax, with classes of uneven spread",
    at_zero_logits=None,
    extras={"key": StepKey()},
    input="cosines",
    search={"mean": (0.1, 0.2, 0.35)},
)
def elastic_cosface_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    key: jax.Array,
    mean: ArrayLike = 0.35,
    deviation: ArrayLike = 0.05,
    scale: ArrayLike = 64.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""AM-Softmax with a margin that is drawn anew for each example (ElasticFace-Cos).

    .. math::
      \ell = -\log \frac{e^{s (c_t - b)}}{e^{s (c_t - b)} + \sum_{j \ne t} e^{s c_j}},
      \qquad b \sim \mathcal{N}(\mu, \sigma^2)

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      key: of the step's draws, from `jax.random.key`. Over a mesh with `jax.jit` the
        draws are those of one device; inside `jax.shard_map` they are of a device's
        own rows, and each device wants its own key, ``jax.random.fold_in(key,
        jax.lax.axis_index("data"))``.
      mean: mu, finite; a number or an array that broadcasts to the shape of the loss.
        Traced and not finite it gives NaN.
      deviation: sigma, at least 0 and finite; likewise.
      scale: s, positive and finite; likewise.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.losses import am_softmax_loss, elastic_cosface_loss
      >>> cosines, labels = jnp.array([[0.6, 0.5]]), jnp.array([0])
      >>> key = jax.random.key(0)
      >>> a = elastic_cosface_loss(cosines, labels, key=key, deviation=0.0)
      >>> print(a == am_softmax_loss(cosines, labels, margin=0.35, scale=64.0))
      [ True]

    References:
      Boutros et al., `ElasticFace <https://arxiv.org/abs/2109.09416>`_, CVPRW 2022,
      after `the authors' code <https://github.com/fdbtrs/ElasticFace>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    x, margins = _drawn(x, key, mean, deviation)
    return margin_loss(x, scale, cosine=margins)


def elastic_margins(
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    mean: float | jax.Array = 0.5,
    deviation: float | jax.Array = 0.05,
) -> jax.Array:
    r"""Draws the margins of ElasticFace, one an example, from a normal distribution.

    .. math:: m_i \sim \mathcal{N}(\mu, \sigma^2)

    Args:
      key: from `jax.random.key`; a new one each step.
      shape: of the loss.
      mean: mu.
      deviation: sigma.

    Returns:
      The margins, of that shape, float32; none is clipped.

    Examples:
      >>> import jax
      >>> from as_softmax_jax.losses import elastic_margins
      >>> print(elastic_margins(jax.random.key(0), (2,), mean=0.5, deviation=0.0))
      [0.5 0.5]
    """
    return mean + deviation * jax.random.normal(key, shape, jnp.float32)


def rank_margins(
    margins: ArrayLike, target_cosines: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Gives the largest margins to the examples that are furthest from their class.

    ElasticFace+ draws margins and hands them out in the order of the label's cosine.
    The authors' code uses the inverse of that permutation, which gives them to others;
    this is what the paper describes.

    Args:
      margins: floating point [...], one an example of a batch.
      target_cosines: floating point [...], the label's cosine of each.
      where: boolean, broadcasts to these: the rows that count. The others get 0, and
        take the margins that are left.

    Returns:
      The margins in another order, [...]. No gradient flows through it.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import rank_margins
      >>> drawn, cosines = jnp.array([0.49, 0.52, 0.5]), jnp.array([0.2, 0.9, 0.1])
      >>> print(rank_margins(drawn, cosines))
      [0.5  0.49 0.52]
    """
    margins = checks.floating_array(margins, "margins")
    cosines = checks.floating_array(target_cosines, "target_cosines")
    where = checks.boolean_mask(where, margins.shape, "margins", "where")
    valid = True if where is None else where
    last = jnp.where(valid, cosines, jnp.inf).reshape(-1)
    # Rank 0 is the smallest cosine; sorted downwards it takes the largest margin.
    rank = jnp.argsort(jnp.argsort(last))
    falling = -jnp.sort(-margins.reshape(-1))
    handed = falling[rank].reshape(margins.shape)
    return jax.lax.stop_gradient(jnp.where(valid, handed, 0).astype(margins.dtype))


def _drawn(
    x: inputs.Inputs, key: jax.Array, mean: ArrayLike, deviation: ArrayLike
) -> tuple[inputs.Inputs, jax.Array]:
    """Returns the inputs with the rows of bad parameters, and margins [...]."""
    like = inputs.loss_type(x)
    x, mean = inputs.own(x, checks.finite(mean, like, "mean"))
    x, deviation = inputs.own(x, checks.at_least(deviation, 0, like, "deviation"))
    # Drawn in float32, so that float64 logits have the margins of float32 ones.
    drawn = jax.random.normal(key, like.shape, jnp.float32).astype(mean.dtype)
    return x, mean + deviation * drawn
