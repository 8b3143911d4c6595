r"""A differentiable choice of the k strongest classes (DEXML's soft top-k).

The threshold t is where :math:`\sum_i \sigma(\alpha (o_i + t)) = k`. Below, scaled
logits :math:`z = \alpha (o - c)`, with c midway between the k-th and the next largest,
and the offset :math:`x = \alpha (t + c)`. What the k largest lack of 1 each is then
what the others have,

.. math:: \sum_{i \le k} \sigma(-(z_i + x)) = \sum_{i > k} \sigma(z_i + x)

and x is between :math:`-\log 2 (C - k)` and :math:`\log 2 k`: at the root no side is
larger than its number of classes times the share of the nearest.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.bisection import bisect
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import scaled, softplus
from as_softmax_jax._core.nan import replaced
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Gupta et al., arXiv 2310.10636",
    use="for several labels, where the k strongest classes are what counts",
    at_zero_logits=lambda c: math.log(max(c / 5, 1)),
    search={"k": (20, 10, 5, 1)},
)
def multi_label_soft_top_k_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    k: int = 5,
    alpha: ArrayLike = 2.0,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""How far an example's labels are from being among its k strongest classes.

    .. math::
      \ell = -\frac{1}{|P|} \sum_{t \in P} \log \sigma(\alpha (o_t + \tau)), \qquad
      \sum_i \sigma(\alpha (o_i + \tau)) = k

    The sigmoids are a soft choice of k classes, sharper for a larger alpha; the
    gradient goes through :math:`\tau`. With more than k labels the loss cannot reach 0.
    Where k classes or fewer are valid all of them are chosen, and the loss is 0; it is
    0 without labels, too. Several labels are answered by rank: 0 is no threshold.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      k: the number of classes to choose, at least 1; a Python integer, static under
        `jit`.
      alpha: positive and finite; a number or an array that broadcasts to the shape of
        the loss. Traced and out of range it gives NaN.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_soft_top_k_loss
      >>> logits, targets = jnp.log(jnp.array([[9.0, 1.0]])), jnp.array([[1, 0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # The threshold is midway, log 3: -log(3 / (3 + 1/3))
      >>> print(multi_label_soft_top_k_loss(logits, targets, k=1, alpha=1.0))
      [0.2877]

    References:
      Gupta et al., `Dual-Encoders for Extreme Multi-Label Classification
      <https://arxiv.org/abs/2310.10636>`_, ICLR 2024, after `the authors' code
      <https://github.com/nilesh2797/DEXML>`_, from which the defaults are.
    """
    k = checks.static_count(k, "k")
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    alpha = checks.positive(alpha, inputs.loss_type(x), "alpha")
    x, alpha = inputs.own(x, alpha)
    lost = _lost(k, x.logits, alpha)
    return inputs.finish(inputs.mean_of_positives(softplus(lost), x), x)


@functools.partial(jax.jit, static_argnames="k")
def _lost(k: int, logits: jax.Array, alpha: jax.Array) -> jax.Array:
    """Returns the log-odds that each class is not chosen, [..., C].

    It is +inf for a class of probability 0, and -inf for others where all fit.
    """
    absent = logits == -jnp.inf
    fits = jnp.sum(~absent, axis=-1, keepdims=True) <= k
    infinity = jnp.full((), jnp.inf, logits.dtype)
    lost = jnp.zeros_like(logits)
    if k < logits.shape[-1]:
        lost = -_log_odds(k, logits, fits, alpha)
    lost = jnp.where(fits, -infinity, lost)
    # A label of probability 0 is pulled up where it can be.
    return replaced(absent, lost, infinity)


def _log_odds(
    k: int, logits: jax.Array, fits: jax.Array, alpha: jax.Array
) -> jax.Array:
    """Returns alpha (o + tau), [..., C]; anything in rows where all classes fit."""
    ordered = jnp.sort(jax.lax.stop_gradient(logits), axis=-1, descending=True)
    # Halves, since the sum may be beyond the largest number.
    middle = ordered[..., k - 1, None] / 2 + ordered[..., k, None] / 2
    zero = jnp.zeros((), logits.dtype)
    z = scaled(jnp.where(fits, zero, logits - middle), alpha)
    return z + _offset(k, z)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _offset(k: int, z: jax.Array) -> jax.Array:
    """Returns x, [..., 1], of scaled logits."""
    ordered = jnp.sort(z, axis=-1, descending=True)
    inside, outside = ordered[..., :k], ordered[..., k:]

    def too_low(x: jax.Array) -> jax.Array:
        # Logarithms, since far apart both sides are 0 to any precision.
        missing = jax.nn.logsumexp(-softplus(inside + x), axis=-1, keepdims=True)
        taken = jax.nn.logsumexp(-softplus(-(outside + x)), axis=-1, keepdims=True)
        return taken <= missing

    # Zeros that vary over a mesh as z does.
    zero = jnp.where(ordered[..., :1] > 0, 0.0, 0.0).astype(z.dtype)
    high = zero + math.log(2 * k)
    low, high = bisect(too_low, zero - math.log(2 * (z.shape[-1] - k)), high)
    return low + (high - low) / 2


@_offset.defjvp
def _offset_jvp(k: int, primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """Computes dx = -sum v dz / sum v, v = sigma(z + x) sigma(-(z + x))."""
    (z,), (change,) = primals, tangents
    x = _offset(k, z)
    log_odds = z + x
    weights = jax.nn.softmax(-softplus(log_odds) - softplus(-log_odds), axis=-1)
    return x, -jnp.sum(weights * change, axis=-1, keepdims=True)
