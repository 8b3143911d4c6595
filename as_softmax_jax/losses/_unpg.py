r"""Margin softmax whose rivals are the pairs of a batch, too: UNPG."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cosine_margin import lowered, own
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax._core.log_sum_exp import finite_shift
from as_softmax_jax._core.norms import inverse_norm
from as_softmax_jax.losses._extras import FromFeatures
from as_softmax_jax.losses._table import register_loss


class NegativePairs(NamedTuple):
    """The pairs of examples of different classes."""

    cosines: jax.Array  # shape=(n, n), dtype=float32 or float64
    kept: jax.Array  # each pair once, in the upper triangle, shape=(n, n), dtype=bool


def negative_pairs(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    whisker: ArrayLike = 1.5,
    where: ArrayLike | None = None,
) -> NegativePairs:
    r"""The cosines of a batch's pairs of different classes, without outliers.

    .. math::
      q_1 - w\, (q_3 - q_1) \le c_{ij} \le q_3 + w\, (q_3 - q_1), \qquad
      i < j, \quad t_i \ne t_j

    with q the quartiles of these cosines: very easy pairs teach nothing, and very hard
    ones are often mislabelled. Gradients flow through the cosines and not through the
    choice. It is of the batch at hand: inside `jax.shard_map`, of a device's own
    examples.

    Args:
      features: floating point [..., D].
      labels: integers [...].
      whisker: w, at least 0, inf for every pair; a scalar.
      where: boolean, broadcasts to `labels`: the examples that count. None: all.

    Returns:
      The cosines [n, n] of n examples, and which pairs are kept.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import negative_pairs
      >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
      >>> pairs = negative_pairs(features, jnp.array([0, 1, 1]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(pairs.cosines[pairs.kept])
      [0.  0.6]

    References:
      Jung et al., `Unified Negative Pair Generation toward Well-discriminative Feature
      Space for Face Recognition <https://arxiv.org/abs/2203.11593>`_, BMVC 2022, after
      `the authors' code <https://github.com/Jung-Jun-Uk/UNPG>`_.
    """
    features = checks.floating_array(features, "features")
    labels = checks.integer_array(
        labels, features.shape[:-1], "features without their last axis", "labels"
    )
    where = checks.boolean_mask(where, labels.shape, "labels", "where")
    dtype = compute_dtype(features.dtype)
    rows = features.reshape(-1, features.shape[-1])
    if where is not None:
        rows = jnp.where(where.reshape(-1, 1), rows, jnp.zeros((), rows.dtype))
    products = jnp.matmul(rows, rows.T, preferred_element_type=dtype).astype(dtype)
    inverse = inverse_norm(rows.astype(dtype), axis=-1)
    cosines = products * inverse[:, None] * inverse[None]
    flat = labels.ravel()
    pairs = jnp.triu(flat[:, None] != flat[None], k=1)
    if where is not None:
        there = where.ravel()
        pairs &= there[:, None] & there[None]
    whisker = checks.number(whisker, dtype, "whisker")
    return NegativePairs(cosines, _within(cosines, pairs, whisker))


def _within(cosines: jax.Array, pairs: jax.Array, whisker: jax.Array) -> jax.Array:
    """Returns the pairs that lie within the whiskers of their quartiles."""
    if not cosines.size:
        return pairs
    cosines = jax.lax.stop_gradient(cosines)
    ordered = jnp.sort(jnp.where(pairs, cosines, jnp.inf).ravel())
    number = jnp.sum(pairs)
    # The floors of a quarter and of three quarters, without a product.
    at = jnp.stack([number // 4, number - (number + 3) // 4])
    low, high = jnp.where(number > 0, ordered[at], 0)
    reach = jnp.where(whisker == jnp.inf, 0, whisker) * (high - low)
    inside = (cosines >= low - reach) & (cosines <= high + reach)
    return pairs & (inside | (whisker == jnp.inf))


@register_loss(
    paper="Jung et al., arXiv 2203.11593",
    use="faces; pairs of a batch's examples are rivals beside the classes",
    at_zero_logits=None,
    extras={"pairs": FromFeatures(negative_pairs, of_batch=True)},
    input="cosines",
    search={"cosine": (0.2, 0.35, 0.5)},
    shift_invariant=False,
    zero_with_one_class=False,
)
def unpg_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    pairs: NegativePairs,
    cosine: ArrayLike = 0.5,
    angle: ArrayLike = 0.0,
    scale: ArrayLike = 64.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Margin softmax whose rivals are a batch's negative pairs, too (UNPG).

    .. math::
      \ell = -\log \frac{e^{z_t}}
        {e^{z_t} + \sum_{j \ne t} e^{s c_j} + \sum_{p \in \mathcal{P}} e^{s c_p}},
      \qquad z_t = s\, (\cos(\arccos c_t + a) - b)

    Every pair that `negative_pairs` kept stands in every row's sum, so all that a row
    needs of them is one number. Gradients flow to the features through the pairs: of
    compact training, which leaves out rows, that part would be lost.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      pairs: of `negative_pairs`.
      cosine: b, finite; a number or an array that broadcasts to the shape of the loss.
        Traced and out of range it gives NaN.
      angle: a, in radians, in [-pi, pi]; likewise.
      scale: s, positive and finite; likewise. An array of scales sums over the pairs
        once a row.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import negative_pairs, unpg_loss
      >>> features, labels = jnp.eye(2), jnp.array([0, 1])
      >>> pairs = negative_pairs(features, labels)  # one, of cosine 0
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + e^(2 (0 - 0.5)) + e^(2 (0 - 0.5)))
      >>> print(unpg_loss(features, labels, pairs=pairs, scale=2.0))
      [0.5514 0.5514]

    References:
      Jung et al., `Unified Negative Pair Generation toward Well-discriminative Feature
      Space for Face Recognition <https://arxiv.org/abs/2203.11593>`_, BMVC 2022, after
      `the authors' code <https://github.com/Jung-Jun-Uk/UNPG>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    like = inputs.loss_type(x)
    one = checks.LossType((), like.dtype) if jnp.ndim(scale) == 0 else like
    x, scale = inputs.own(x, checks.positive(scale, one, "scale"))
    rivals = _log_sum_exp(NegativePairs(*map(jnp.asarray, pairs)), scale)
    x, margin = own(x, scale, angle, cosine)
    x, label_logit, log_odds = lowered(x, margin)
    # The pairs are one more class.
    behind = _log_add(-log_odds, rivals - label_logit)
    return inputs.finish(softplus(behind), x)


def _log_add(a: jax.Array, b: jax.Array) -> jax.Array:
    """Returns log(e^a + e^b), by a sigmoid for derivative; either may be infinite."""
    larger, smaller = jnp.maximum(a, b), jnp.minimum(a, b)
    finite = jnp.isfinite(larger) & (smaller > -jnp.inf)
    gap = jnp.where(finite, smaller, 0) - jnp.where(finite, larger, 0)
    more = jnp.where(finite, softplus(gap), jnp.zeros((), gap.dtype))
    return larger + more


def _log_sum_exp(pairs: NegativePairs, scale: jax.Array) -> jax.Array:
    """Returns the log of the pairs' sum for each scale, [...]; -inf without any."""
    if not pairs.cosines.size:
        return jnp.full(scale.shape, -jnp.inf, scale.dtype)
    kept = pairs.kept.ravel()
    cosines = jnp.where(kept, pairs.cosines.astype(scale.dtype).ravel(), 0)
    last = (1,) * scale.ndim + (-1,)
    logits = scale[..., None] * cosines.reshape(last)
    logits = jnp.where(kept.reshape(last), logits, -jnp.inf)
    peak = finite_shift(jax.lax.stop_gradient(jnp.max(logits, axis=-1)))
    total = jnp.sum(jnp.exp(logits - peak[..., None]), axis=-1)
    # The logarithm of 0 has no gradient to give.
    none = total == 0
    return jnp.where(none, -jnp.inf, peak + jnp.log(jnp.where(none, 1, total)))
