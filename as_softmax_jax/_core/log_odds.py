r"""The log-odds of the label, which every softmax-like loss is a function of.

.. math::
  u = \log \frac{p_t}{1 - p_t} = o_t - \log \sum_{j \ne t} e^{o_j}, \qquad
  -\log p_t = \mathrm{softplus}(-u), \qquad 1 - p_t = \mathrm{sigmoid}(-u)

In this form neither :math:`-\log p_t` nor :math:`1 - p_t` is a difference of close
numbers, so that both are accurate for a label of probability near 1 and near 0.
"""

from typing import Any

import jax
import jax.numpy as jnp

from as_softmax_jax._core import inputs
from as_softmax_jax._core.log_sum_exp import finite_shift, nonzero


def shifted(logits: jax.Array) -> jax.Array:
    """Returns logits less the largest of their row; no loss here sees the shift."""
    return logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))


def scaled(logits: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns each row of shifted logits times its scale.

    The derivative by `scale` of a logit of -inf would be 0 * -inf, so these leave it
    out.
    """
    scale = scale[..., None]
    absent = logits == -jnp.inf
    present = jnp.where(absent, jnp.zeros((), logits.dtype), logits)
    return jnp.where(absent, logits * jax.lax.stop_gradient(scale), present * scale)


@jax.custom_jvp
def label_log_odds(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns u of each row, [...]; +inf where no other class has a probability.

    Args:
      logits: [..., C], no larger than moderate, so `shifted`; -inf for classes
        without a part. Not every one of a row is -inf.
      labels: [...] in range.

    Returns:
      The log-odds. The derivative is :math:`[i = t] - q_i` with q the softmax over
      the other classes, 0 where there are none.
    """
    return _log_odds_and_rivals(logits, labels)[0]


def _log_odds_and_rivals(
    logits: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns u, [...], and q, the softmax over the other classes, [..., C]."""
    others = jnp.where(
        inputs.is_label(labels, logits.shape[-1]), -jnp.inf, logits
    ).astype(logits.dtype)
    peak = finite_shift(jax.lax.stop_gradient(jnp.max(others, axis=-1)))
    exps = jnp.exp(others - peak[..., None])
    total = jnp.sum(exps, axis=-1)
    log_odds = inputs.take_label(logits, labels) - (peak + jnp.log(total))
    return log_odds, exps / nonzero(total)[..., None]


@label_log_odds.defjvp
def _label_log_odds_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    logits, labels = primals
    _, rivals = _log_odds_and_rivals(logits, labels)
    slope = inputs.take_label(tangents[0], labels)
    slope -= jnp.sum(rivals * tangents[0], axis=-1)
    return label_log_odds(logits, labels), slope


@jax.custom_jvp
def softplus(x: jax.Array) -> jax.Array:
    """Returns log(1 + e^x), so -log p_t at x = -u.

    The derivative of `jax.nn.softplus` is e^(x - softplus(x)), which takes over the
    rounding of a large x; the sigmoid does not.
    """
    return jnp.logaddexp(x, 0)


@softplus.defjvp
def _softplus_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return softplus(primals[0]), jax.nn.sigmoid(primals[0]) * tangents[0]


@jax.custom_jvp
def one_minus_p(log_odds: jax.Array) -> jax.Array:
    """Returns 1 - p_t, the sigmoid of -u, whose derivative is -p_t (1 - p_t)."""
    return jax.nn.sigmoid(-log_odds)


@one_minus_p.defjvp
def _one_minus_p_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    # That of `jax.nn.sigmoid` forms p_t as 1 - (1 - p_t), and loses a small one.
    value = one_minus_p(primals[0])
    return value, -value * jax.nn.sigmoid(primals[0]) * tangents[0]


def focal(log_odds: jax.Array, gamma: jax.Array) -> jax.Array:
    """Returns (1 - p)^gamma * -log p, with log(1 - p) = -softplus(u).

    Where p is 0 to any precision the weight is 1; its derivative, which is 0, would
    meet a -log p that overflows. Without rivals u is +inf, which 0 * inf forbids.
    """
    hopeless = log_odds < -1e4
    u = jnp.clip(jnp.where(hopeless, 0, log_odds), max=jnp.finfo(log_odds.dtype).max)
    loss = jnp.exp(-gamma * softplus(u)) * softplus(-u)
    return jnp.where(hopeless, -log_odds, loss)


def mean_below(logits: jax.Array, peak: jax.Array, weight: jax.Array) -> jax.Array:
    """Returns the weight times how far the classes above -inf lie below it on average.

    The difference is taken of halves and weighed before it is summed, so that neither
    step overflows.

    Args:
      logits: [..., C].
      peak: [...], the largest of each row.
      weight: [...].
    """
    present = logits > -jnp.inf
    halves = jnp.where(present, logits, jnp.zeros((), logits.dtype)) / 2
    share = weight / jnp.sum(present, axis=-1).astype(logits.dtype)
    below = (peak[..., None] / 2 - halves) * (2 * share)[..., None]
    below = jnp.where(present, below, jnp.zeros((), below.dtype))
    return jnp.sum(below, axis=-1)
