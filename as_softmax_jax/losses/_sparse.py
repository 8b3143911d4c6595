r"""Losses whose probabilities have exact zeros: Sparse-Softmax, sparsemax, entmax.

Sparsemax and entmax are the Fenchel-Young losses of the Tsallis entropies,

.. math::
  \Omega(p) = \frac{1}{\alpha (\alpha - 1)} \Bigl(\sum_i p_i^\alpha - 1\Bigr), \qquad
  p^\star = \arg\max_p\, \langle p, o \rangle - \Omega(p)
          = \bigl[(\alpha - 1)\, o - \tau\bigr]_+^{1 / (\alpha - 1)}, \qquad
  \ell = \langle p^\star, o \rangle - \Omega(p^\star) - o_t

with :math:`\alpha = 2` for sparsemax and the threshold :math:`\tau` for which
:math:`p^\star` sums to 1. By the envelope theorem the gradient is
:math:`p^\star - \mathrm{onehot}(t)`. Below, :math:`z = (\alpha - 1)(o - \max o)`:
:math:`\tau` is then in [-1, 0], and a class with :math:`z \le -1` has probability 0.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.bisection import bisect
from as_softmax_jax._core.class_axes import Axis, from_last
from as_softmax_jax._core.log_odds import label_log_odds, softplus
from as_softmax_jax._core.order import kth_largest
from as_softmax_jax.losses._table import register_loss

# The values of alpha whose powers are products.
_PLAIN = (1.5, 2.0)


@register_loss(
    paper="Sun et al., arXiv 2112.12433",
    use="for many classes, where the k strongest are rivals enough",
    at_zero_logits=math.log,
    search={"k": (50, 20, 10, 5)},
)
def sparse_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    k: int = 10,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy over the k strongest classes.

    .. math::
      \ell = \log \sum_{j \in \Omega_k} e^{o_j} - o_t, \qquad
      \Omega_k = \{\, i : o_i \ge \text{the k-th largest logit} \,\}

    A label that is not among them is not in the sum, and has a gradient of -1; every
    other class that is dropped has one of exactly 0. Classes that tie with the k-th are
    all kept, so that the loss does not depend on the order of the classes. With k of C
    or more this is `softmax_loss`. It is not TensorFlow's ``sparse_softmax...``, which
    means labels that are integers.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      k: the number of strongest classes to keep, at least 1; a Python integer, static
        under `jit`. The default is what the method's authors published.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import sparse_softmax_loss
      >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.15, 0.1]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log((0.5 + 0.25) / 0.25), log((0.5 + 0.25) / 0.1)
      >>> print(sparse_softmax_loss(logits, jnp.array([1]), k=2))
      [1.0986]
      >>> print(sparse_softmax_loss(logits, jnp.array([3]), k=2))
      [2.0149]

    References:
      Sun et al., `Sparse-softmax: A Simpler and Faster Alternative Softmax
      Transformation <https://arxiv.org/abs/2112.12433>`_, 2021; formula and default as
      in `the authors' code <https://github.com/bojone/SPACES>`_.
    """
    k = checks.static_count(k, "k")
    x = inputs.read(logits, labels, where, class_mask, axis)
    num_classes = x.logits.shape[-1]
    if k >= num_classes:
        return inputs.finish(softplus(-label_log_odds(x.logits, x.labels)), x)
    strong = x.logits >= kth_largest(x.logits, k)
    is_label = inputs.is_label(x.labels, num_classes)
    kept = jnp.where(strong | is_label, x.logits, -jnp.inf)
    log_odds = label_log_odds(kept, x.labels)
    # The log-odds are against the others that are kept: outside of the sum, all of it.
    inside = inputs.take_label(strong, x.labels)
    return inputs.finish(jnp.where(inside, softplus(-log_odds), -log_odds), x)


@register_loss(
    paper="Martins and Astudillo, arXiv 1602.02068",
    use="where easy examples should settle, with a margin of 1 and nothing to tune",
    at_zero_logits=lambda c: (1 - 1 / c) / 2,
    distributions=True,
)
def sparsemax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Sparsemax loss, which is exactly 0 once the label leads by 1.

    .. math::
      \ell = \max_p \Bigl(\langle p, o \rangle - \tfrac12 \|p\|^2\Bigr)
             + \tfrac12 - o_t, \qquad
      \frac{\partial \ell}{\partial o} = p^\star - \mathrm{onehot}(t)

    with :math:`p^\star` the projection of the logits onto the probability simplex,
    which sets weak classes to exactly 0. A distribution in place of the label is scored
    as by `entmax_loss`. An example is *settled*, with a loss and a
    gradient of exactly 0, when :math:`o_t - \max_{i \ne t} o_i \ge 1`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import sparsemax_loss
      >>> logits = jnp.array([[2.0, 0.5], [0.5, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> print(sparsemax_loss(logits, jnp.array([0, 0])))  # 0, (1 - 0.5)**2 / 4
      [0.     0.0625]

    References:
      Martins and Astudillo, `From Softmax to Sparsemax
      <https://arxiv.org/abs/1602.02068>`_, ICML 2016, equation 19.
    """
    return entmax_loss(
        logits, labels, alpha=2.0, where=where, class_mask=class_mask, axis=axis
    )


def sparsemax_settled(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Whether the label leads by 1, so that `sparsemax_loss` is exactly 0.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import sparsemax_settled
      >>> logits = jnp.array([[2.0, 0.5], [0.5, 0.0]])
      >>> print(sparsemax_settled(logits, jnp.array([0, 0])))
      [ True False]
    """
    return entmax_settled(
        logits, labels, alpha=2.0, where=where, class_mask=class_mask, axis=axis
    )


def sparsemax_probs(
    logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Sparsemax: the projection of the logits onto the probability simplex.

    .. math:: p^\star = \arg\min_p \|p - o\|^2 = [\, o - \tau \,]_+

    Weak classes have a probability of exactly 0. The gradient of `sparsemax_loss` is
    :math:`p^\star - \mathrm{onehot}(t)`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import sparsemax_probs
      >>> print(sparsemax_probs(jnp.array([[0.5, 0.0, -1.0]])))
      [[0.75 0.25 0.  ]]

    References:
      Martins and Astudillo, `From Softmax to Sparsemax
      <https://arxiv.org/abs/1602.02068>`_, ICML 2016, equation 2.
    """
    return entmax_probs(
        logits, alpha=2.0, where=where, class_mask=class_mask, axis=axis
    )


@register_loss(
    paper="Peters et al., arXiv 1905.05702",
    use="between softmax and sparsemax: settles with a margin of 1 / (alpha - 1)",
    at_zero_logits=lambda c: (1 - c**-0.5) / 0.75,
    distributions=True,
    search={"alpha": (1.1, 1.25, 1.5, 1.75)},
)
def entmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.5,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Entmax loss, between softmax cross-entropy and the sparsemax loss.

    .. math::
      \ell = \max_p \Bigl(\langle p, o \rangle
               - \frac{\sum_i p_i^\alpha - 1}{\alpha (\alpha - 1)}\Bigr) - o_t, \qquad
      \frac{\partial \ell}{\partial o} = p^\star - \mathrm{onehot}(t)

    with :math:`p^\star` the p at the maximum, in which weak classes are exactly 0.
    An example is *settled*, with a loss and a gradient of exactly 0, when
    :math:`o_t - \max_{i \ne t} o_i \ge 1 / (\alpha - 1)`. With ``alpha=2`` this is
    `sparsemax_loss`; as alpha falls to 1 it becomes `softmax_loss`.

    The loss of a distribution q in place of the label is a distance from it that is 0
    where :math:`p^\star = q`:

    .. math::
      \ell = \langle p^\star - q, o \rangle + H(p^\star) - H(q), \qquad
      H(p) = \frac{1 - \sum_i p_i^\alpha}{\alpha (\alpha - 1)}

    with the gradient :math:`p^\star - q`.

    Its threshold comes from a bisection with a fixed number of steps. That is cheap,
    and a Newton step ends it, for an alpha of 1.5 or 2 that is known at trace time.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      alpha: the entropy's exponent, above 1 and finite; a number or an array that
        broadcasts to the shape of the loss. It may be traced; out of range it then
        gives NaN. No gradient flows to it.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import entmax_loss
      >>> logits = jnp.array([[3.0, 0.5], [0.0, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # 0, (1 - 0.5**0.5) / 0.75
      >>> print(entmax_loss(logits, jnp.array([0, 0]), alpha=1.5))
      [0.     0.3905]

    References:
      Peters et al., `Sparse Sequence-to-Sequence Models
      <https://arxiv.org/abs/1905.05702>`_, ACL 2019, equation 16; Blondel et al.,
      `Learning with Fenchel-Young Losses <https://arxiv.org/abs/1901.02324>`_,
      JMLR 2020.
    """
    x = inputs.read_soft(logits, labels, where, class_mask, axis)
    x, exponent = inputs.own(x, _alpha(alpha, x), 2.0)
    probs = _probs(_plain_alpha(alpha), x.logits, exponent)
    if isinstance(x, inputs.DistributionInputs):
        loss = _distance(x.logits, x.probs, exponent, probs)
        return inputs.finish(loss, x)
    return inputs.finish(_loss(x.logits, x.labels, exponent, probs), x)


def entmax_settled(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 1.5,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Whether the label leads by 1 / (alpha - 1), so that `entmax_loss` is exactly 0.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      alpha: the entropy's exponent, above 1.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import entmax_settled
      >>> logits = jnp.array([[3.0, 0.5], [0.0, 0.0]])
      >>> print(entmax_settled(logits, jnp.array([0, 0]), alpha=1.5))
      [ True False]
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    x, alpha = inputs.own(x, _alpha(alpha, x), 2.0)
    is_label = inputs.is_label(x.labels, x.logits.shape[-1])
    strongest = jnp.max(jnp.where(is_label, -jnp.inf, x.logits), axis=-1)
    lead = inputs.take_label(x.logits, x.labels) - strongest
    return inputs.finish_settled(((alpha - 1) * lead >= 1) & ~x.empty, x)


def entmax_probs(
    logits: ArrayLike,
    *,
    alpha: ArrayLike = 1.5,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Entmax, between softmax and sparsemax, whose weak classes are exactly 0.

    .. math::
      p^\star = \arg\max_p \Bigl(\langle p, o \rangle
               - \frac{\sum_i p_i^\alpha - 1}{\alpha (\alpha - 1)}\Bigr)
             = \bigl[(\alpha - 1)\, o - \tau\bigr]_+^{1 / (\alpha - 1)}

    The gradient of `entmax_loss` is :math:`p^\star - \mathrm{onehot}(t)`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      alpha: the entropy's exponent, above 1 and finite; see `entmax_loss`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import entmax_probs
      >>> jnp.set_printoptions(precision=4)
      >>> print(entmax_probs(jnp.array([[1.0, 0.0, -2.0]]), alpha=1.5))
      [[0.8307 0.1693 0.    ]]

    References:
      Peters et al., `Sparse Sequence-to-Sequence Models
      <https://arxiv.org/abs/1905.05702>`_, ACL 2019, equation 10.
    """
    x = inputs.read_unlabelled(logits, where, class_mask, axis)
    x, exponent = inputs.own(x, _alpha(alpha, x), 2.0)
    probs = _probs(_plain_alpha(alpha), x.logits, exponent)
    probs = inputs.finish_probs(probs, x)
    return from_last(probs, jnp.shape(logits), axis)


def _alpha(
    alpha: ArrayLike,
    x: inputs.Inputs | inputs.DistributionInputs | inputs.UnlabelledInputs,
) -> jax.Array:
    """Returns alpha for each row, NaN where it is out of range."""
    cure = "in the limit of 1 use `softmax_loss`"
    array = checks.above(alpha, 1, inputs.loss_type(x), "alpha", cure=cure)
    return jax.lax.stop_gradient(array)


def _plain_alpha(alpha: ArrayLike) -> float | None:
    """Returns an alpha that is known and one of these, else None."""
    concrete = checks.concrete_value(alpha)
    for value in _PLAIN:
        if concrete is not None and np.all(concrete == value):
            return value
    return None


def _others(probs: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns p* with 0 at the label, whose own 1 - p_t is the sum of the rest."""
    is_label = inputs.is_label(labels, probs.shape[-1])
    return jnp.where(is_label, jnp.zeros((), probs.dtype), probs)


@jax.custom_jvp
def _loss(
    logits: jax.Array, labels: jax.Array, alpha: jax.Array, probs: jax.Array
) -> jax.Array:
    r"""Computes the loss from p*, to a part of the size of 1 - p_t.

    .. math::
      \ell = \sum_{i \ne t} p_i (o_i - o_t)
           + \frac{1}{\alpha (\alpha - 1)} \sum_i p_i (1 - p_i^{\alpha - 1})

    where every term is of the size of :math:`1 - p_t` or less, and 0 in settled rows.
    """
    others = _others(probs, labels)
    # A label out of the support can leave the others a little above 1.
    missing = jnp.minimum(jnp.sum(others, axis=-1), 1)
    gap = logits - inputs.take_label(logits, labels)[..., None]
    gap = jnp.where(others > 0, gap, jnp.zeros((), gap.dtype))
    power = alpha - 1
    entropy = jnp.sum(others * -jnp.expm1(power[..., None] * jnp.log(others)), axis=-1)
    own = (1 - missing) * -jnp.expm1(power * jnp.log1p(-missing))
    loss = jnp.sum(others * gap, axis=-1) + (entropy + own) / (alpha * power)
    return jnp.maximum(loss, 0)


@_loss.defjvp
def _loss_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Computes <p* - onehot, do>: at the maximum the loss stands still in p*."""
    _, labels, _, probs = primals
    others = _others(probs, labels)
    slope = jnp.sum(others * tangents[0], axis=-1)
    slope -= jnp.sum(others, axis=-1) * inputs.take_label(tangents[0], labels)
    return _loss(*primals), slope


@jax.custom_jvp
def _distance(
    logits: jax.Array, target: jax.Array, alpha: jax.Array, probs: jax.Array
) -> jax.Array:
    """Computes <p* - q, o> + H(p*) - H(q) for a target q that is a distribution."""
    gap = logits - jnp.max(logits, axis=-1, keepdims=True)
    gap = jnp.where((probs > 0) | (target > 0), gap, jnp.zeros((), gap.dtype))
    loss = jnp.sum((probs - target) * gap, axis=-1)
    return jnp.maximum(loss + _entropy(probs, alpha) - _entropy(target, alpha), 0)


@_distance.defjvp
def _distance_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Computes <p* - q, do>, as `_loss_jvp`; the target is a constant."""
    _, target, _, probs = primals
    return _distance(*primals), jnp.sum((probs - target) * tangents[0], axis=-1)


def _entropy(probs: jax.Array, alpha: jax.Array) -> jax.Array:
    r"""Returns :math:`\sum_i p_i (1 - p_i^{\alpha - 1}) / (\alpha (\alpha - 1))`."""
    power = alpha - 1
    inside = probs > 0
    log_p = jnp.log(jnp.where(inside, probs, 1))
    each = jnp.where(inside, probs, 0) * -jnp.expm1(power[..., None] * log_p)
    return jnp.sum(each, axis=-1) / (alpha * power)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _probs(plain: float | None, logits: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns p*, [..., C], with exact zeros."""
    power = alpha[..., None] - 1
    z = power * (logits - jnp.max(logits, axis=-1, keepdims=True))
    if plain is None:
        return _probs_by_bisection(jnp.maximum(z, -1), power)
    return _probs_of_plain(plain, jnp.maximum(z, -1))


@_probs.defjvp
def _probs_jvp(
    plain: float | None, primals: Any, tangents: Any
) -> tuple[jax.Array, jax.Array]:
    """Computes dp = s (do - <s, do> / sum s) with s = p^(2 - alpha) on the support."""
    logits, alpha = primals
    probs = _probs(plain, logits, alpha)
    inside = probs > 0
    power = 2 - alpha[..., None]
    slope = jnp.where(inside, jnp.where(inside, probs, 1) ** power, 0)
    total = jnp.sum(slope, axis=-1, keepdims=True)
    mean = jnp.sum(slope * tangents[0], axis=-1, keepdims=True) / total
    return probs, slope * (tangents[0] - mean)


def _probs_of_plain(alpha: float, z: jax.Array) -> jax.Array:
    r"""Returns p* for an alpha of 1.5 or 2 from z in [-1, 0].

    1. The threshold :math:`\tau` in [-1, 0] at which :math:`\sum_i (z_i - \tau)_+` is 1
       for 2, and :math:`\sum_i (z_i - \tau)_+^2` for 1.5, by bisection.
    2. One Newton step, which for 2 is the threshold of that support, exactly.
    """
    # The largest z is 0; written so, the bounds vary over a mesh as z does.
    high = jnp.max(z, axis=-1, keepdims=True)

    def heavy_at(tau: jax.Array) -> jax.Array:
        above = jnp.maximum(z - tau, 0)
        above = above if alpha == 2 else above * above
        return jnp.sum(above, axis=-1, keepdims=True) >= 1

    tau, _ = bisect(heavy_at, high - 1, high)
    above = jnp.where(z > -1, jnp.maximum(z - tau, 0), 0)
    if alpha == 2:
        excess = (jnp.sum(above, axis=-1, keepdims=True) - 1) / jnp.sum(
            above > 0, axis=-1, keepdims=True
        ).astype(z.dtype)
    else:
        excess = jnp.sum(above * above, axis=-1, keepdims=True) - 1
        excess /= 2 * jnp.sum(above, axis=-1, keepdims=True)
    above = jnp.where(z > -1, jnp.maximum(z - (tau + excess), 0), 0)
    probs = above if alpha == 2 else above * above
    return probs / jnp.sum(probs, axis=-1, keepdims=True)


def _probs_by_bisection(z: jax.Array, power: jax.Array) -> jax.Array:
    r"""Returns p* for any alpha from z in [-1, 0]; `power` is alpha - 1.

    Bisects :math:`x = 1 + \tau` in [0, 1 - C^(1 - alpha)], between "all mass on one
    class" and "equal shares", down to its rounding. The last two bounds give sums
    just above and just below 1, and p* is interpolated between them so that it sums
    to 1. For a large alpha that is what gives classes near the threshold their share:
    there p jumps by more than the rounding of x can resolve.
    """

    def probs(x: jax.Array) -> jax.Array:
        return jnp.exp(jnp.log1p(jnp.maximum(z - x, -1)) / power)

    def heavy_at(x: jax.Array) -> jax.Array:
        return jnp.sum(probs(x), axis=-1, keepdims=True) >= 1

    # The largest z is 0; written so, the bounds vary over a mesh as z does.
    low = jnp.max(z, axis=-1, keepdims=True)
    high = low - jnp.expm1(-power * np.log(z.shape[-1]).astype(z.dtype))
    low, high = bisect(heavy_at, low, high)
    heavy, light = probs(low), probs(high)
    above = jnp.sum(heavy, axis=-1, keepdims=True)
    below = jnp.sum(light, axis=-1, keepdims=True)
    same = above == below
    share = (1 - below) / jnp.where(same, 1, above - below)
    share = jnp.clip(jnp.where(same, 1, share), 0, 1)
    return light + share * (heavy - light)
