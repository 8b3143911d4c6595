"""An output layer with its loss on a mesh: rows over one axis, classes over another."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from as_softmax_jax._core.cosine_margin import Beyond
from as_softmax_jax.heads._blocked import RowStatistics
from as_softmax_jax.heads._linear import row_statistics
from as_softmax_jax.heads._linear_margin import margin_row_statistics
from as_softmax_jax.heads._operands import count_classes


def row_statistics_on_mesh(
    mesh: Mesh,
    features: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    *,
    delta: jax.Array | None = None,
    logit_margin: jax.Array | None = None,
    bias: jax.Array | None = None,
    where: jax.Array | None = None,
    data_axis: str = "data",
    model_axis: str = "model",
) -> RowStatistics:
    """Returns what `row_statistics` does, under `jax.jit` with arrays on a mesh.

    Rows are picked by their values, which must not cross devices, so the pass is inside
    `jax.shard_map`: each device of `data_axis` works on its own rows, and each of
    `model_axis` on its own classes. A kernel whose classes lie split over `model_axis`
    stays so, and its gradient and the optimizer's state with it; classes that do not
    divide are padded, and the padding masked.

    Args:
      mesh: with both axes, of type Auto.
      features: [N, ..., D]; `data_axis` divides N.
      kernel: [D, C].
      labels: integers [N, ...] in [0, C).
      delta: the margin, or else
      logit_margin: the margin in logits; numbers, or of the rows' shape.
      bias: [C], or None.
      where: boolean [N, ...], the rows that count.
      data_axis: over which rows are split.
      model_axis: over which classes are split.

    Raises:
      ValueError: an axis of the mesh is of type Explicit.
    """
    layer = {"bias": bias, "where": where}
    margins = {"delta": delta, "logit_margin": logit_margin}
    return _on_mesh(
        row_statistics,
        mesh,
        (features, kernel, labels),
        layer | margins,
        (data_axis, model_axis),
    )


def margin_row_statistics_on_mesh(
    mesh: Mesh,
    features: jax.Array,
    kernel: jax.Array,
    labels: jax.Array,
    *,
    scale: ArrayLike = 64.0,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
    filter_threshold: float | None = None,
    sub_centers: int = 1,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: jax.Array | None = None,
    data_axis: str = "data",
    model_axis: str = "model",
) -> RowStatistics:
    """Returns what `margin_row_statistics` does, as `row_statistics_on_mesh`.

    Args:
      mesh: with both axes, of type Auto.
      features: [N, ..., D]; `data_axis` divides N.
      kernel: [D, C].
      labels: integers [N, ...] in [0, C).
      scale: a number, or an array of the rows' shape; as are the margins. These and
        what is not said here: see `linear_margin_softmax_loss`.
      angle: the margin of the label's angle.
      cosine: the margin of the label's cosine.
      beyond: what holds past an angle of pi.
      straight_through: whose gradient.
      filter_threshold: a cosine with another class above it counts as 0.
      sub_centers: how many columns of the kernel a class has.
      delta: the margin of AS-Softmax in probability; or else
      logit_margin: that in logits. None of the two: softmax.
      where: boolean [N, ...], the rows that count.
      data_axis: over which rows are split.
      model_axis: over which classes are split.

    Raises:
      ValueError: an axis of the mesh is of type Explicit.
    """
    function = functools.partial(
        margin_row_statistics,
        beyond=beyond,
        straight_through=straight_through,
        filter_threshold=filter_threshold,
        sub_centers=sub_centers,
    )
    options = {"scale": scale, "angle": angle, "cosine": cosine}
    margins = {"delta": delta, "logit_margin": logit_margin, "where": where}
    arrays = features, kernel, labels
    axes = data_axis, model_axis
    return _on_mesh(function, mesh, arrays, options | margins, axes, sub_centers)


def _on_mesh(
    function: Callable[..., RowStatistics],
    mesh: Mesh,
    arrays: tuple[jax.Array, jax.Array, jax.Array],
    options: dict[str, Any],
    axes: tuple[str, str],
    sub_centers: int = 1,
) -> RowStatistics:
    """Returns a function of each device's rows and classes.

    Args:
      function: of features, kernel and labels, and of options by name.
      mesh: with both axes.
      arrays: features, kernel and labels.
      options: None, a number, or of the rows' shape; "bias" is of the classes.
      axes: for rows and for classes.
      sub_centers: how many columns of the kernel a class has.
    """
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"`mesh` must have axes of type Auto; got {mesh.axis_types}. Make it with "
            "`jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))`."
        )
    features, kernel, labels = arrays
    parts = mesh.shape[axes[1]]
    num_classes = count_classes(kernel.shape[1], sub_centers)
    spare = -num_classes % parts
    kernel = jnp.pad(kernel, [(0, 0), (0, spare * sub_centers)])
    options = {name: value for name, value in options.items() if value is not None}
    if "bias" in options:
        options["bias"] = jnp.pad(options["bias"], (0, spare))
    if spare:
        options["class_mask"] = jnp.arange(num_classes + spare) < num_classes
    axis = axes[1] if parts > 1 else None  # the same on a mesh without it
    rows, of_classes = P(axes[0]), ("bias", "class_mask")
    specs = {
        name: P(axis) if name in of_classes else rows if jnp.ndim(value) else P()
        for name, value in options.items()
    }

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(rows, P(None, axis), rows, specs),
        out_specs=rows,
    )
    def on_device(
        features: jax.Array,
        kernel: jax.Array,
        labels: jax.Array,
        options: dict[str, Any],
    ) -> RowStatistics:
        return function(features, kernel, labels, axis_name=axis, **options)

    return on_device(features, kernel, labels, options)
