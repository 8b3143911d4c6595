r"""The largest logit, the mean and the entropy in one number: MMLES of DisMax."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import inputs
from as_softmax_jax._core.class_axes import Axis


def max_mean_entropy_score(
    logits: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""How much an example looks like one of the classes (MMLES, of DisMax).

    .. math::
      \max_j o_j + \frac1C \sum_j o_j + \sum_j p_j \log p_j, \qquad
      p = \mathrm{softmax}(o)

    of the logits of `as_softmax_jax.heads.distance_logits`, without the scale of
    `as_softmax_jax.losses.dismax_loss`: near one class, near the classes on the whole,
    and sure of its answer. C counts the valid classes, those with a logit above -inf.

    Shared arguments: `as_softmax_jax.scores`.

    Returns:
      The score of each example, [...], float32 or float64; 0 in rows left out.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.scores import max_mean_entropy_score
      >>> jnp.set_printoptions(precision=4)
      >>> # -1 - 1 - log(2)
      >>> print(max_mean_entropy_score(jnp.array([[-1.0, -1.0]])))
      [-2.6931]

    References:
      Macêdo et al., `Distinction Maximization Loss
      <https://arxiv.org/abs/2205.05874>`_, 2022, after `the authors' code
      <https://github.com/dlmacedo/distinction-maximization-loss>`_.
    """
    x = inputs.read_unlabelled(logits, where, class_mask, axis)
    present = x.logits > -jnp.inf
    zero = jnp.zeros((), x.logits.dtype)
    there = jnp.where(present, x.logits, zero)
    count = jnp.sum(present, axis=-1).astype(zero.dtype)
    log_probs = jax.nn.log_softmax(x.logits, axis=-1)
    # An absent class has 0 times -inf here, and in the derivative.
    log_probs = jnp.where(present, log_probs, zero)
    terms = jnp.where(present, jnp.exp(log_probs) * log_probs, zero)
    score = jnp.max(x.logits, axis=-1) + jnp.sum(there, axis=-1) / count
    score += jnp.sum(terms, axis=-1)
    rows = x._replace(class_mask=None)
    return inputs.finish_probs(score[..., None], rows)[..., 0]
