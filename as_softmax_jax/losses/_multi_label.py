r"""Losses for any number of labels an example: AS-Softmax and its peers.

Notation of the comments: P the positive classes of a row, N the negative ones, and
p the softmax over both. AS-Softmax (arXiv 2508.03175, section III)
compares probabilities as for one label, see `as_softmax_jax._core.margin`; with a
margin in logits it compares each class with the threshold 0 of the prediction.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, inputs, margin
from as_softmax_jax._core.class_axes import Axis
from as_softmax_jax._core.cross_entropy import binary_cross_entropy
from as_softmax_jax._core.log_sum_exp import finite_shift
from as_softmax_jax._core.margin import Margin, gap
from as_softmax_jax._core.order import kth_largest
from as_softmax_jax.losses._table import register_loss


@register_loss(
    paper="Lv et al., arXiv 2508.03175",
    use="for several labels, where easy examples or classes should settle",
    at_zero_logits=lambda c: math.log(2 * c),
    margins=("logit_margin", "delta"),
    example_keywords={"logit_margin": 2.0, "delta": 0.1},
    search={"logit_margin": (5.0, 3.0, 2.0, 1.0), "delta": (0.6, 0.3, 0.1, 0.05)},
    softmax_at={"logit_margin": math.inf, "delta": 1.0},
    zero_with_one_class=False,
    shift_invariant=False,
)
def multi_label_as_softmax_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Adaptive Sparse Softmax for multi-label classification.

    Positives push their logits above 0 and negatives below, as far as they still
    compete:

    .. math::
      \ell = \log\Bigl(1 + \sum_{i \in N} z_i e^{o_i}\Bigr)
           + \log\Bigl(1 + \sum_{t \in P} z_t e^{-o_t}\Bigr)

    with one of two margins. No gradient flows through :math:`z`, and the prediction is
    :math:`o_i > 0`. A row in which nothing is kept is *settled*: loss and gradient are
    exactly 0.

    A margin m between logits asks each class to lie on its side of 0 by more than m:

    .. math::
      z_i = [\, o_i \ge -m \,]\ (i \in N), \qquad z_t = [\, o_t \le m \,]\ (t \in P)

    So a settled row is predicted right, it may have any number of labels or none, and
    a class that is settled has a gradient of exactly 0 in a row that is not.

    The paper's margin :math:`\delta` compares the classes with each other,

    .. math::
      z_i = [\, \min_{t \in P} p_t - p_i \le \delta \,]\ (i \in N), \qquad
      z_t = [\, p_t - \max_{i \in N} p_i \le \delta \,]\ (t \in P)

    with :math:`p` the softmax over all valid classes. Without positives every
    negative is kept; without negatives, every positive. A settled row need not be
    predicted right: logits (5, 2) with the first class positive are settled at
    ``delta=0.1``, yet the second logit is above 0; so also report scores at a threshold
    tuned on validation data. As :math:`p` sums to 1, a row with :math:`1 / \delta`
    positives or more can never settle.

    Exactly one of the two margins is given. Shared arguments, and what comes out:
    `as_softmax_jax.losses`.

    Args:
      delta: the paper's margin, a difference of probabilities in [0, 1]; a number or
        an array that broadcasts to the shape of the loss. Traced and outside [0, 1] it
        gives NaN.
      logit_margin: m, a distance of logits from 0 in [0, inf]; otherwise as `delta`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import multi_label_as_softmax_loss
      >>> logits = jnp.array([[5.0, 2.0], [0.0, 0.0]])
      >>> targets = jnp.array([[1, 0], [1, 0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + e^2) and 2 log 2: in the first row one class alone is kept
      >>> print(multi_label_as_softmax_loss(logits, targets, logit_margin=2.0))
      [2.1269 1.3863]
      >>> print(multi_label_as_softmax_loss(logits, targets, delta=0.1))
      [0.     1.3863]

    References:
      Lv et al., `Adaptive Sparse Softmax: An Effective and Efficient Softmax
      Variant <https://arxiv.org/abs/2508.03175>`_, IEEE TASLP 2025; the loss without
      its mask is that of Su et al., `ZLPR <https://arxiv.org/abs/2208.02955>`_.
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    x, given = _own_margin(x, delta, logit_margin, "multi_label_as_softmax_loss")
    return inputs.finish(_loss(x, given), x)


def multi_label_as_softmax_settled(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Whether each example is settled: no class, positive or negative, is kept.

    .. math:: \text{settled} \iff o_i < -m \ \ \forall i \in N \quad \text{and} \quad
      o_t > m \ \ \forall t \in P

    with a margin in logits, and with the paper's

    .. math:: \text{settled} \iff \min_{t \in P} p_t - \max_{i \in N} p_i > \delta

    and never without positives or without negatives.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      delta: the margin, a difference of probabilities in [0, 1]; or else
      logit_margin: m, a distance of logits from 0 in [0, inf].

    Returns:
      Booleans of the shape of the loss. A row whose loss is NaN is not settled.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import multi_label_as_softmax_settled
      >>> logits = jnp.array([[5.0, 2.0], [3.0, -3.0]])
      >>> targets = jnp.array([[1, 0], [1, 0]])
      >>> print(multi_label_as_softmax_settled(logits, targets, logit_margin=2.0))
      [False  True]
      >>> print(multi_label_as_softmax_settled(logits, targets, delta=0.1))
      [ True  True]
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    x, given = _own_margin(x, delta, logit_margin, "multi_label_as_softmax_settled")
    return inputs.finish_settled(~_any_kept(x, given), x)


@register_loss(
    paper="Su et al., arXiv 2208.02955",
    use="for several labels, without weighing classes against each other",
    at_zero_logits=lambda c: math.log(2 * c),
    zero_with_one_class=False,
    shift_invariant=False,
)
def multi_label_softmax_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Softmax cross-entropy for multi-label classification (ZLPR).

    Every positive is ranked above 0, and 0 above every negative:

    .. math::
      \ell = \log\Bigl(1 + \sum_{i \in N} e^{o_i}\Bigr)
           + \log\Bigl(1 + \sum_{t \in P} e^{-o_t}\Bigr)

    The prediction is :math:`o_i > 0`. With ``logit_margin=inf`` or ``delta=1``, at
    which every class is kept, `multi_label_as_softmax_loss` is this loss.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_softmax_loss
      >>> logits = jnp.log(jnp.array([[4.0, 2.0, 0.5]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + 2 + 0.5) + log(1 + 1 / 4)
      >>> print(multi_label_softmax_loss(logits, jnp.array([[1, 0, 0]])))
      [1.4759]

    References:
      Su et al., `ZLPR: A Novel Loss for Multi-label Classification
      <https://arxiv.org/abs/2208.02955>`_, 2022.
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    return inputs.finish(_zlpr(x.logits, x.negatives, x.positives), x)


@register_loss(
    paper="Sun et al., arXiv 2112.12433",
    use="for several labels among many classes, against the k strongest others",
    at_zero_logits=lambda c: math.log(2 * c),
    search={"k": (50, 20, 10, 5)},
    zero_with_one_class=False,
    shift_invariant=False,
)
def multi_label_sparse_softmax_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    k: int = 10,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Sparse-Softmax for multi-label classification: the k strongest negatives.

    .. math::
      \ell = \log\Bigl(1 + \sum_{i \in N_k} e^{o_i}\Bigr)
           + \log\Bigl(1 + \sum_{t \in P} e^{-o_t}\Bigr), \qquad
      N_k = \{\, i \in N : o_i \ge \text{the k-th largest logit of } N \,\}

    Negatives that tie with the k-th are all kept, so that the loss does not depend on
    the order of the classes; the other negatives have a gradient of exactly 0. With k
    negatives or fewer this is `multi_label_softmax_loss`.

    The multi-label form is ours. The method's paper defines it for one label, and the
    comparison of Lv et al. on several labels gives no formula: as there, the
    k strongest competitors stay, and so does whatever is a label.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      k: the number of strongest negatives to keep, at least 1; a Python integer,
        static under `jit`. The default is that of `sparse_softmax_loss`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_sparse_softmax_loss
      >>> logits = jnp.log(jnp.array([[4.0, 2.0, 0.5]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + 2) + log(1 + 1 / 4)
      >>> print(multi_label_sparse_softmax_loss(logits, jnp.array([[1, 0, 0]]), k=1))
      [1.3218]

    References:
      Sun et al., `Sparse-softmax: A Simpler and Faster Alternative Softmax
      Transformation <https://arxiv.org/abs/2112.12433>`_, 2021; the loss over all
      negatives is that of Su et al., `ZLPR <https://arxiv.org/abs/2208.02955>`_.
    """
    k = checks.static_count(k, "k")
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    negatives = _strongest(x.logits, x.negatives, k)
    return inputs.finish(_zlpr(x.logits, negatives, x.positives), x)


@register_loss(
    paper="Nam et al., arXiv 1312.5419",
    use="for several labels, where each class is a question of its own",
    at_zero_logits=lambda c: c * math.log(2),
    zero_with_one_class=False,
    shift_invariant=False,
)
def multi_label_sigmoid_loss(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
) -> jax.Array:
    r"""Binary cross-entropy of each class on its own, summed over the classes.

    .. math::
      \ell = \sum_{i \in N} \log(1 + e^{o_i}) + \sum_{t \in P} \log(1 + e^{-o_t})

    The prediction is :math:`o_i > 0`. A sum and not a mean: it grows with the number
    of known classes.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.losses import multi_label_sigmoid_loss
      >>> logits = jnp.log(jnp.array([[4.0, 2.0, 0.5]]))
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + 1 / 4) + log(1 + 2) + log(1 + 0.5)
      >>> print(multi_label_sigmoid_loss(logits, jnp.array([[1, 0, 0]])))
      [1.7272]

    References:
      Nam et al., `Large-scale Multi-label Text Classification: Revisiting Neural
      Networks <https://arxiv.org/abs/1312.5419>`_, ECML PKDD 2014.
    """
    x = inputs.read_multi_hot(logits, targets, where, class_mask, axis)
    return inputs.finish(binary_cross_entropy(x), x)


def _own_margin(
    x: inputs.MultiHotInputs,
    delta: ArrayLike | None,
    logit_margin: ArrayLike | None,
    op: str,
) -> tuple[inputs.MultiHotInputs, Margin]:
    """Returns the inputs, rows of a margin out of range bad, and one in range."""
    given = margin.read(delta, logit_margin, inputs.loss_type(x), op)
    x, value = inputs.own(x, given.value)
    return x, dataclasses.replace(given, value=value)


@jax.jit
def _loss(x: inputs.MultiHotInputs, given: Margin) -> jax.Array:
    """Returns the loss of each row on clean inputs."""
    return _zlpr(x.logits, *_kept(x, given))


@jax.jit
def _zlpr(logits: jax.Array, negatives: jax.Array, positives: jax.Array) -> jax.Array:
    """Returns the loss of each row over the classes given, [...]."""
    return _log1p_sum_exp(logits, negatives) + _log1p_sum_exp(-logits, positives)


@functools.partial(jax.jit, static_argnames="k")
def _strongest(logits: jax.Array, negatives: jax.Array, k: int) -> jax.Array:
    """Returns the negatives no weaker than the k-th of their row, [..., C]."""
    num_classes = logits.shape[-1]
    if k >= num_classes:
        return negatives
    rivals = jnp.where(negatives, jax.lax.stop_gradient(logits), -jnp.inf)
    return negatives & (rivals >= kth_largest(rivals, k))


@jax.jit
def _any_kept(x: inputs.MultiHotInputs, given: Margin) -> jax.Array:
    """Returns whether each row keeps any class."""
    negatives, positives = _kept(x, given)
    return jnp.any(negatives | positives, axis=-1)


def _kept(x: inputs.MultiHotInputs, given: Margin) -> tuple[jax.Array, jax.Array]:
    """Returns the kept negatives and the kept positives, each [..., C]."""
    logits = jax.lax.stop_gradient(x.logits)
    if given.in_logits:
        m = given.value[..., None]
        return x.negatives & (logits >= -m), x.positives & (logits <= m)
    return _kept_by_probs(x, logits, given.value[..., None])


def _kept_by_probs(
    x: inputs.MultiHotInputs, logits: jax.Array, delta: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns `_kept` by the paper's margin, [..., 1]."""
    log_total = finite_shift(jax.nn.logsumexp(logits, axis=-1, keepdims=True))
    weakest = jnp.min(jnp.where(x.positives, logits, jnp.inf), -1, keepdims=True)
    strongest = jnp.max(jnp.where(x.negatives, logits, -jnp.inf), -1, keepdims=True)
    gap_weakest = gap(jnp.exp(weakest - log_total), delta)
    # A logit of -inf has p = 0 and so a gap of -inf: it is kept, whatever the lead.
    finite = finite_shift(logits)
    gap_each = gap(jnp.exp(logits - log_total), delta)
    # Written as "not dropped": what NaN leaves undecided is kept.
    negatives = ~(logits - weakest < gap_weakest)
    positives = ~(strongest - jnp.where(x.positives, finite, 0) < gap_each)
    negatives |= ~jnp.any(x.positives, axis=-1, keepdims=True)
    positives |= ~jnp.any(x.negatives, axis=-1, keepdims=True)
    return x.negatives & negatives, x.positives & positives


@jax.custom_jvp
def _log1p_sum_exp(logits: jax.Array, kept: jax.Array) -> jax.Array:
    r"""Computes :math:`\log(1 + \sum_i z_i e^{o_i})` without overflow."""
    return _log1p_sum_exp_and_weights(logits, kept)[0]


def _log1p_sum_exp_and_weights(
    logits: jax.Array, kept: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the value and its derivatives, z e^o / (1 + sum z e^o)."""
    zero = jnp.zeros((), logits.dtype)
    logits = jnp.where(kept, logits, -jnp.inf)
    shift = jnp.maximum(jax.lax.stop_gradient(jnp.max(logits, axis=-1)), zero)
    # A logit of +inf (a positive of probability 0) takes the whole weight.
    finite = jnp.where(shift == jnp.inf, zero, shift)
    whole = (shift == jnp.inf)[..., None]
    exps = jnp.where(
        whole,
        (logits == jnp.inf).astype(logits.dtype),
        jnp.exp(jnp.where(whole, zero, logits) - finite[..., None]),
    )
    one = jnp.where(shift == jnp.inf, zero, jnp.exp(-finite))
    rest = jnp.sum(exps, axis=-1)
    total = one + rest
    # Without a shift the 1 of the formula is 1: its rounding stays out of the rest.
    value = jnp.where(shift == zero, jnp.log1p(rest), shift + jnp.log(total))
    return value, exps / total[..., None]


@_log1p_sum_exp.defjvp
def _log1p_sum_exp_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    value, weights = _log1p_sum_exp_and_weights(*primals)
    return value, jnp.sum(weights * tangents[0], axis=-1)
