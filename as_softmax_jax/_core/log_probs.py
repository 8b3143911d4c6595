r"""The log-probabilities of all classes, each as accurate as its logit.

.. math::
  \log p_j = (o_j - o_k) - \log\Bigl(1 + \sum_{i \ne k} e^{o_i - o_k}\Bigr), \qquad
  k = \arg\max_j o_j

The strongest class's own 1 never meets the small rest of the sum, so that neither its
:math:`\log p_k` nor :math:`1 - p_k = -\mathrm{expm1}(\log p_k)` is a difference of
close numbers, nor are derivatives of either.
"""

import jax
import jax.numpy as jnp

from as_softmax_jax._core import inputs
from as_softmax_jax._core.nan import replaced


def log_probs(logits: jax.Array) -> jax.Array:
    """Returns log p of each class, [..., C]; -inf where the logit is, finite elsewhere.

    Args:
      logits: [..., C], clean. Not every one of a row is -inf.
    """
    strongest = jax.lax.argmax(logits, logits.ndim - 1, jnp.int32)
    rest = ~inputs.is_label(strongest, logits.shape[-1])
    gap = bounded_gap(logits, inputs.take_label(logits, strongest)[..., None])
    total = jnp.sum(jnp.exp(gap), axis=-1, where=rest)
    return gap - jnp.log1p(total)[..., None]


def bounded_gap(logits: jax.Array, peak: jax.Array) -> jax.Array:
    """Returns how far logits lie above a peak, finite but where they are -inf.

    The ends of float32 lie further apart than it has numbers; an eighth leaves room for
    what losses do with it.
    """
    gap = logits - peak
    lowest = jnp.full((), -jnp.finfo(gap.dtype).max / 8, gap.dtype)
    return replaced((gap < lowest) & (logits > -jnp.inf), gap, lowest)
