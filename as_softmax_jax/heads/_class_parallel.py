"""An output layer with its loss on a mesh: rows over one axis, classes over another."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from as_softmax_jax.heads._linear import RowStatistics, row_statistics


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
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"`mesh` must have axes of type Auto; got {mesh.axis_types}. Make it with "
            "`jax.make_mesh(shape, names, axis_types=(AxisType.Auto,) * len(names))`."
        )
    parts, num_classes = mesh.shape[model_axis], kernel.shape[1]
    spare = -num_classes % parts
    kernel = jnp.pad(kernel, [(0, 0), (0, spare)])
    bias = None if bias is None else jnp.pad(bias, (0, spare))
    mask = jnp.arange(num_classes + spare) < num_classes if spare else None
    axis = model_axis if parts > 1 else None  # the same on a mesh without it
    rows = P(data_axis)
    options = {"bias": bias, "where": where, "class_mask": mask}
    specs = {"bias": P(axis), "where": rows, "class_mask": P(axis)}
    for name, margin in (("delta", delta), ("logit_margin", logit_margin)):
        if margin is not None:
            options[name], specs[name] = margin, rows if jnp.ndim(margin) else P()

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
        return row_statistics(features, kernel, labels, axis_name=axis, **options)

    return on_device(features, kernel, labels, options)
