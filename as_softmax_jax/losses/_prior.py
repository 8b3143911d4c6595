r"""Losses that know how often each class occurs: balanced softmax, LDAM.

With :math:`n_j` training examples of class j. What comes of the counts alone stands
beside them: the prior, the margins, the weights.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cosine_margin import margin_loss
from as_softmax_jax._core.log_odds import log_odds_of_inputs, softplus
from as_softmax_jax._core.log_sum_exp import finite_shift
from as_softmax_jax.losses._extras import ClassCounts
from as_softmax_jax.losses._table import register_loss


def class_prior(class_counts: ArrayLike, *, power: ArrayLike = 1.0) -> jax.Array:
    r"""The logarithm of each class's share of the training examples.

    .. math:: \pi_j = \tau \log \frac{n_j}{\sum_k n_k}

    Added to the logits of any loss it adjusts them to the prior:
    ``as_softmax_loss(logits + class_prior(counts), labels, logit_margin=2.0)``, where
    settled then speaks of prior-weighted probabilities.

    Args:
      class_counts: numbers of at least 0, [C]; examples of each class.
      power: tau, a number.

    Returns:
      The prior, float32 [C] (float64 of 64-bit counts); -inf for a class that never
      occurs.

    Raises:
      ValueError: a count is known and negative or not finite, or all are 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import class_prior
      >>> print(jnp.exp(class_prior(jnp.array([3, 1, 0]))))
      [0.75 0.25 0.  ]

    References:
      Menon et al., `Long-tail learning via logit adjustment
      <https://arxiv.org/abs/2007.07314>`_, ICLR 2021.
    """
    counts = checks.class_counts(class_counts)
    power = checks.number(power, counts.dtype, "power")
    seen = counts > 0
    log_share = jnp.log(jnp.where(seen, counts, 1)) - jnp.log(jnp.sum(counts))
    return jnp.where(seen, power * log_share, -jnp.inf)


def ldam_margins(class_counts: ArrayLike, *, max_margin: ArrayLike = 0.5) -> jax.Array:
    r"""The margin of each class in `ldam_loss`: the rarer, the larger.

    .. math:: m_j = M\, n_j^{-1/4} \Big/ \max_k n_k^{-1/4}

    Args:
      class_counts: numbers of at least 0, [C]; examples of each class.
      max_margin: M, that of the rarest class, and of classes that never occur.

    Returns:
      The margins, float32 [C] (float64 of 64-bit counts).

    Raises:
      ValueError: a count is known and negative or not finite, or all are 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import ldam_margins
      >>> print(ldam_margins(jnp.array([16, 1, 0])))
      [0.25 0.5  0.5 ]

    References:
      Cao et al., `Learning Imbalanced Datasets with Label-Distribution-Aware Margin
      Loss <https://arxiv.org/abs/1906.07413>`_, NeurIPS 2019.
    """
    counts = checks.class_counts(class_counts)
    max_margin = checks.number(max_margin, counts.dtype, "max_margin")
    seen = counts > 0
    rarest = jnp.min(jnp.where(seen, counts, jnp.inf))
    share = jnp.where(seen, rarest / jnp.where(seen, counts, 1), 1) ** 0.25
    return max_margin * share


def effective_number_weights(
    class_counts: ArrayLike, *, beta: float = 0.9999
) -> jax.Array:
    r"""Weights of classes by the effective number of their examples.

    .. math::
      w_j \propto \frac{1 - \beta}{1 - \beta^{n_j}}, \qquad \sum_j w_j = K

    with K the number of classes that occur. LDAM's deferred re-weighting is
    ``loss * weights[labels]`` over the sum of the weights used, late in training.

    Args:
      class_counts: numbers of at least 0, [C]; examples of each class.
      beta: in [0, 1); 0 gives every class that occurs the weight 1.

    Returns:
      The weights, float32 [C] (float64 of 64-bit counts); 0 for a class that never
      occurs.

    Raises:
      ValueError: `beta` is outside [0, 1), a count is known and negative or not
        finite, or all are 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import effective_number_weights
      >>> jnp.set_printoptions(precision=4)
      >>> # 1 and 1 / (1 + 0.5), scaled to sum to 2
      >>> print(effective_number_weights(jnp.array([1, 2, 0]), beta=0.5))
      [1.2 0.8 0. ]

    References:
      Cui et al., `Class-Balanced Loss Based on Effective Number of Samples
      <https://arxiv.org/abs/1901.05555>`_, CVPR 2019.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"`beta` must be in [0, 1); got {beta}.")
    counts = checks.class_counts(class_counts)
    seen = counts > 0
    if beta == 0:
        return seen.astype(counts.dtype)
    # 1 - beta^n without the difference of close numbers.
    missing = -jnp.expm1(counts * math.log(beta))
    weights = jnp.where(seen, (1 - beta) / jnp.where(seen, missing, 1), 0)
    return weights * (jnp.sum(seen.astype(counts.dtype)) / jnp.sum(weights))


@register_loss(
    paper="Ren et al., arXiv 2007.10740",
    use="classes of uneven frequency that are to count alike",
    at_zero_logits=None,
    extras={"class_counts": ClassCounts()},
    search={"power": (0.5, 1.0, 1.5)},
)
def balanced_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_counts: ArrayLike,
    power: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy on logits adjusted to the classes' frequencies.

    .. math::
      \ell = -\log \frac{n_t^\tau e^{o_t}}{\sum_j n_j^\tau e^{o_j}}

    for data whose classes are unevenly frequent, where each is to count alike in use:
    the frequencies stand in training and not in prediction, which takes the plain
    logits. A class that never occurs has no part; as a label it costs +inf. A power
    tau other than 1 is logit adjustment.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      class_counts: n, numbers of at least 0, [C]; examples of each class in training.
      power: tau, at least 0 and finite; a number or an array that broadcasts to the
        shape of the loss. Traced and out of range it gives NaN.

    Raises:
      ValueError: `class_counts` is not [C], or a count is known and negative or not
        finite, or all are 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import balanced_softmax_loss
      >>> counts = jnp.array([3, 1])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + 3), log(1 + 1/3)
      >>> loss = balanced_softmax_loss(
      ...     jnp.zeros((2, 2)), jnp.array([1, 0]), class_counts=counts
      ... )
      >>> print(loss)
      [1.3863 0.2877]

    References:
      Ren et al., `Balanced Meta-Softmax for Long-Tailed Visual Recognition
      <https://arxiv.org/abs/2007.10740>`_, NeurIPS 2020; Menon et al., `Long-tail
      learning via logit adjustment <https://arxiv.org/abs/2007.07314>`_, ICLR 2021.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    power = checks.at_least(power, 0, inputs.loss_type(x), "power")
    x, power = inputs.own(x, power)
    prior = class_prior(_counts(class_counts, x))
    prior = prior.reshape((1,) * (x.logits.ndim - 1) + (-1,))
    seen = prior > -jnp.inf
    change = power[..., None] * jnp.where(seen, prior, 0)
    # Added, so that a NaN of a class that is never seen is found as well.
    change += jnp.where(seen, 0, prior)
    # What counts is small, and huge logits would swallow it.
    peak = finite_shift(jax.lax.stop_gradient(jnp.max(x.logits, axis=-1)))
    adjusted = (x.logits - peak[..., None]) + change
    x, log_odds = log_odds_of_inputs(x._replace(logits=adjusted))
    return inputs.finish(softplus(-log_odds), x)


@register_loss(
    paper="Cao et al., arXiv 1906.07413",
    use="the same on cosines, by a larger margin for rarer classes",
    at_zero_logits=None,
    extras={"class_counts": ClassCounts()},
    input="cosines",
    search={"max_margin": (0.1, 0.3, 0.5)},
)
def ldam_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    class_counts: ArrayLike,
    max_margin: ArrayLike = 0.5,
    scale: ArrayLike = 30.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax on cosines with a larger margin for rarer classes (LDAM).

    .. math::
      \ell = -\log \frac{e^{s (c_t - m_t)}}
                        {e^{s (c_t - m_t)} + \sum_{j \ne t} e^{s c_j}}, \qquad
      m_j = M\, n_j^{-1/4} \Big/ \max_k n_k^{-1/4}

    This is `am_softmax_loss` with ``margin=ldam_margins(class_counts)[labels]``. The
    paper's deferred re-weighting multiplies it by `effective_number_weights` late in
    training.

    Shared arguments, and what comes out: `as_softmax_jax.losses`; `logits` are the
    cosines.

    Args:
      class_counts: n, numbers of at least 0, [C]; examples of each class in training.
      max_margin: M, a difference of cosines, at least 0 and finite; a number or an
        array that broadcasts to the shape of the loss. Traced and out of range it gives
        NaN.
      scale: s, positive and finite; likewise.

    Raises:
      ValueError: `class_counts` is not [C], or a count is known and negative or not
        finite, or all are 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import ldam_loss
      >>> cosines, counts = jnp.array([[0.9, 0.4]]), jnp.array([1, 16])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + exp(10 * (0.4 - (0.9 - 0.5))))
      >>> print(ldam_loss(cosines, jnp.array([0]), class_counts=counts, scale=10.0))
      [0.6931]

    References:
      Cao et al., `Learning Imbalanced Datasets with Label-Distribution-Aware Margin
      Loss <https://arxiv.org/abs/1906.07413>`_, NeurIPS 2019; cosines as in `the
      authors' code <https://github.com/kaidic/LDAM-DRW>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis, clean=False)
    most = checks.at_least(max_margin, 0, inputs.loss_type(x), "max_margin")
    x, most = inputs.own(x, most)
    shares = ldam_margins(_counts(class_counts, x), max_margin=1.0)
    # Along the rows, as a mesh with explicit axes asks for.
    share = inputs.take_label(jnp.broadcast_to(shares, x.logits.shape), x.labels)
    return margin_loss(x, scale, cosine=most * share)


def _counts(class_counts: ArrayLike, x: inputs.Inputs) -> jax.Array:
    """Returns the counts, one a class of the logits, in their dtype."""
    counts = checks.class_counts(class_counts, x.logits.shape[-1])
    return counts.astype(x.logits.dtype)
