r"""AS-Softmax for one label an example (Lv et al., arXiv 2508.03175, section III).

Notation of the comments: logits :math:`o`, label :math:`t`, margin :math:`\delta` or
:math:`m`, :math:`p = \mathrm{softmax}(o)`. Class :math:`i \ne t` is dropped when
:math:`p_t - p_i > \delta`, or when :math:`o_t - o_i > m`, and kept otherwise; the label
is always kept. Either way class i is kept where :math:`o_i - o_t \ge g`, see
`as_softmax_jax._core.margin`.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax import kernels
from as_softmax_jax._core import checks, inputs, margin
from as_softmax_jax._core.class_axes import Axis, from_last, to_last
from as_softmax_jax._core.cross_entropy import cross_entropy, within
from as_softmax_jax._core.log_sum_exp import exp, finite_shift, nonzero
from as_softmax_jax._core.margin import Margin
from as_softmax_jax._core.mesh import as_varying, varying_axes
from as_softmax_jax._core.nan import nan_unless_zero, nan_where
from as_softmax_jax.kernels import Implementation, _as_softmax
from as_softmax_jax.losses._table import register_loss
from as_softmax_jax.reference import _as_softmax as reference

KERNELS = kernels.Kernels("as_softmax")
IMPLEMENTATIONS = ("xla", *KERNELS, "reference")
# What the masks have.
MASKED = ("xla", "reference")


@register_loss(
    paper="Lv et al., arXiv 2508.03175",
    use="where easy examples should settle and leave the step to the others",
    at_zero_logits=math.log,
    margins=("logit_margin", "delta"),
    example_keywords={"logit_margin": 2.0, "delta": 0.1},
    search={"logit_margin": (5.0, 3.0, 2.0, 1.0), "delta": (0.6, 0.3, 0.1, 0.05)},
    softmax_at={"logit_margin": math.inf, "delta": 1.0},
    linear={},
)
def as_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
    implementation: Implementation | None = None,
) -> jax.Array:
    r"""Adaptive Sparse Softmax cross-entropy, one value an example.

    Softmax cross-entropy over the classes that still compete with the label:

    .. math::
      \ell = \log \sum_j z_j \, e^{o_j - o_t}, \qquad
      \frac{\partial \ell}{\partial o_i} =
        \frac{z_i \, e^{o_i}}{\sum_j z_j \, e^{o_j}} - [\, i = t \,]

    .. math::
      z_i = [\, i = t \ \text{or}\ o_t - o_i \le m \,] \qquad \text{or} \qquad
      z_i = [\, i = t \ \text{or}\ p_t - p_i \le \delta \,]

    with :math:`o` the logits, :math:`t` the label, :math:`p` the softmax of :math:`o`
    over the valid classes, and one of two margins: m between logits, which is
    :math:`\log p_t / p_i`, or the paper's :math:`\delta` between probabilities. No
    gradient flows through :math:`z`. When every other class is dropped the example is
    *settled*: its loss and its gradient are exactly 0. With ``logit_margin=inf`` or
    ``delta=1`` this is softmax cross-entropy.

    Against one rival ``delta=0.1`` settles at :math:`o_t - o_i = 0.2`, against 149
    equal ones at 2.9: the fewer the classes, the sooner an example stops training. With
    m it stops at m, whatever their number, and the loss falls there by at most
    :math:`\log(1 + e^{-m})` a rival.

    The mask is decided once, in float32 (float64 for float64 logits), and shared by
    the forward and the backward pass. Rows are independent: on a mesh that shards
    the examples this compiles to no communication.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Exactly one of the two margins is given.

    Args:
      delta: the paper's margin, a difference of probabilities in [0, 1]; a number or
        an array that broadcasts to the shape of the loss. It may be traced, for
        example when it comes from `margin_schedule`; outside [0, 1] it then gives NaN.
      logit_margin: m, a difference of logits in [0, inf], infinity included;
        otherwise as `delta`. Of each class its own is ``logit_margin=margins[labels]``.
      implementation: None or ``"xla"`` for the fast form; ``"mosaic_tpu"`` and
        ``"mosaic_gpu"`` (Hopper and later) for a kernel that reads the logits once, up
        to 32,768 and 49,152 classes; ``"reference"`` for the formula under plain
        automatic differentiation. Forward mode is served by the reference, and by the
        fast form with a margin in logits; second derivatives by both of them.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_loss
      >>> logits = jnp.array([[4.0, 1.0, 0.0], [1.0, 0.9, -3.0]])
      >>> labels = jnp.array([0, 0])
      >>> jnp.set_printoptions(precision=4)
      >>> loss = as_softmax_loss(logits, labels, logit_margin=2.0)
      >>> print(loss)  # the first example is settled; in the second, class 2 is out
      [0.     0.6444]
      >>> def total(logits):
      ...     return as_softmax_loss(logits, labels, logit_margin=2.0).sum()
      >>> print(jax.grad(total)(logits))
      [[ 0.     0.     0.   ]
       [-0.475  0.475  0.   ]]
      >>> print(as_softmax_loss(logits, labels, delta=0.1))  # the paper's margin
      [0.     0.6444]

    References:
      Lv et al., `Adaptive Sparse Softmax: An Effective and Efficient Softmax
      Variant <https://arxiv.org/abs/2508.03175>`_, IEEE TASLP 2025, equations 4-6.
    """
    implementation = kernels.choose(implementation, IMPLEMENTATIONS, "as_softmax_loss")
    x = inputs.read(
        logits,
        labels,
        where,
        class_mask,
        axis,
        clean=implementation == "reference",
        cast=implementation not in KERNELS,
    )
    given = _read_margin(delta, logit_margin, x, "as_softmax_loss")
    if implementation == "reference":
        x, given = _own(x, given)
        loss = reference.as_softmax_loss(x.logits, x.labels, **_keyword(given))
        return inputs.finish(loss, x)
    if implementation == "xla" and given.in_logits:
        x, given = _own(x, given)
        loss, bad = cross_entropy(x, given)
        return inputs.finish(loss, x, bad)
    # The gradient rule below gives each device its own part: what devices share is
    # summed up outside of it.
    args = x.logits, x.labels, _nan_in_bad_rows(x, given), x.where
    axes = varying_axes(args)
    args = jax.tree.map(lambda array: as_varying(array, axes), args)
    with kernels.backward_only():
        if implementation in KERNELS:
            return _by_kernel(implementation, *args)
        return _loss(*args)


def as_softmax_kept(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
    implementation: Literal["xla", "reference"] | None = None,
) -> jax.Array:
    r"""The classes that `as_softmax_loss` keeps in its sum.

    .. math::
      z_i = [\, i = t \ \text{or}\ o_t - o_i \le m \,] \qquad \text{or} \qquad
      z_i = [\, i = t \ \text{or}\ p_t - p_i \le \delta \,]

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      delta: the margin, a difference of probabilities in [0, 1]; or else
      logit_margin: m, a difference of logits in [0, inf].
      implementation: None, ``"xla"`` or ``"reference"``.

    Returns:
      Booleans of the shape of `logits`. A row whose loss is NaN keeps every valid
      class, since nothing is known of it.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_kept
      >>> logits = jnp.array([[4.0, 1.0, 0.0], [1.0, 0.9, -3.0]])
      >>> print(as_softmax_kept(logits, jnp.array([0, 0]), logit_margin=2.0))
      [[ True False False]
       [ True  True False]]
    """
    op = "as_softmax_kept"
    form = kernels.choose(implementation, MASKED, op)
    x = inputs.read(logits, labels, where, class_mask, axis)
    given = _nan_in_bad_rows(x, _read_margin(delta, logit_margin, x, op))
    if form == "reference":
        kept = reference.as_softmax_kept(x.logits, x.labels, **_keyword(given))
        kept |= jnp.isnan(given.value)[..., None]
    else:
        kept = _kept(x.logits, x.labels, given)
    if x.class_mask is not None:
        kept &= x.class_mask
    if x.where is not None:
        kept &= x.where[..., None]
    return from_last(kept, jnp.shape(logits), axis)


def as_softmax_probs(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
    implementation: Literal["xla", "reference"] | None = None,
) -> jax.Array:
    r"""The probabilities that `as_softmax_loss` scores: softmax over kept classes.

    .. math:: \tilde p_i = z_i \, e^{o_i} \Big/ \sum_j z_j \, e^{o_j}

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      delta: the margin, a difference of probabilities in [0, 1]; or else
      logit_margin: m, a difference of logits in [0, inf].
      implementation: None, ``"xla"`` or ``"reference"``.

    Returns:
      Probabilities of the shape of `logits`, exactly 0 for dropped classes; float32,
      or float64 for float64 logits.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_probs
      >>> logits = jnp.log(jnp.array([[0.5, 0.4, 0.1]]))
      >>> jnp.set_printoptions(precision=4)
      >>> print(as_softmax_probs(logits, jnp.array([0]), logit_margin=1.0))
      [[0.5556 0.4444 0.    ]]
    """
    x = inputs.read(logits, labels, where, class_mask, axis)
    given = _read_margin(delta, logit_margin, x, "as_softmax_probs")
    kept = as_softmax_kept(
        logits,
        labels,
        delta=delta,
        logit_margin=logit_margin,
        where=where,
        class_mask=class_mask,
        axis=axis,
        implementation=implementation,
    )
    kept = to_last(kept, axis)
    there = kept if x.where is None else kept | ~x.where[..., None]
    probs = jax.nn.softmax(x.logits, axis=-1, where=there)
    bad = jnp.isnan(given.value) | x.bad | x.empty
    if x.where is not None:
        bad &= x.where
    probs = nan_where(bad[..., None] & kept, probs)
    probs = jnp.where(kept, probs, jnp.zeros((), probs.dtype))
    return from_last(probs, jnp.shape(logits), axis)


def as_softmax_settled(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    axis: Axis = -1,
    implementation: Literal["xla", "reference"] | None = None,
) -> jax.Array:
    r"""Whether each example is settled: no class but its label is kept.

    .. math::
      \text{settled} \iff o_t - \max_{i \ne t} o_i > m \qquad \text{or} \qquad
      p_t - \max_{i \ne t} p_i > \delta

    The loss of a settled example and its whole gradient are exactly 0.

    Shared arguments, and what comes out: `as_softmax_jax.losses`.

    Args:
      delta: the margin, a difference of probabilities in [0, 1]; or else
      logit_margin: m, a difference of logits in [0, inf].
      implementation: None, ``"xla"`` or ``"reference"``.

    Returns:
      Booleans of the shape of the loss, from sums and maxima over each row, without
      an array of the size of `logits`. A row whose loss is NaN is not settled.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_settled
      >>> logits = jnp.array([[4.0, 1.0, 0.0], [1.0, 0.9, -3.0]])
      >>> print(as_softmax_settled(logits, jnp.array([0, 0]), logit_margin=2.0))
      [ True False]
    """
    op = "as_softmax_settled"
    form = kernels.choose(implementation, MASKED, op)
    x = inputs.read(logits, labels, where, class_mask, axis, clean=form == "reference")
    given = _nan_in_bad_rows(x, _read_margin(delta, logit_margin, x, op))
    if form == "reference":
        settled = reference.as_softmax_settled(
            x.logits, x.labels, **_keyword(given), class_mask=x.class_mask
        )
        settled &= ~jnp.isnan(given.value)
    else:
        settled = _settled(x.logits, x.labels, given, x.class_mask)
    return settled if x.where is None else settled | ~x.where


def count_active(
    settled: ArrayLike, where: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
    """Counts the valid examples and the active ones among them.

    An example is active when it is valid and not settled. On several devices, add
    the counts up with `jax.lax.psum` before they decide anything.

    Args:
      settled: boolean of any shape, from `as_softmax_settled` or its like.
      where: boolean, broadcasts to the shape of `settled`: the valid examples.
        None: every example is valid.

    Returns:
      ``(num_valid, num_active)``, two int32 scalars.

    Raises:
      TypeError: an argument is not boolean.
      ValueError: `where` does not broadcast to the shape of `settled`.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import count_active
      >>> settled = jnp.array([True, False, False])
      >>> num_valid, num_active = count_active(settled, jnp.array([True, True, False]))
      >>> print(num_valid, num_active)
      2 1
    """
    active = ~checks.boolean_array(settled, "settled")
    valid = checks.boolean_mask(where, active.shape, "settled examples", "where")
    if valid is None:
        valid = jnp.ones(active.shape, bool)
    num_valid = jnp.sum(valid, dtype=jnp.int32)
    return num_valid, jnp.sum(valid & active, dtype=jnp.int32)


def _by_kernel(
    name: str,
    logits: jax.Array,
    labels: jax.Array,
    given: Margin,
    where: jax.Array | None,
) -> jax.Array:
    """Returns the loss by a kernel; refuses what it does not serve."""
    kernels.require_device(name)
    kernel = KERNELS[name]
    num_classes, dtype = logits.shape[-1], logits.dtype
    if num_classes > kernel.MAX_CLASSES or dtype == jnp.float64:
        raise ValueError(
            f"`implementation` {name!r} takes up to {kernel.MAX_CLASSES} classes, and "
            f"no float64; got {num_classes} classes in {dtype}. Leave "
            "`implementation` out."
        )
    where = jnp.ones(labels.shape, bool) if where is None else where
    rows = jax.tree.map(lambda a: a.reshape(-1), (labels, given, where))
    loss = _as_softmax.loss(kernel.run, logits.reshape(-1, num_classes), *rows)
    return loss.reshape(labels.shape)


def _read_margin(
    delta: ArrayLike | None,
    logit_margin: ArrayLike | None,
    x: inputs.Inputs,
    op: str,
) -> Margin:
    """Returns the margin of each row, NaN where it is out of range."""
    return margin.read(delta, logit_margin, inputs.loss_type(x), op)


def _nan_in_bad_rows(x: inputs.Inputs, given: Margin) -> Margin:
    return dataclasses.replace(given, value=nan_where(x.bad, given.value))


def _own(x: inputs.Inputs, given: Margin) -> tuple[inputs.Inputs, Margin]:
    """Returns the inputs, rows of a margin out of range bad, and one in range."""
    widest = math.inf if given.in_logits else 1.0  # so that a bad row drops nothing
    x, value = inputs.own(x, given.value, widest)
    return x, dataclasses.replace(given, value=value)


def _keyword(given: Margin) -> dict[str, jax.Array]:
    """Returns the margin as the keyword that it came by."""
    return {"logit_margin" if given.in_logits else "delta": given.value}


class _Statistics(NamedTuple):
    """What a row's mask and loss follow from; see the formulas above."""

    label_logit: jax.Array  # [...] o_t
    shift: jax.Array  # [...] the largest logit, or 0 where all are -inf
    exps: jax.Array  # [..., C] e^{o - shift}
    label_prob: jax.Array  # [...] p_t
    gap: jax.Array  # [...] g, at most 0; NaN in a bad row


def _label_gap(
    logits: jax.Array, labels: jax.Array, given: Margin
) -> tuple[jax.Array, jax.Array]:
    """Returns o_t and g of each row; g is NaN in bad rows."""
    if given.in_logits:
        label_logit = inputs.take_label(logits, labels)
        return label_logit, given.gap_in_logits(label_logit)
    s = _statistics(logits, labels, given.value)
    return s.label_logit, s.gap


def _statistics(logits: jax.Array, labels: jax.Array, delta: jax.Array) -> _Statistics:
    """Computes the statistics of each row, NaN in bad rows."""
    label_logit = inputs.take_label(logits, labels)
    shift = finite_shift(jax.lax.stop_gradient(jnp.max(logits, axis=-1)))
    exps = exp(logits - shift[..., None])
    # A NaN or +inf logit shows in this sum. (XLA's max on CPU passes over NaN.)
    label_prob = jnp.exp(label_logit - shift) / nonzero(jnp.sum(exps, axis=-1))
    gap = margin.gap(label_prob, delta)
    return _Statistics(label_logit, shift, exps, label_prob, gap)


@jax.jit
def _kept(logits: jax.Array, labels: jax.Array, given: Margin) -> jax.Array:
    """Returns z, the kept classes of each row."""
    return within(logits, *_label_gap(logits, labels, given))


def _forward(
    logits: jax.Array, labels: jax.Array, given: Margin, where: jax.Array | None
) -> tuple[jax.Array, tuple[Any, ...]]:
    r"""Computes the loss of a margin in probability, and what the gradient needs.

    1. ``exps``, their sum, p_t and g                            (`_statistics`)
    2. ``kept_exps`` = z e^{o - shift} and their sum
    3. loss = log sum_j z_j e^{o_j - shift} - (o_t - shift)

    In a settled row only the label is kept and it is the largest logit: the sum is
    e^0 = 1, so the loss is log 1 - 0, exactly 0. In the gradient 1 / 1 - 1 likewise.
    A bad row keeps nothing here, and is NaN by `nan_where` and `nan_unless_zero`.

    ``kept_exps`` is the one array of the size of the logits. The backward pass
    scales it in place, so that it becomes the gradient.
    """
    s = _statistics(logits, labels, given.value)
    bad = jnp.isnan(s.gap)
    kept = within(logits, s.label_logit, s.gap) & ~bad[..., None]
    kept_exps = jnp.where(kept, s.exps, jnp.zeros((), s.exps.dtype))
    total = nonzero(jnp.sum(kept_exps, axis=-1))
    loss = nan_where(bad, jnp.log(total) - (s.label_logit - s.shift))
    if where is not None:
        loss = jnp.where(where, loss, jnp.zeros((), loss.dtype))
    return loss, (kept_exps, total, labels, where, bad)


@jax.custom_vjp
def _cross_entropy(
    logits: jax.Array, labels: jax.Array, given: Margin, where: jax.Array | None
) -> jax.Array:
    """The loss of each row, with the gradient rule below."""
    return _forward(logits, labels, given, where)[0]


def _backward(
    residuals: tuple[Any, ...], cotangent: jax.Array
) -> tuple[jax.Array, None, None, None]:
    r"""Computes cotangent * (p~ - onehot), exactly 0 in settled rows."""
    kept_exps, total, labels, where, bad = residuals
    zero = jnp.zeros((), kept_exps.dtype)
    cotangent = nan_unless_zero(bad, cotangent)
    if where is not None:
        cotangent = jnp.where(where, cotangent, zero)
    scale = (cotangent / total)[..., None]
    onehot = inputs.is_label(labels, kept_exps.shape[-1])
    gradient = kept_exps * scale - jnp.where(onehot, cotangent[..., None], zero)
    return gradient, None, None, None


_cross_entropy.defvjp(_forward, _backward)
_loss = jax.jit(_cross_entropy)


@jax.jit
def _settled(
    logits: jax.Array,
    labels: jax.Array,
    given: Margin,
    class_mask: jax.Array | None,
) -> jax.Array:
    """Counts the kept classes of each row by sums alone.

    A count of comparisons would do, but XLA on CPU fuses arithmetic into a sum and
    comparisons not, and would write an array of the size of the logits. So a class
    counts as exp(0) = 1 when kept and as exp(-huge) = 0 when dropped:
    min(d, g) - g is 0 exactly when d >= g, and otherwise below 0 by at least an ulp.
    """
    label_logit, gap_of_row = _label_gap(logits, labels, given)
    huge = jnp.finfo(logits.dtype).max
    gap = jnp.maximum(gap_of_row, -huge)[..., None]
    distance = logits - finite_shift(label_logit)[..., None]
    excess = jnp.minimum(distance, gap) - gap
    num_kept = jnp.sum(jnp.exp(excess * huge), axis=-1)
    # With a gap of -inf every valid class is kept, those at -inf as well.
    if class_mask is None:
        alone = jnp.full(labels.shape, logits.shape[-1] == 1)
    else:
        alone = jnp.sum(class_mask, axis=-1) == 1
    settled = jnp.where(gap_of_row == -jnp.inf, alone, num_kept == 1)
    # A label at -inf has a loss of +inf, even alone; of one at +inf it is NaN.
    return settled & jnp.isfinite(label_logit)
