r"""Label-distributionally robust losses: LDR-KL and ALDR-KL.

With :math:`q_j \propto e^{(o_j - o_t + m [j \ne t]) / \lambda}` the adversary's weights
of the classes, LDR-KL is

.. math::
  \max_q \sum_j q_j (o_j - o_t + m [j \ne t]) - \lambda\, \mathrm{KL}(q \,\|\, 1 / C)
  = \lambda \log \frac1C \sum_j e^{(o_j - o_t + m [j \ne t]) / \lambda}

and ALDR-KL finds each example a temperature :math:`\lambda` of its own.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.log_odds import rivals_of, scaled, shifted, softplus
from as_softmax_jax._core.nan import replaced
from as_softmax_jax.losses._extras import PerExample
from as_softmax_jax.losses._table import register_loss

LogitNorm = Literal["softplus", "l1"] | None


@register_loss(
    paper="Zhu et al., arXiv 2112.14869",
    use="for noisy labels, by a temperature: low for clean ones, high for noisy ones",
    at_zero_logits=lambda c: math.log1p((c - 1) * math.exp(0.1)) - math.log(c),
    search={"temperature": (1.0, 2.0, 10.0)},
    not_negative=False,
)
def ldr_kl_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    margin: ArrayLike = 0.1,
    logit_norm: LogitNorm = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Label-distributionally robust loss with a KL penalty (LDR-KL).

    .. math::
      \ell = \lambda \log \frac1C \sum_j e^{(o_j - o_t + m [j \ne t]) / \lambda}

    Softmax cross-entropy at temperature :math:`\lambda` against a label that must lead
    by m, less a constant: it falls below 0, down to :math:`-\lambda \log C`, so it
    does not compare with other losses by its value. C counts the classes that are
    valid: by `class_mask`, and with a logit above -inf.

    The authors' code trains on normalised logits: "softplus" is
    :math:`\mathrm{softplus}(o_i)` over its mean, "l1" :math:`o_i` over the mean of
    :math:`|o_i|`, with gradient through the mean. A row whose mean is 0 stays as it is.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      temperature: lambda, positive and finite; a number or an array that broadcasts to
        the shape of the loss. Traced and out of range it gives NaN.
      margin: m, at least 0 and finite; likewise.
      logit_norm: None, "softplus" or "l1", static under `jit`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import ldr_kl_loss
      >>> logits = jnp.log(jnp.array([[4.0, 1.0]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log((1 + 1/4) / 2)
      >>> print(ldr_kl_loss(logits, jnp.array([0]), margin=0.0))
      [-0.47]

    References:
      Zhu, Ying and Yang, `Label Distributionally Robust Losses for Multi-class
      Classification <https://arxiv.org/abs/2112.14869>`_, ICML 2023, after `the
      authors' code <https://github.com/Optimization-AI/ICML2023_LDR>`_, from which the
      default margin is.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    x = x._replace(logits=_normalised(x.logits, logit_norm))
    temperature = checks.positive(temperature, inputs.loss_type(x), "temperature")
    x, temperature = inputs.own(x, temperature)
    x, loss = _ldr_kl(x, temperature, margin)
    return inputs.finish(loss, x)


def aldr_kl_temperature(
    logits: ArrayLike,
    *,
    temperature: ArrayLike,
    base: ArrayLike = 1.0,
    alpha: ArrayLike = 2.0,
    logit_norm: LogitNorm = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""The temperature of each example from the one it had.

    .. math::
      \lambda \leftarrow \lambda_0 \Bigl(1 - \frac{\mathrm{KL}(p \,\|\, 1 / C)}
                                                  {\alpha \log C}\Bigr), \qquad
      p = \mathrm{softmax}(o / \lambda)

    Low where the network is sure, high where all classes look alike. The p is
    without the loss's margin, as in the authors' code. An example that does not count,
    or has a single class, keeps its temperature.

    Shared arguments: `as_softmax_jax.losses`.

    Args:
      temperature: lambda as it was, positive and finite, before the first step `base`;
        a number or an array that broadcasts to the shape of the loss.
      base: lambda_0, positive and finite; likewise.
      alpha: above 1 and finite, so that no temperature falls to 0; likewise. Each of
        these gives NaN where it is traced and out of range.
      logit_norm: of `aldr_kl_loss`.

    Returns:
      The new temperatures, [...], float32 or float64, through which no gradient flows.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import aldr_kl_temperature
      >>> logits = jnp.array([[0.0, 0.0], [99.0, 0.0]])
      >>> print(aldr_kl_temperature(logits, temperature=1.0))  # 1, 1 - 1 / alpha
      [1.  0.5]

    References:
      Zhu, Ying and Yang, `Label Distributionally Robust Losses for Multi-class
      Classification <https://arxiv.org/abs/2112.14869>`_, ICML 2023, after `the
      authors' code <https://github.com/Optimization-AI/ICML2023_LDR>`_.
    """
    x = inputs.read_unlabelled(logits, where, class_mask, axis)
    given = checks.positive(temperature, inputs.loss_type(x), "temperature")
    left_out = x.bad if x.where is None else x.bad | ~x.where
    base, alpha = _schedule(x, base, alpha)
    x, old = inputs.own(x, given)
    new = _updated(_normalised(x.logits, logit_norm), old, base, alpha)
    kept = left_out | (_num_classes(x.logits) <= 1)
    return jax.lax.stop_gradient(jnp.where(kept, given, new) + 0 * given)


@register_loss(
    paper="Zhu et al., arXiv 2112.14869",
    use="for labels of which some are noisy: each example finds its own temperature",
    at_zero_logits=None,
    extras={"temperature": PerExample("base", aldr_kl_temperature)},
    search={"base": (1.0, 2.0, 10.0)},
    not_negative=False,
)
def aldr_kl_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike,
    base: ArrayLike = 1.0,
    alpha: ArrayLike = 2.0,
    margin: ArrayLike = 0.1,
    logit_norm: LogitNorm = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""LDR-KL with a temperature of each example's own, which training finds (ALDR-KL).

    .. math::
      \ell = \lambda \log \frac1C \sum_j e^{(o_j - o_t + m [j \ne t]) / \lambda}
             - \frac{\alpha \log C}{2 \lambda_0} (\lambda - \lambda_0)^2

    Examples with labels in doubt end with a high temperature, which makes the loss
    flat, and so does little harm. The temperature of an example is state:
    `aldr_kl_temperature` updates it, and the loss takes the new one. No gradient flows
    through it. Values below 0 and `logit_norm` are those of `ldr_kl_loss`.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      temperature: lambda, positive and finite; a number or an array that broadcasts to
        the shape of the loss. Traced and out of range it gives NaN.
      base: lambda_0, positive and finite; likewise.
      alpha: above 1 and finite; likewise.
      margin: m, at least 0 and finite; likewise.
      logit_norm: None, "softplus" or "l1", static under `jit`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import aldr_kl_loss, aldr_kl_temperature
      >>> logits, labels = jnp.log(jnp.array([[4.0, 1.0]])), jnp.array([0])
      >>> temperatures = jnp.ones(1000)  # of each training example, `base` at first
      >>> ids = jnp.array([17])  # of the batch
      >>> new = aldr_kl_temperature(logits, temperature=temperatures[ids])
      >>> temperatures = temperatures.at[ids].set(new)
      >>> jnp.set_printoptions(precision=4)
      >>> print(new, aldr_kl_loss(logits, labels, temperature=new))
      [0.861] [-0.4358]

    References:
      Zhu, Ying and Yang, `Label Distributionally Robust Losses for Multi-class
      Classification <https://arxiv.org/abs/2112.14869>`_, ICML 2023, after `the
      authors' code <https://github.com/Optimization-AI/ICML2023_LDR>`_.
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    x = x._replace(logits=_normalised(x.logits, logit_norm))
    temperature = checks.positive(temperature, inputs.loss_type(x), "temperature")
    x, temperature = inputs.own(x, jax.lax.stop_gradient(temperature))
    base, alpha = _schedule(x, base, alpha)
    x, base = inputs.own(x, base)
    x, alpha = inputs.own(x, alpha, 2.0)
    log_classes = jnp.log(_num_classes(x.logits, x.labels))
    penalty = alpha * log_classes / (2 * base) * (temperature - base) ** 2
    x, loss = _ldr_kl(x, temperature, margin)
    return inputs.finish(loss - penalty, x)


def _schedule(
    x: inputs.Inputs | inputs.UnlabelledInputs, base: ArrayLike, alpha: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Returns base and alpha for each row, NaN where out of range."""
    kind = inputs.loss_type(x)
    cure = "at 1 a temperature could fall to 0"
    base = checks.positive(base, kind, "base")
    return base, checks.above(alpha, 1, kind, "alpha", cure=cure)


def _ldr_kl(
    x: inputs.Inputs, temperature: jax.Array, margin: ArrayLike
) -> tuple[inputs.Inputs, jax.Array]:
    """Returns the inputs, rows of a margin out of range bad, and LDR-KL of each row."""
    given = checks.at_least(margin, 0, inputs.loss_type(x), "margin")
    x, given = inputs.own(x, given)
    behind = given + _behind(x.logits, x.labels, temperature)
    loss = _softplus(behind, temperature)
    return x, loss - temperature * jnp.log(_num_classes(x.logits, x.labels))


def _behind(logits: jax.Array, labels: jax.Array, temperature: jax.Array) -> jax.Array:
    r"""Returns how far the label is behind its rivals, [...]; -inf without any.

    .. math:: \lambda \log \sum_{j \ne t} e^{o_j / \lambda} - o_t

    The division is of differences to the strongest rival alone: far behind it a logit
    may overflow, and its exponential is 0.
    """
    rivals = rivals_of(logits, labels, 1 / temperature)
    lead = inputs.take_label(logits, labels) - rivals.peak
    behind = temperature * rivals.log_total - lead
    return replaced(rivals.alone, behind, jnp.full((), -jnp.inf, logits.dtype))


def _softplus(x: jax.Array, temperature: jax.Array) -> jax.Array:
    """Returns lambda log(1 + e^(x / lambda)), so x where the quotient is large."""
    large = x / temperature > 1e4
    small = jnp.where(large, jnp.zeros((), x.dtype), x)
    return jnp.where(large, x, temperature * softplus(small / temperature))


def _num_classes(logits: jax.Array, labels: jax.Array | None = None) -> jax.Array:
    """Returns how many classes of each row have a probability, the label's one."""
    present = logits > -jnp.inf
    if labels is not None:
        present |= inputs.is_label(labels, logits.shape[-1])
    return jnp.sum(present, axis=-1).astype(logits.dtype)


def _updated(
    logits: jax.Array, old: jax.Array, base: jax.Array, alpha: jax.Array
) -> jax.Array:
    """Returns the new temperatures, [...]; NaN for rows of a single class."""
    log_probs = jax.nn.log_softmax(scaled(shifted(logits), 1 / old), axis=-1)
    probs = jnp.exp(log_probs)
    terms = probs * jnp.where(probs > 0, log_probs, jnp.zeros((), logits.dtype))
    log_classes = jnp.log(jnp.maximum(_num_classes(logits), 2))
    divergence = log_classes + jnp.sum(terms, axis=-1)
    return base * (1 - divergence / (alpha * log_classes))


def _normalised(logits: jax.Array, logit_norm: LogitNorm) -> jax.Array:
    """Returns normalised logits, [..., C]; absent classes stay so."""
    if logit_norm is None:
        return logits
    checks.one_of(logit_norm, ("softplus", "l1"), "logit_norm")
    present = logits > -jnp.inf
    zero, one = jnp.zeros((), logits.dtype), jnp.ones((), logits.dtype)
    values = jnp.where(present, logits, zero)
    if logit_norm == "softplus":
        values = jnp.where(present, softplus(values), zero)
    count = jnp.maximum(_num_classes(logits), 1)
    mean = jnp.sum(jnp.abs(values), axis=-1) / count
    mean = jnp.where(mean == 0, one, mean)[..., None]
    return jnp.where(present, values / mean, -jnp.inf)
