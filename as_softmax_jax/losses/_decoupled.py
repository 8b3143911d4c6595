r"""Decoupled softmax: each label of an example against its negatives alone (DEXML)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax._core.log_sum_exp import finite_shift, nonzero
from as_softmax_jax._core.nan import replaced
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Gupta et al., arXiv 2310.10636",
    use="for several labels among very many classes, ranked by their logits",
    at_zero_logits=math.log,
)
def multi_label_decoupled_softmax_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy of each label against the negatives, without other labels.

    .. math::
      \ell = -\frac{1}{|P|} \sum_{t \in P}
             \log \frac{e^{o_t}}{e^{o_t} + \sum_{i \in N} e^{o_i}}

    The labels of an example do not compete with each other, as they would in one
    softmax over all classes. With one label this is `softmax_loss`; without labels, or
    without negatives, the loss is 0. Several labels are answered by rank, so by the
    strongest logits: 0 is no threshold.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_decoupled_softmax_loss
      >>> logits = jnp.log(jnp.array([[4.0, 2.0, 1.0]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # (log(1 + 1/4) + log(1 + 1/2)) / 2
      >>> print(multi_label_decoupled_softmax_loss(logits, jnp.array([[1, 1, 0]])))
      [0.3143]

    References:
      Gupta et al., `Dual-Encoders for Extreme Multi-Label Classification
      <https://arxiv.org/abs/2310.10636>`_, ICLR 2024, after `the authors' code
      <https://github.com/nilesh2797/DEXML>`_, which divides the logits by a
      temperature first.
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    largest = jax.lax.stop_gradient(jnp.max(x.logits, axis=-1, keepdims=True))
    behind = _behind(x.logits - finite_shift(largest), x.negatives)
    return inputs.finish(inputs.mean_of_positives(softplus(behind), x), x)


def _behind(logits: jax.Array, negatives: jax.Array) -> jax.Array:
    """Returns how far each class is behind the log-sum-exp of the negatives, [..., C].

    It is +inf for a class of probability 0, and -inf for others without negatives.
    """
    zero = jnp.zeros((), logits.dtype)
    absent = logits == -jnp.inf
    present = replaced(absent, logits, zero)
    gap = _log_sum_exp(logits, negatives)[..., None] - present
    return replaced(absent, gap, jnp.full((), jnp.inf, logits.dtype))


@jax.custom_jvp
def _log_sum_exp(logits: jax.Array, kept: jax.Array) -> jax.Array:
    """Returns the log-sum-exp of the kept classes, -inf where there are none."""
    return _log_sum_exp_and_weights(logits, kept)[0]


def _log_sum_exp_and_weights(
    logits: jax.Array, kept: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the value, and the softmax over the kept, 0 where there are none."""
    logits = jnp.where(kept, logits, -jnp.inf)
    peak = finite_shift(jax.lax.stop_gradient(jnp.max(logits, axis=-1)))
    exps = jnp.exp(logits - peak[..., None])
    total = jnp.sum(exps, axis=-1)
    return peak + jnp.log(total), exps / nonzero(total)[..., None]


@_log_sum_exp.defjvp
def _log_sum_exp_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    _, weights = _log_sum_exp_and_weights(*primals)
    return _log_sum_exp(*primals), jnp.sum(weights * tangents[0], axis=-1)
