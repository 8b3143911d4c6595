"""Every refusal of bad input: the argument, what came, what is allowed, the cure.

What can be known from shapes, dtypes and concrete Python values is refused here,
at trace time. Values inside traced arrays cannot raise; a row that holds a bad one
gets NaN, which `as_softmax_jax._core.inputs` sees to.

Arguments come in one order: the value, what it is held to, and its name last.
"""

import difflib
import math
import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax._core.nan import nan_where


class LossType(NamedTuple):
    """What a loss's own parameters are brought to."""

    shape: tuple[int, ...]
    dtype: Any  # to compute in
    where: jax.Array | None = None  # [...] bool, the rows that count; None: all


def floating_array(value: ArrayLike, name: str) -> jax.Array:
    """Returns `value` as an array; refuses what is not real floating point."""
    array = _array(value, name)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"`{name}` must be floating point; got dtype {array.dtype}. "
            f"Cast it, for example with `{name}.astype(jnp.float32)`."
        )
    return array


def class_axes(ndim: int, axis: int | tuple[int, ...]) -> tuple[int, ...]:
    """Returns the class axes as non-negative integers, in the order given."""
    if ndim == 0:
        raise ValueError(
            "`logits` must have a class axis; got a scalar. "
            "Pass an array of shape [..., num_classes]."
        )
    axes = axis if isinstance(axis, tuple) else (axis,)
    for a in axes:
        if isinstance(a, bool) or not isinstance(a, (int, np.integer)):
            raise TypeError(
                f"`axis` must be an integer or a tuple of integers; got {axis!r}."
            )
        if not -ndim <= a < ndim:
            raise ValueError(
                f"`axis` must be in [{-ndim}, {ndim}) for logits of rank {ndim}; "
                f"got {axis}."
            )
    found = tuple(int(a) % ndim for a in axes)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"`axis` must name each class axis once; got {axis}.")
    return found


def at_least_one_class(num_classes: int) -> None:
    """Refuses logits whose class axis is empty."""
    if num_classes == 0:
        raise ValueError(
            "`logits` must have at least one class; got a class axis of size 0."
        )


def integer_labels(
    labels: ArrayLike, shape: Sequence[int], num_classes: int
) -> jax.Array:
    """Returns int32 labels; what was outside [0, num_classes) still is.

    Wide integers are clipped in their own type before the cast, so that none wraps
    around into another class; narrow ones are cast before they meet a comparison,
    for the same reason.
    """
    wide = (np.int64, np.uint64)
    if isinstance(labels, (np.ndarray, np.generic)) and labels.dtype in wide:
        # JAX cuts these to 32 bits unless 64-bit types are enabled.
        labels = np.clip(labels, -1 if labels.dtype == np.int64 else 0, num_classes)
    array = _array(labels, "labels")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"`labels` must be integers; got dtype {array.dtype}. For class indices "
            "use `labels.astype(jnp.int32)`; for one-hot labels use "
            "`jnp.argmax(labels, axis=-1)`."
        )
    if array.shape != tuple(shape):
        raise ValueError(
            "`labels` must have the shape of `logits` without the class axis, "
            f"{tuple(shape)}; got {array.shape}."
        )
    if array.dtype.itemsize >= 4:
        lowest = -1 if jnp.issubdtype(array.dtype, jnp.signedinteger) else 0
        array = jnp.clip(array, lowest, num_classes)
    return array.astype(jnp.int32)


def integer_array(
    value: ArrayLike, shape: Sequence[int], of: str, name: str
) -> jax.Array:
    """Returns `value` as integers; refuses a shape that is not that of `of`."""
    array = _array(value, name)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be integers; got dtype {array.dtype}.")
    if array.shape != tuple(shape):
        raise ValueError(
            f"`{name}` must have the shape of the {of}, {tuple(shape)}; "
            f"got {array.shape}."
        )
    return array


def multi_hot_targets(targets: ArrayLike, shape: Sequence[int]) -> jax.Array:
    """Returns multi-hot targets; refuses a shape that is not the logits'."""
    array = _array(targets, "targets")
    if array.dtype != jnp.bool_ and not (
        jnp.issubdtype(array.dtype, jnp.integer)
        or jnp.issubdtype(array.dtype, jnp.floating)
    ):
        raise TypeError(
            "`targets` must be boolean or numbers that are 0 or 1; "
            f"got dtype {array.dtype}."
        )
    if array.shape != tuple(shape):
        raise ValueError(
            f"`targets` must be multi-hot with the shape of `logits`, {tuple(shape)}; "
            f"got {array.shape}. From class indices, use `jax.nn.one_hot(labels, "
            "num_classes)` or the sum of it over each example's labels."
        )
    return array


def same_shape(value: ArrayLike, shape: Sequence[int], name: str) -> jax.Array:
    """Returns `value` as a floating point array; refuses a shape not the logits'."""
    array = floating_array(value, name)
    if array.shape != tuple(shape):
        raise ValueError(
            f"`{name}` must have the shape of `logits`, {tuple(shape)}; "
            f"got {array.shape}."
        )
    return array


def distribution(labels: ArrayLike, shape: Sequence[int]) -> jax.Array | None:
    """Returns labels that are a distribution over the classes; None for integers."""
    array = _array(labels, "labels")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return None
    if array.shape != tuple(shape):
        raise TypeError(
            "`labels` must be integers, or a distribution over the classes, floating "
            f"point of the shape of `logits`, {tuple(shape)}; got dtype {array.dtype} "
            f"and shape {array.shape}."
        )
    return array


def boolean_mask(
    mask: ArrayLike | None, shape: Sequence[int], of: str, name: str
) -> jax.Array | None:
    """Returns `mask` broadcast to `shape`, that of `of`; None where there is none."""
    if mask is None:
        return None
    return _broadcast(boolean_array(mask, name), shape, of, name)


def not_along_another_axis(
    mask: ArrayLike | None, shape: Sequence[int], axes: tuple[int, ...], name: str
) -> None:
    """Refuses [C] where broadcasting would read it along axes that are not C's."""
    if mask is None:
        return
    last = tuple(range(len(shape)))[-len(axes) :]
    classes, trailing = ([shape[a] for a in there] for there in (axes, last))
    if axes == last or math.prod(classes) == 1:
        return
    if list(jnp.shape(mask)) == classes == trailing:
        cure = "Give it one axis for each of `logits`."
        along = f"axes {axes}"
        if len(axes) == 1:
            along = f"axis {axes[0]}"
            new = ", None" * (last[0] - axes[0])
            cure = f"Give it the axes of `logits` from there on: `{name}[:{new}]`."
        raise ValueError(
            f"`{name}` of shape {jnp.shape(mask)} would be read along the end of "
            f"logits of shape {tuple(shape)}, and the classes are {along}. {cure}"
        )


def boolean_array(value: ArrayLike, name: str) -> jax.Array:
    """Returns `value` as an array; refuses what is not boolean."""
    array = _array(value, name)
    if array.dtype != jnp.bool_:
        raise TypeError(
            f"`{name}` must be boolean; got dtype {array.dtype}. "
            f"Use `{name}.astype(bool)` for a mask, or multiply the loss by weights."
        )
    return array


def number(value: ArrayLike, dtype: Any, name: str) -> jax.Array:
    """Returns a real number or array of them as `dtype`."""
    array = _array(value, name)
    if not (
        jnp.issubdtype(array.dtype, jnp.floating)
        or jnp.issubdtype(array.dtype, jnp.integer)
    ):
        raise TypeError(f"`{name}` must be a real number; got dtype {array.dtype}.")
    return array.astype(dtype)


def parameter(
    value: ArrayLike,
    like: LossType,
    name: str,
    *,
    allowed: str,
    holds: Callable[[Any], Any],
    inside: float,
) -> jax.Array:
    """Returns a loss's own parameter in the loss's shape, NaN where out of range.

    Args:
      value: a real number or an array of them.
      like: the loss's shape, the dtype to compute in, and the rows that count.
      name: the parameter's name.
      allowed: the range in words, for "`name` must be {allowed}".
      holds: tells, value by value, whether it is in range.
      inside: a value in range, which rows that are left out take.

    Returns:
      The parameter; a concrete value out of range is refused.
    """
    array = number(value, like.dtype, name)
    concrete = concrete_value(value)
    if concrete is not None:
        with np.errstate(over="ignore"):
            computed = concrete.astype(array.dtype)  # 1e-50 becomes 0
        out = ~(holds(concrete) | np.isnan(concrete))
        rounded_out = ~(holds(computed) | np.isnan(concrete))
        if np.any(out | rounded_out):
            dtype = "" if np.any(out) else f", out of range as {array.dtype}"
            raise ValueError(
                f"`{name}` must be {allowed}; got {_shown(concrete)}{dtype}."
            )
    array = _broadcast(array, like.shape, "loss", name)
    if concrete is not None and not np.any(np.isnan(concrete)):
        return array  # a constant, as far as the compiler knows
    if like.where is not None:
        array = jnp.where(like.where, array, jnp.full((), inside, array.dtype))
    return nan_where(~holds(array), array)


def unit_interval(value: ArrayLike, like: LossType, name: str) -> jax.Array:
    """Returns a parameter in [0, 1]; see `parameter`."""
    return parameter(
        value,
        like,
        name,
        allowed="in [0, 1]",
        holds=lambda v: (v >= 0) & (v <= 1),
        inside=1.0,
    )


def positive(value: ArrayLike, like: LossType, name: str) -> jax.Array:
    """Returns a parameter above 0 and finite; see `parameter`."""
    return parameter(
        value,
        like,
        name,
        allowed="positive and finite",
        holds=lambda v: (v > 0) & (v < jnp.inf),
        inside=1.0,
    )


def at_least(value: ArrayLike, low: float, like: LossType, name: str) -> jax.Array:
    """Returns a parameter of at least `low` and finite; see `parameter`."""
    allowed = f"at least {low:g} and finite"
    return parameter(
        value,
        like,
        name,
        allowed=allowed,
        holds=lambda v: (v >= low) & (v < jnp.inf),
        inside=low + 1.0,
    )


def between(
    value: ArrayLike, low: float, high: float, like: LossType, name: str
) -> jax.Array:
    """Returns a parameter from `low` to `high`; see `parameter`."""
    return parameter(
        value,
        like,
        name,
        allowed=f"in [{low:g}, {high:g}]",
        # Either end may be a number that the dtype has no room for, as pi is.
        holds=lambda v: (v >= low - 1e-6) & (v <= high + 1e-6),
        inside=(low + high) / 2,
    )


def not_negative(value: ArrayLike, like: LossType, name: str) -> jax.Array:
    """Returns a parameter in [0, inf], infinity included; see `parameter`."""
    return parameter(
        value,
        like,
        name,
        allowed="at least 0, and may be inf",
        holds=lambda v: v >= 0,
        inside=1.0,
    )


def finite(value: ArrayLike, like: LossType, name: str) -> jax.Array:
    """Returns a parameter that may be any finite number; see `parameter`."""
    # By comparison: a jax function would trace a concrete value under `jit`.
    return parameter(
        value,
        like,
        name,
        allowed="finite",
        holds=lambda v: (v > -jnp.inf) & (v < jnp.inf),
        inside=0.0,
    )


def negative(value: ArrayLike, like: LossType, name: str) -> jax.Array:
    """Returns a parameter below 0 and finite; see `parameter`."""
    return parameter(
        value,
        like,
        name,
        allowed="negative and finite",
        holds=lambda v: (v < 0) & (v > -jnp.inf),
        inside=-1.0,
    )


def above(
    value: ArrayLike, low: float, like: LossType, name: str, *, cure: str
) -> jax.Array:
    """Returns a parameter above `low` and finite; see `parameter`.

    Args:
      value: a real number or an array of them.
      low: the bound, itself out of range.
      like: the loss's shape, the dtype to compute in, and the rows that count.
      name: the parameter's name.
      cure: what to do about a value out of range.
    """
    allowed = f"above {low:g} and finite ({cure})"
    return parameter(
        value,
        like,
        name,
        allowed=allowed,
        holds=lambda v: (v > low) & (v < jnp.inf),
        inside=low + 1.0,
    )


def class_counts(value: ArrayLike, num_classes: int | None = None) -> jax.Array:
    """Returns how often each class occurs, floating point [C].

    Args:
      value: real numbers.
      num_classes: C, where it is known.
    """
    array = _array(value, "class_counts")
    wide = array.dtype in (jnp.float64, jnp.int64)
    counts = number(value, jnp.float64 if wide else jnp.float32, "class_counts")
    if counts.ndim != 1 or num_classes not in (None, counts.shape[0]):
        of = "one number a class" if num_classes is None else f"shape ({num_classes},)"
        raise ValueError(
            f"`class_counts` must have {of}; got shape {counts.shape}. Count the "
            "training labels: `jnp.bincount(labels, length=num_classes)`."
        )
    concrete = concrete_value(value)
    if concrete is not None:
        if not np.all(np.isfinite(concrete) & (concrete >= 0)):
            raise ValueError(
                f"`class_counts` must be finite and at least 0; got {_shown(concrete)}."
            )
        if not np.any(concrete > 0):
            raise ValueError("`class_counts` must not all be 0: no class ever occurs.")
    return counts


def static_count(value: int, name: str) -> int:
    """Returns a count that shapes the program; refuses a traced one."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"`{name}` must be a Python integer, since it shapes the compiled "
            f"program; got a traced value. Mark it static, for example with "
            f'`jax.jit(..., static_argnames="{name}")`.'
        )
    try:
        count = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = None
    if count is None:
        raise TypeError(f"`{name}` must be an integer; got {type(value).__name__}.")
    if count < 1:
        raise ValueError(f"`{name}` must be at least 1; got {count}.")
    return count


def integer(value: int, name: str, *, at_least: int) -> int:
    """Returns `value` as an int that int32 holds, or refuses it by `name`."""
    allowed = f"`{name}` must be an integer of at least {at_least}"
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{allowed}; got {value!r}.")
    if number < at_least:
        raise ValueError(f"{allowed}; got {number}.")
    if number >= 2**31:
        raise ValueError(f"`{name}` must be below 2**31; got {number}.")
    return number


def positive_float(value: float, name: str) -> float:
    """Returns `value` as a float above 0, or refuses it by `name`."""
    number = _float(value, name)
    if not (math.isfinite(number) and number > 0.0):
        raise ValueError(f"`{name}` must be finite and above 0; got {number}.")
    return number


def unit_interval_float(value: float, name: str) -> float:
    """Returns `value` as a float in [0, 1], or refuses it by `name`."""
    number = _float(value, name)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"`{name}` must be in [0, 1]; got {number}.")
    return number


def not_negative_float(value: float, name: str) -> float:
    """Returns `value` as a float in [0, inf], or refuses it by `name`."""
    number = _float(value, name)
    if not number >= 0.0:
        raise ValueError(f"`{name}` must be at least 0, and may be inf; got {number}.")
    return number


def concrete_value(value: ArrayLike) -> np.ndarray | None:
    """Returns the value as NumPy where it is known at trace time, else None."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None
    return np.asarray(value)


def one_of(value: str, allowed: Collection[str], name: str) -> None:
    """Refuses a name that is not among those allowed, with the nearest one."""
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), list(allowed), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"`{name}` must be one of {', '.join(map(repr, allowed))}; got {value!r}.{hint}"
    )


def not_spread(tree: Any, name: str) -> None:
    """Refuses arrays that lie spread over a mesh with axes of type Explicit.

    What picks rows by their values cannot say where the picked ones would lie.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        spec = jax.typeof(leaf).sharding.spec
        if any(part is not None for part in spec):
            raise ValueError(
                f"`{name}{jax.tree_util.keystr(path)}` lies spread over axes of type "
                f"Explicit, as {spec}, and rows are picked by their values. Call this "
                "inside `jax.shard_map`, each device on its own rows, or make the mesh "
                "with `axis_types=(jax.sharding.AxisType.Auto,) * len(names)`."
            )


def check_labels(
    labels: ArrayLike, num_classes: int, *, where: ArrayLike | None = None
) -> None:
    """Raises an error that names the labels outside ``[0, num_classes)``.

    The losses never look at values, because under ``jit`` they cannot: a label out
    of range gives NaN for its row. This function looks, on concrete arrays; call it
    once on what was read, before training.

    Args:
      labels: integer array of any shape.
      num_classes: the number of classes, at least 1.
      where: boolean array that broadcasts to the shape of `labels`; labels where it
        is False may hold anything. None: every label counts.

    Raises:
      TypeError: `labels` are not integers, `where` is not boolean, or either is
        traced.
      ValueError: a label that counts is negative or not below `num_classes`.

    Examples:
      >>> import numpy as np
      >>> from as_softmax_jax import check_labels
      >>> check_labels(np.array([0, 2, -100]), 3, where=np.array([True, True, False]))
      >>> check_labels(np.array([0, 3]), 3)
      Traceback (most recent call last):
      ...
      ValueError: `labels` must be in [0, 3); got 1 outside it: 3 at index (1,). \
Exclude such rows with `where`, or correct `num_classes`.
    """
    if isinstance(labels, jax.core.Tracer) or isinstance(where, jax.core.Tracer):
        raise TypeError(
            "`check_labels` needs concrete arrays; got a traced one. "
            "Call it outside jit, on the labels as they were read."
        )
    if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer)):
        raise TypeError(
            f"`num_classes` must be an integer; got {type(num_classes).__name__}."
        )
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1; got {num_classes}.")
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"`labels` must be integers; got dtype {array.dtype}.")
    outside = (array < 0) | (array >= num_classes)
    mask = boolean_mask(where, array.shape, "labels", "where")
    if mask is not None:
        outside &= np.asarray(mask)
    if outside.any():
        first = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"`labels` must be in [0, {num_classes}); got {int(outside.sum())} outside "
            f"it: {array[first]} at index {first}. Exclude such rows with `where`, or "
            "correct `num_classes`."
        )


def _float(value: float, name: str) -> float:
    """Returns `value` as a float, or refuses it by `name`."""
    if isinstance(value, (str, bytes, bool)):
        raise TypeError(f"`{name}` must be a number; got {value!r}.")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"`{name}` must be a number; got {value!r}.") from None


def _array(value: ArrayLike, name: str) -> jax.Array:
    """Returns `value` as a JAX array; refuses what JAX cannot hold."""
    if value is None or isinstance(value, str):
        raise TypeError(f"`{name}` must be an array; got {value!r}.")
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`{name}` must be an array; got {type(value).__name__}."
        ) from error
    except OverflowError as error:
        raise ValueError(
            f"`{name}` must hold numbers that fit JAX's types; {error}."
        ) from error


def _broadcast(array: jax.Array, shape: Sequence[int], of: str, name: str) -> jax.Array:
    """Broadcasts `array` to `shape`, the shape of `of`."""
    shape = tuple(shape)
    try:
        # This one takes the symbolic dimensions of `jax.export`.
        broadcast = jnp.broadcast_shapes(array.shape, shape)
    except ValueError:
        broadcast = None
    if broadcast != shape:
        raise ValueError(
            f"`{name}` must broadcast to the shape of the {of}, {shape}; "
            f"got {array.shape}."
        )
    return jnp.broadcast_to(array, shape)


def _shown(value: np.ndarray) -> str:
    """Writes a number, or the range of an array of them, for a message."""
    if value.ndim == 0:
        return f"{value}"
    return f"an array with values from {np.nanmin(value)} to {np.nanmax(value)}"
