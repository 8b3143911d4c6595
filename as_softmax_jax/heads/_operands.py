"""The door of every blocked head: check, clean, and bring operands to one form."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.margin import Margin
from as_softmax_jax._core.margin import read as read_margin
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax.heads._blocks import Layer

LAYOUTS = ("dc", "cd")


class Inputs(NamedTuple):
    """Checked and clean arguments, before rows are laid out."""

    features: jax.Array  # [..., D]; 0 in rows that are left out
    kernel: jax.Array  # in the features' dtype
    labels: jax.Array  # [...] int32, from this device's first class on
    margin: Margin  # [...], NaN where it or the label is out of range
    bias: jax.Array | None  # [C]
    where: jax.Array | None  # [...] bool
    layout: str  # of the kernel
    num_classes: int  # of this device

    @property
    def like(self) -> checks.LossType:
        """What parameters of the loss are brought to."""
        return checks.LossType(self.labels.shape, self.margin.value.dtype, self.where)

    def layer(self, class_mask: ArrayLike | None) -> Layer:
        """Returns the output layer, with the classes that are valid."""
        bias = None if self.bias is None else self.bias.astype(self.like.dtype)
        mask = _class_mask(class_mask, (*self.labels.shape, self.num_classes))
        return Layer(self.kernel, bias, mask)

    def logits(self) -> jax.Array:
        """Returns the logits of all classes, summed in the compute dtype."""
        axes = (((self.features.ndim - 1,), (self.layout.index("d"),)), ((), ()))
        logits = jax.lax.dot_general(
            self.features, self.kernel, axes, preferred_element_type=self.like.dtype
        )
        if self.bias is None:
            return logits
        bias = self.bias.astype(logits.dtype)
        return logits + bias.reshape((1,) * (logits.ndim - 1) + (-1,))


def read(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    given: tuple[ArrayLike | None, ArrayLike | None],
    bias: ArrayLike | None,
    where: ArrayLike | None,
    layout: str,
    axis_name: str | None = None,
    *,
    sub_centers: int = 1,
    op: str = "linear_as_softmax_loss",
) -> Inputs:
    """Checks the arguments; `given` are delta and the margin in logits."""
    checks.one_of(layout, LAYOUTS, "kernel_layout")
    features, kernel, bias = operands_of(features, kernel, bias, layout, sub_centers)
    shape = features.shape[:-1]
    num_classes = count_classes(kernel.shape[layout.index("c")], sub_centers)
    first: jax.Array | int = 0
    of_all = num_classes
    if axis_name is not None:
        first = jax.lax.axis_index(axis_name) * num_classes
        of_all = jax.lax.axis_size(axis_name) * num_classes
    labels = checks.integer_labels(labels, shape, of_all)
    where = checks.boolean_mask(where, shape, "loss", "where")
    named = {"features": features, "kernel": kernel, "labels": labels, "bias": bias}
    for name, array in (named | {"where": where}).items():
        checks.not_spread(array, name)
    like = checks.LossType(shape, compute_dtype(features.dtype), where)
    margin = read_margin(*given, like, op)
    bad = (labels < 0) | (labels >= of_all)
    value = nan_where(bad if where is None else bad & where, margin.value)
    margin = dataclasses.replace(margin, value=value)
    if where is not None:
        # A row that is left out may hold NaN, which a factor of 0 would not stop.
        features = jnp.where(where[..., None], features, jnp.zeros((), features.dtype))
    own = labels - first
    return Inputs(features, kernel, own, margin, bias, where, layout, num_classes)


def count_classes(num_columns: int, sub_centers: int) -> int:
    """Returns how many classes the kernel's columns are."""
    if num_columns % sub_centers:
        raise ValueError(
            f"`kernel` must have `sub_centers` columns a class; got {num_columns} "
            f"columns for {sub_centers} each."
        )
    return num_columns // sub_centers


def operands_of(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    layout: str,
    sub_centers: int = 1,
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Returns features and kernel in one dtype, and the bias; refuses what misfits."""
    features = checks.floating_array(features, "features")
    kernel = checks.floating_array(kernel, "kernel")
    if features.ndim == 0:
        raise ValueError("`features` must have an axis of features; got a scalar.")
    width = features.shape[-1]
    if kernel.ndim != 2 or kernel.shape[layout.index("d")] != width:
        wanted = f"({width}, C)" if layout == "dc" else f"(C, {width})"
        raise ValueError(
            f"`kernel` must have the shape {wanted} for features of {width}; got "
            f"{kernel.shape}. A kernel of the other layout goes with "
            f'`kernel_layout="{layout[::-1]}"`.'
        )
    num_classes = count_classes(kernel.shape[layout.index("c")], sub_centers)
    checks.at_least_one_class(num_classes)
    if bias is not None:
        bias = checks.floating_array(bias, "bias")
        if bias.shape != (num_classes,):
            raise ValueError(
                f"`bias` must have the shape ({num_classes},), a number a class; got "
                f"{bias.shape}."
            )
    dtype = features.dtype
    if dtype != kernel.dtype:
        double = jnp.float64 in (features.dtype, kernel.dtype)
        dtype = jnp.dtype(jnp.float64 if double else jnp.float32)
    return features.astype(dtype), kernel.astype(dtype), bias


def check_reference_alone(axis_name: str | None) -> None:
    """Refuses the plain form where the classes are split."""
    if axis_name is not None:
        raise ValueError(
            "`axis_name` and `implementation` 'reference' do not go together: it has "
            "the logits of all classes. Leave one of them out."
        )


def mask_for_all_rows(class_mask: ArrayLike, num_classes: int) -> jax.Array:
    """Returns a class mask [C]; refuses one of another shape."""
    mask = checks.boolean_array(class_mask, "class_mask")
    if mask.shape != (num_classes,):
        raise ValueError(
            f"`class_mask` must have the shape ({num_classes},), the same for all "
            f"rows; got {mask.shape}."
        )
    return mask


def _class_mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> jax.Array | None:
    """Returns the mask as [1, C] where it is the same for all rows, else as [N, C]."""
    if mask is None:
        return None
    array = checks.boolean_array(mask, "class_mask")
    # Refuses a wrong shape, without an array of the logits' size.
    jax.eval_shape(lambda: checks.boolean_mask(array, shape, "logits", "class_mask"))
    if math.prod(array.shape[:-1]) == 1:
        return jnp.broadcast_to(array.reshape(1, -1), (1, shape[-1]))
    return jnp.broadcast_to(array, shape).reshape(-1, shape[-1])
