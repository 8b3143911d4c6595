"""The class axes: one or several, anywhere in the logits, as one axis at the end."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from as_softmax_jax._core import checks

Axis = int | tuple[int, ...]


def to_last(array: jax.Array, axis: Axis) -> jax.Array:
    """Returns `array` with its class axes as one, the last.

    Of several axes a class is the flat index, row by row, in the order of `axis`.
    """
    axes = checks.class_axes(array.ndim, axis)
    last = _last(len(axes), array.ndim)
    if axes != last:
        array = jnp.moveaxis(array, axes, last)
    if len(axes) == 1:
        return array
    rows, classes = array.shape[: last[0]], array.shape[last[0] :]
    return array.reshape(*rows, math.prod(classes))


def from_last(array: jax.Array, shape: Sequence[int], axis: Axis) -> jax.Array:
    """Returns what `to_last` came from, of that shape."""
    axes = checks.class_axes(len(shape), axis)
    classes = [shape[a] for a in axes]
    if len(axes) > 1:
        array = array.reshape(*array.shape[:-1], *classes)
    return jnp.moveaxis(array, _last(len(axes), len(shape)), axes)


def _last(num_axes: int, ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim - num_axes, ndim))
