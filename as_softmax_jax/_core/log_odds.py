r"""The log-odds of the label, which every softmax-like loss is a function of.

.. math::
  u = \log \frac{p_t}{1 - p_t} = o_t - \log \sum_{j \ne t} e^{o_j}, \qquad
  -\log p_t = \mathrm{softplus}(-u), \qquad 1 - p_t = \mathrm{sigmoid}(-u)

In this form neither :math:`-\log p_t` nor :math:`1 - p_t` is a difference of close
numbers, so that both are accurate for a label of probability near 1 and near 0.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from as_softmax_jax._core import inputs
from as_softmax_jax._core.log_probs import bounded_gap
from as_softmax_jax._core.log_sum_exp import exp, finite_shift
from as_softmax_jax._core.nan import replaced


def shifted(logits: jax.Array) -> jax.Array:
    """Returns logits less the largest of their row; no loss here sees the shift."""
    return logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))


def scaled(logits: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns each row of gaps between logits times its scale.

    The derivative by `scale` of a gap of -inf would be 0 * -inf, and of NaN is NaN, so
    these leave it out.
    """
    scale = scale[..., None]
    absent = ~(logits > -jnp.inf)
    present = jnp.where(absent, jnp.zeros((), logits.dtype), logits)
    return jnp.where(absent, logits * jax.lax.stop_gradient(scale), present * scale)


@jax.custom_jvp
def _scaled_exp(gaps: jax.Array, scale: jax.Array) -> jax.Array:
    """Returns e^(gaps * scale), with a derivative of 0 where it is 0 or NaN."""
    return jnp.exp(gaps * scale)


def _scaled_exp_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    gaps, scale = primals
    value = _scaled_exp(gaps, scale)
    slope = jnp.where(jnp.isnan(value), jnp.zeros((), value.dtype), value)
    change = jnp.zeros_like(value)
    if not isinstance(tangents[0], SymbolicZero):
        change += slope * scale * tangents[0]
    if not isinstance(tangents[1], SymbolicZero):
        finite = jnp.where(value > 0, gaps, jnp.zeros((), gaps.dtype))
        change += slope * finite * tangents[1]
    return value, change


_scaled_exp.defjvp(_scaled_exp_jvp, symbolic_zeros=True)


class Rivals(NamedTuple):
    """The other classes of each row, as the label's log-odds see them."""

    peak: jax.Array  # [...] the strongest one's logit; 0 where it is -inf
    log_total: jax.Array  # [...] log of their sum of e^{(o - peak) scale}
    alone: jax.Array  # [...] bool, no other class has a probability
    scale: jax.Array | None  # [...] of the logits; None: 1

    def log_odds(self, label_logit: jax.Array) -> jax.Array:
        """Returns u of each row, [...], of the label's logit, before the scale."""
        lead = label_logit - self.peak
        if self.scale is not None:
            lead = scaled(lead[..., None], self.scale)[..., 0]
        return jnp.where(self.alone, jnp.inf, lead - self.log_total)

    def with_label(self, label_logit: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the peak over all classes, and log sum_j e^{o_j - peak}; scale 1.

        The label's logit is finite, or that of a rival is.
        """
        u = self.log_odds(label_logit)
        first = self.alone | (label_logit >= self.peak)
        # From the label the sum is 1 + e^{-u}, from the rivals' peak theirs by 1 + e^u.
        log_total = softplus(jnp.where(first, -u, u))
        log_total += jnp.where(first, jnp.zeros((), u.dtype), self.log_total)
        return jnp.where(first, label_logit, self.peak), log_total

    def log_probs(self, x: inputs.Inputs, label_logit: jax.Array) -> jax.Array:
        """Returns log p of each class, [..., C], that of the label by its log-odds.

        It is -inf where the logit is, and finite elsewhere; scale 1.
        """
        peak, log_total = self.with_label(label_logit)
        gap = bounded_gap(x.logits, peak[..., None])
        own = -softplus(-self.log_odds(label_logit))
        is_label = inputs.is_label(x.labels, x.logits.shape[-1])
        return jnp.where(is_label, own[..., None], gap - log_total[..., None])


def label_log_odds(
    logits: jax.Array, labels: jax.Array, scale: jax.Array | None = None
) -> jax.Array:
    """Returns u of each row, [...]; +inf where no other class has a probability.

    Args:
      logits: [..., C], clean; -inf for classes without a part. Not every one of a row
        is -inf.
      labels: [...] in range.
      scale: [...] of each row, positive; None: 1.
    """
    label_logit = inputs.take_label(logits, labels)
    return rivals_of(logits, labels, scale).log_odds(label_logit)


def rivals_of(
    logits: jax.Array, labels: jax.Array, scale: jax.Array | None = None
) -> Rivals:
    """Returns the rivals of each row; arguments as for `label_log_odds`."""
    return _rivals(logits, labels, scale)[0]


def log_odds_of_inputs(
    x: inputs.Inputs, scale: jax.Array | None = None
) -> tuple[inputs.Inputs, jax.Array]:
    """Returns the inputs, clean, and u of each row; see `rivals_of_inputs`."""
    x, label_logit, rivals = rivals_of_inputs(x, scale)
    return x, rivals.log_odds(label_logit)


@jax.jit
def rivals_of_inputs(
    x: inputs.Inputs, scale: jax.Array | None = None
) -> tuple[inputs.Inputs, jax.Array, Rivals]:
    """Returns the inputs, clean, the label's logit and its rivals of each row.

    The sum over the rivals finds bad rows and empty ones without a pass of its own.

    Args:
      x: as `inputs.read` leaves them; ``clean=False`` is enough.
      scale: [...] of each row, positive; None: 1.
    """
    label_logit = inputs.take_label(x.logits, x.labels)
    rivals, bad = _rivals(x.logits, x.labels, scale)
    bad |= ~(label_logit < jnp.inf)
    if x.where is not None:
        bad &= x.where
    bad |= x.bad
    empty = x.empty | (rivals.alone & (label_logit == -jnp.inf) & ~bad)
    # A bad row that is alone has a cotangent to pass on.
    harmless, zero = bad | empty, jnp.zeros((), label_logit.dtype)
    rivals = rivals._replace(
        peak=jnp.where(harmless, zero, rivals.peak), alone=rivals.alone & ~harmless
    )
    label_logit = replaced(harmless, label_logit, zero)
    logits = replaced(harmless[..., None], x.logits, zero)
    return x._replace(logits=logits, bad=bad, empty=empty), label_logit, rivals


def _rivals(
    logits: jax.Array, labels: jax.Array, scale: jax.Array | None
) -> tuple[Rivals, jax.Array]:
    """Returns the rivals of each row, and where they hold a NaN or +inf, [...]."""
    others = replaced(
        inputs.is_label(labels, logits.shape[-1]),
        logits,
        jnp.full((), -jnp.inf, logits.dtype),
    )
    peak = finite_shift(jax.lax.stop_gradient(jnp.max(others, axis=-1)))
    gaps = others - peak[..., None]
    exps = exp(gaps) if scale is None else _scaled_exp(gaps, scale[..., None])
    total = jnp.sum(exps, axis=-1)
    bad, alone = jnp.isnan(total), total == 0
    total = replaced(bad | alone, total, jnp.ones((), total.dtype))
    return Rivals(peak, jnp.log(total), alone, scale), bad


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


def mean_below(
    logits: jax.Array, peak: jax.Array, weight: jax.Array, x: inputs.Inputs
) -> jax.Array:
    """Returns the weight times how far the classes above -inf lie below it on average.

    Args:
      logits: [..., C], as they came: a pass over clean ones costs two.
      peak: [...], the largest of each row.
      weight: [...].
      x: the inputs, clean; in bad rows and empty ones the mean is 0.
    """
    mean = _mean_below(logits, peak, weight)
    return replaced(x.bad | x.empty, mean, jnp.zeros((), mean.dtype))


@jax.custom_jvp
def _mean_below(logits: jax.Array, peak: jax.Array, weight: jax.Array) -> jax.Array:
    # Halves, weighed before they are summed: neither step overflows.
    present, number = _present(logits)
    share = (2 * weight / number)[..., None]
    below = (peak[..., None] / 2 - logits / 2) * share
    return jnp.sum(jnp.where(present, below, jnp.zeros((), below.dtype)), axis=-1)


def _mean_below_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    logits, peak, weight = primals
    present, number = _present(logits)
    change = jnp.zeros_like(weight)
    if not isinstance(tangents[0], SymbolicZero):
        moved = jnp.where(present, tangents[0], jnp.zeros((), logits.dtype))
        change -= weight / number * jnp.sum(moved, axis=-1)
    if not isinstance(tangents[1], SymbolicZero):
        change += weight * tangents[1]
    if not isinstance(tangents[2], SymbolicZero):
        change += _mean_below(logits, peak, tangents[2])
    return _mean_below(*primals), change


_mean_below.defjvp(_mean_below_jvp, symbolic_zeros=True)


def _present(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns which classes are there, [..., C], and their number, 1 for none."""
    present = ~(logits == -jnp.inf)
    return present, jnp.maximum(jnp.sum(present.astype(logits.dtype), axis=-1), 1)
