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
from typing import NamedTuple, TypeVar

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
    x: Inputs | MultiHotInputs,
    bad: jax.Array | None = None,
    *,
    at_empty: ArrayLike = np.inf,
) -> jax.Array:
    """Gives rows that are bad, empty or left out the loss that the rules say.

    Args:
      loss: [...], computed on the clean inputs `x`.
      x: what `read` or `read_multi_hot` returned.
      bad: [...] bool, further rows to make NaN, for a parameter out of range.
      at_empty: the loss where every logit is -inf, of a loss that is finite there.

    Returns:
      The loss, [...].
    """
    bad = x.bad if bad is None else x.bad | bad
    if x.where is not None:
        bad &= x.where
    loss = nan_where(bad, loss)
    if isinstance(x, Inputs):
        loss = jnp.where(x.empty & ~bad, at_empty, loss)
    if x.where is None:
        return loss
    return jnp.where(x.where, loss, jnp.zeros((), loss.dtype))


Known = TypeVar("Known", Inputs, MultiHotInputs, UnlabelledInputs)


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
    return x._replace(bad=x.bad | bad), value


def is_label(labels: jax.Array, num_classes: int) -> jax.Array:
    """Returns the one-hot form of `labels` as booleans, [..., C]."""
    classes = jax.lax.broadcasted_iota(
        jnp.int32, (*labels.shape, num_classes), labels.ndim
    )
    return classes == labels[..., None]


def take_label(values: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns each row's value at its label, [...]; labels must be in range."""
    return jnp.take_along_axis(values, labels[..., None], axis=-1)[..., 0]


def loss_type(x: Inputs | MultiHotInputs | UnlabelledInputs) -> checks.LossType:
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
