"""The door of every loss: check, mask, and bring inputs to one form.

The table of the package's input rules lives here in code. A loss calls `read`,
computes on what it returns, and hands its per-example values to `finish`:

1. rows that `where` leaves out hold harmless values, so that nothing in them can
   reach a loss or a gradient, and `finish` sets their loss to 0;
2. classes that `class_mask` leaves out have a logit of -inf, a probability of 0;
3. rows that hold a bad value (a label out of range, a NaN or +inf logit, an own
   parameter out of range) are `bad` and hold harmless values, and `finish` makes their
   loss NaN, and their gradient, unless the loss's cotangent is exactly 0;
4. rows whose every logit is -inf are `empty`: the label has probability 0, and
   `finish` makes their loss +inf, or what the loss is there.
"""

import functools
import math
from typing import NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.class_axes import Axis, to_last
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.nan import nan_where, replaced


class Inputs(NamedTuple):
    """What a loss computes on; classes are the last axis."""

    logits: jax.Array  # [..., C] float32 or float64; -inf where a class is masked
    labels: jax.Array  # [...] int32 in [0, C)
    where: jax.Array | None  # [...] bool, the rows that count; None: all
    class_mask: jax.Array | None  # [..., C] bool, the valid classes; None: all
    bad: jax.Array  # [...] bool, rows whose loss and gradient are NaN
    empty: jax.Array  # [...] bool, rows whose every logit is -inf: loss +inf


class MultiHotInputs(NamedTuple):
    """What a multi-label loss computes on; classes are the last axis."""

    logits: jax.Array  # [..., C] float32 or float64; -inf where a class is masked
    positives: jax.Array  # [..., C] bool
    negatives: jax.Array  # [..., C] bool; an unknown class is neither
    where: jax.Array | None  # [...] bool, the rows that count; None: all
    bad: jax.Array  # [...] bool, rows whose loss and gradient are NaN


def read(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    class_mask: ArrayLike | None,
    axis: Axis,
    *,
    clean: bool = True,
    cast: bool = True,
) -> Inputs:
    """Checks and masks the inputs of a loss on integer labels.

    Args:
      logits: floating point, the class axes at `axis`.
      labels: integers, the shape of `logits` without the class axes.
      where: boolean, broadcasts to the shape of `labels`; None: every row counts.
      class_mask: boolean, broadcasts to the shape of `logits`; None: every class.
      axis: the class axis, or axes.
      clean: makes bad rows harmless, by a pass over the logits. A loss that finds bad
        logits in its sums does that by itself.
      cast: brings logits to the compute dtype, and makes rows that are left out
        harmless. A kernel does both by itself.

    Returns:
      The inputs in one form, see `Inputs`.
    """
    logits, class_mask = _read_logits(logits, class_mask, axis, cast=cast)
    labels = checks.integer_labels(labels, logits.shape[:-1], logits.shape[-1])
    where = checks.boolean_mask(where, labels.shape, "loss", "where")
    return _mask(logits, labels, where, class_mask, clean=clean, leave_out=cast)


@functools.partial(jax.jit, static_argnames=("clean", "leave_out"))
def _mask(
    logits: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    class_mask: jax.Array | None,
    *,
    clean: bool,
    leave_out: bool,
) -> Inputs:
    """The part of `read` that computes."""
    num_classes = logits.shape[-1]
    bad = (labels < 0) | (labels >= num_classes)
    if where is not None:
        bad &= where
    labels = jnp.clip(labels, 0, num_classes - 1)
    if class_mask is not None:
        class_mask |= is_label(labels, num_classes) & ~bad[..., None]
        logits = jnp.where(class_mask, logits, -jnp.inf)
    empty = jnp.zeros(labels.shape, bool)
    if leave_out:
        logits = _without(logits, where)
    if clean:
        logits, bad = _clean(logits, bad, where)
        empty = jnp.all(logits == -jnp.inf, axis=-1)
        zero = jnp.zeros((), logits.dtype)
        logits = jnp.where(empty[..., None], zero, logits)
    return Inputs(logits, labels, where, class_mask, bad, empty)


class DistributionInputs(NamedTuple):
    """What a loss computes on whose label is a distribution; classes are last."""

    logits: jax.Array  # [..., C] float32 or float64; -inf where a class is masked
    probs: jax.Array  # [..., C] the logits' dtype, the target, a constant; 0 if masked
    where: jax.Array | None  # [...] bool, the rows that count; None: all
    bad: jax.Array  # [...] bool, rows whose loss and gradient are NaN
    empty: jax.Array  # [...] bool, rows whose every logit is -inf


def read_soft(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    class_mask: ArrayLike | None,
    axis: Axis,
    *,
    clean: bool = True,
) -> Inputs | DistributionInputs:
    """Checks and masks the inputs of a loss that takes labels or distributions.

    Args:
      logits: as in `read`.
      labels: integers, as in `read`; or floating point of the shape of `logits`, the
        probability of each class. What belongs to masked classes is left out, and the
        rest stays as it is.
      where: as in `read`.
      class_mask: as in `read`.
      axis: as in `read`.
      clean: as in `read`, of labels; rows of distributions are clean.

    Returns:
      The inputs of the one form or of the other.
    """
    logits = checks.floating_array(logits, "logits")
    probs = checks.distribution(labels, logits.shape)
    if probs is None:
        return read(logits, labels, where, class_mask, axis, clean=clean)
    logits, class_mask = _read_logits(logits, class_mask, axis)
    where = checks.boolean_mask(where, logits.shape[:-1], "loss", "where")
    # Half precision rounds each probability; 1e-3 is what a sum of float32 may miss.
    slack = max(1e-3, 4 * float(jnp.finfo(probs.dtype).eps))
    probs = jax.lax.stop_gradient(to_last(probs, axis).astype(logits.dtype))
    return _mask_distribution(logits, probs, where, class_mask, slack=slack)


@functools.partial(jax.jit, static_argnames="slack")
def _mask_distribution(
    logits: jax.Array,
    probs: jax.Array,
    where: jax.Array | None,
    class_mask: jax.Array | None,
    *,
    slack: float,
) -> DistributionInputs:
    """The part of `read_soft` that computes."""
    zero, least = jnp.zeros((), probs.dtype), jnp.full((), 1 - slack, probs.dtype)
    if class_mask is not None:
        logits = jnp.where(class_mask, logits, -jnp.inf)
        probs = jnp.where(class_mask, probs, zero)
        # Where a class is masked its share is not known, and the rest may be less.
        least = jnp.where(jnp.all(class_mask, axis=-1), least, zero)
    total = jnp.sum(probs, axis=-1)
    # Written as "not in range": NaN is bad.
    bad = ~((total >= least) & (total <= 1.0 + slack)) | jnp.any(probs < 0, axis=-1)
    logits, bad = _clean(logits, bad, where)
    harmless = bad if where is None else bad | ~where
    equal = jnp.full((), 1 / probs.shape[-1], probs.dtype)
    probs = replaced(harmless[..., None], probs, equal)
    empty = jnp.all(logits == -jnp.inf, axis=-1)
    logits = jnp.where(empty[..., None], jnp.zeros((), logits.dtype), logits)
    return DistributionInputs(logits, probs, where, bad, empty)


def target_probs(x: Inputs | DistributionInputs) -> jax.Array:
    """Returns the target as probabilities, [..., C]; one-hot of labels."""
    if isinstance(x, DistributionInputs):
        return x.probs
    return is_label(x.labels, x.logits.shape[-1]).astype(x.logits.dtype)


def expected(each: jax.Array, x: DistributionInputs) -> jax.Array:
    """Returns the mean over labels drawn from the target of what each would cost.

    Args:
      each: [..., C], the loss if that class were the label.
      x: the inputs.
    """
    drawn = x.probs > 0
    # A class that is never drawn may cost +inf.
    each = jnp.where(drawn, each, jnp.zeros((), each.dtype))
    return jnp.sum(x.probs * each, axis=-1)


def as_multi_hot(x: Inputs) -> MultiHotInputs:
    """Returns a label as the one positive class among negatives, those that are valid.

    Hand the loss to `finish` with `x` itself, which knows of rows without any class.
    """
    positives = is_label(x.labels, x.logits.shape[-1])
    negatives = ~positives
    if x.class_mask is not None:
        negatives &= x.class_mask
    return MultiHotInputs(x.logits, positives, negatives, x.where, x.bad)


def read_multi_hot(
    logits: ArrayLike,
    targets: ArrayLike,
    where: ArrayLike | None,
    class_mask: ArrayLike | None,
    axis: Axis,
) -> MultiHotInputs:
    """Checks and masks the inputs of a loss on multi-hot targets; see `read`."""
    logits = checks.floating_array(logits, "logits")
    targets = checks.multi_hot_targets(targets, logits.shape)
    logits, class_mask = _read_logits(logits, class_mask, axis)
    targets = to_last(targets, axis)
    where = checks.boolean_mask(where, logits.shape[:-1], "loss", "where")
    return _mask_multi_hot(logits, targets, where, class_mask)


@jax.jit
def _mask_multi_hot(
    logits: jax.Array,
    targets: jax.Array,
    where: jax.Array | None,
    class_mask: jax.Array | None,
) -> MultiHotInputs:
    """The part of `read_multi_hot` that computes."""
    known = jnp.ones(logits.shape, bool) if class_mask is None else class_mask
    zero, one = jnp.zeros((), targets.dtype), jnp.ones((), targets.dtype)
    bad = jnp.any(known & (targets != zero) & (targets != one), axis=-1)
    logits = jnp.where(known, logits, -jnp.inf)
    logits, bad = _clean(logits, bad, where)
    positives = known & (targets == one)
    return MultiHotInputs(logits, positives, known & ~positives, where, bad)


def read_ranks(
    logits: ArrayLike,
    labels: ArrayLike,
    where: ArrayLike | None,
    class_mask: ArrayLike | None,
    axis: Axis,
) -> MultiHotInputs:
    """Checks and masks the inputs of a loss on thresholds between ordered classes.

    Args:
      logits: floating point, one a threshold, so one less than there are classes.
      labels: integers, the number of thresholds that each example passes.
      where: see `read`.
      class_mask: boolean, broadcasts to the shape of `logits`; None: every threshold.
      axis: of the thresholds.

    Returns:
      The inputs, in which the thresholds that are passed are the positives.
    """
    logits, class_mask = _read_logits(logits, class_mask, axis)
    labels = checks.integer_labels(labels, logits.shape[:-1], logits.shape[-1] + 1)
    where = checks.boolean_mask(where, labels.shape, "loss", "where")
    return _mask_ranks(logits, labels, where, class_mask)


@jax.jit
def _mask_ranks(
    logits: jax.Array,
    labels: jax.Array,
    where: jax.Array | None,
    class_mask: jax.Array | None,
) -> MultiHotInputs:
    """The part of `read_ranks` that computes."""
    known = jnp.ones(logits.shape, bool) if class_mask is None else class_mask
    bad = (labels < 0) | (labels > logits.shape[-1])
    logits, bad = _clean(jnp.where(known, logits, -jnp.inf), bad, where)
    thresholds = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    positives = known & (thresholds < labels[..., None])
    return MultiHotInputs(logits, positives, known & ~positives, where, bad)


class UnlabelledInputs(NamedTuple):
    """What a function of logits alone computes on; classes are the last axis."""

    logits: jax.Array  # [..., C] float32 or float64; -inf where a class is masked
    where: jax.Array | None  # [...] bool, the rows that count; None: all
    class_mask: jax.Array | None  # [..., C] bool, the valid classes; None: all
    bad: jax.Array  # [...] bool, rows that hold a bad logit, or no class above -inf


def read_unlabelled(
    logits: ArrayLike,
    where: ArrayLike | None,
    class_mask: ArrayLike | None,
    axis: Axis,
) -> UnlabelledInputs:
    """Checks and masks logits that come without labels; see `read`."""
    logits, class_mask = _read_logits(logits, class_mask, axis)
    where = checks.boolean_mask(where, logits.shape[:-1], "loss", "where")
    return _mask_unlabelled(logits, where, class_mask)


@jax.jit
def _mask_unlabelled(
    logits: jax.Array, where: jax.Array | None, class_mask: jax.Array | None
) -> UnlabelledInputs:
    """The part of `read_unlabelled` that computes."""
    if class_mask is not None:
        logits = jnp.where(class_mask, logits, -jnp.inf)
    empty = jnp.all(logits == -jnp.inf, axis=-1)
    logits, bad = _clean(logits, empty, where)
    return UnlabelledInputs(logits, where, class_mask, bad)


def finish_probs(probs: jax.Array, x: UnlabelledInputs) -> jax.Array:
    """Gives probabilities of bad rows, masked classes and rows left out their due.

    Args:
      probs: [..., C], computed on the clean inputs `x`.
      x: what `read_unlabelled` returned.

    Returns:
      The probabilities, [..., C].
    """
    probs = nan_where(jnp.broadcast_to(x.bad[..., None], probs.shape), probs)
    for there in (x.class_mask, None if x.where is None else x.where[..., None]):
        if there is not None:
            probs = jnp.where(there, probs, jnp.zeros((), probs.dtype))
    return probs


@jax.jit
def finish(
    loss: jax.Array,
    x: Inputs | MultiHotInputs | DistributionInputs,
    bad: jax.Array | None = None,
    *,
    at_empty: ArrayLike = np.inf,
) -> jax.Array:
    """Gives rows that are bad, empty or left out the loss that the rules say.

    Args:
      loss: [...], computed on the clean inputs `x`.
      x: what `read`, `read_soft` or `read_multi_hot` returned.
      bad: [...] bool, further rows to make NaN, for a parameter out of range.
      at_empty: the loss where every logit is -inf, of a loss that is finite there.

    Returns:
      The loss, [...].
    """
    bad = x.bad if bad is None else x.bad | bad
    if x.where is not None:
        bad &= x.where
    loss = nan_where(bad, loss)
    if not isinstance(x, MultiHotInputs):
        # The sum lies over a mesh as the loss does, which a select asks for.
        at_empty = jnp.zeros_like(loss) + at_empty
        loss = jnp.where(x.empty & ~bad, at_empty, loss)
    if x.where is None:
        return loss
    return jnp.where(x.where, loss, jnp.zeros((), loss.dtype))


def reaching_all(loss: jax.Array, x: Inputs | MultiHotInputs) -> jax.Array:
    """Returns the loss, with a derivative by every valid class in a row that is bad.

    For a loss that leaves classes out by a select, or whose derivative may be 0 on the
    harmless values of bad rows: their NaN would reach no class, or not all.
    """
    zero = jnp.zeros((), x.logits.dtype)
    link = replaced(jnp.ones(x.logits.shape, bool), x.logits, zero)  # 0, but its slope
    return loss + jnp.sum(jnp.where(x.bad[..., None], link, zero), axis=-1)


def mean_of_positives(values: jax.Array, x: MultiHotInputs) -> jax.Array:
    """Returns the mean of values [..., C] over each row's positives; 0 for none."""
    total = jnp.sum(values, axis=-1, where=x.positives)
    number = jnp.sum(x.positives, axis=-1).astype(total.dtype)
    return reaching_all(total / jnp.maximum(number, 1), x)


def finish_settled(settled: jax.Array, x: Inputs | MultiHotInputs) -> jax.Array:
    """Gives rows that are bad or left out what the rules say: False, and True."""
    settled &= ~x.bad
    return settled if x.where is None else settled | ~x.where


Known = TypeVar(
    "Known",
    bound=Inputs | MultiHotInputs | DistributionInputs | UnlabelledInputs,
)


def own(x: Known, value: jax.Array, instead: float = 1.0) -> tuple[Known, jax.Array]:
    """Takes a loss's own parameter in: a row where it is out of range is bad.

    Args:
      x: the inputs.
      value: [...], from `checks`: NaN where out of range.
      instead: a value in range, which such rows compute with.

    Returns:
      The inputs with these rows bad, and the parameter, in range everywhere.
    """
    bad = jnp.isnan(value)
    value = replaced(bad, value, jnp.full((), instead, value.dtype))
    return cast(Known, x._replace(bad=x.bad | bad)), value


def is_label(labels: jax.Array, num_classes: int) -> jax.Array:
    """Returns the one-hot form of `labels` as booleans, [..., C]."""
    classes = jax.lax.broadcasted_iota(
        jnp.int32, (*labels.shape, num_classes), labels.ndim
    )
    return classes == labels[..., None]


def take_label(values: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns each row's value at its label, [...]; labels must be in range."""
    return jnp.take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def loss_type(
    x: Inputs | MultiHotInputs | DistributionInputs | UnlabelledInputs,
) -> checks.LossType:
    """Returns the shape and the dtype of the loss, which parameters are brought to."""
    shape = x.logits.shape[:-1]
    return checks.LossType(shape, compute_dtype(x.logits.dtype), x.where)


def _read_logits(
    logits: ArrayLike, class_mask: ArrayLike | None, axis: Axis, *, cast: bool = True
) -> tuple[jax.Array, jax.Array | None]:
    """Returns logits, in the compute dtype or as they come, and mask, classes last."""
    logits = checks.floating_array(logits, "logits")
    axes = checks.class_axes(logits.ndim, axis)
    checks.at_least_one_class(math.prod(logits.shape[a] for a in axes))
    checks.not_along_another_axis(class_mask, logits.shape, axes, "class_mask")
    class_mask = checks.boolean_mask(class_mask, logits.shape, "logits", "class_mask")
    if cast:
        logits = logits.astype(compute_dtype(logits.dtype))
    if class_mask is not None:
        class_mask = to_last(class_mask, axis)
    return to_last(logits, axis), class_mask


def _clean(
    logits: jax.Array, bad: jax.Array, where: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Finds bad rows; gives rows that are bad or left out logits of 0."""
    logits = _without(logits, where)
    bad |= jnp.any(jnp.isnan(logits) | (logits == jnp.inf), axis=-1)
    if where is not None:
        bad &= where
    return replaced(bad[..., None], logits, jnp.zeros((), logits.dtype)), bad


def _without(logits: jax.Array, where: jax.Array | None) -> jax.Array:
    """Gives rows that are left out logits of 0."""
    if where is None:
        return logits
    return jnp.where(where[..., None], logits, jnp.zeros((), logits.dtype))
