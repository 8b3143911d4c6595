"""The open window of `adaptive_multi_steps(axis_name=...)`, on a mesh and off it."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from as_softmax_jax._core.mesh import as_varying
from as_softmax_jax.transforms._multi_steps import AdaptiveMultiStepsState


def window_specs(state: optax.OptState, axis_name: str | tuple[str, ...]) -> Any:
    """Returns where the state of `adaptive_multi_steps(axis_name=...)` lies on a mesh.

    Everything is the same on all devices but the accumulated gradient, of which each
    device holds its part of the sum.

    Args:
      state: the optimizer's state, of the form with or without `axis_name`: arrays
        or what `jax.eval_shape` gives.
      axis_name: as of the transform.

    Returns:
      A `PartitionSpec` for each leaf, for `in_specs` and `out_specs` of
      `jax.shard_map`.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> from jax.sharding import PartitionSpec as P
      >>> from as_softmax_jax import active_count_window, adaptive_multi_steps
      >>> from as_softmax_jax.transforms import window_specs
      >>> def transform(axis_name=None):
      ...     return adaptive_multi_steps(optax.adam(1e-3), active_count_window(8),
      ...         max_mini_steps=4, axis_name=axis_name)
      >>> params = {"w": jnp.ones(3)}
      >>> specs = window_specs(jax.eval_shape(transform().init, params), "data")
      >>> print(specs.acc_grads, specs.mini_step)
      {'w': P('data',)} P()
      >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
      >>> init = jax.shard_map(
      ...     transform("data").init, mesh=mesh, in_specs=P(), out_specs=specs)
      >>> print(init(params).mini_step)
      0
    """

    def spec(node: Any) -> Any:
        everywhere = jax.tree.map(lambda _: PartitionSpec(), node)
        if not _is_ours(node):
            return everywhere
        own = jax.tree.map(lambda _: PartitionSpec(axis_name), node.acc_grads)
        return everywhere._replace(acc_grads=own)

    return jax.tree.map(spec, state, is_leaf=_is_ours)


def reduce_window(state: optax.OptState, axis_name: str | tuple[str, ...]) -> Any:
    """Returns the state with the gradient of all devices, for a checkpoint.

    It is what `adaptive_multi_steps` without `axis_name` would hold, the same on each
    device: any number of devices can go on from it, by `spread_window`.

    Args:
      state: of the form with `axis_name`, inside `jax.shard_map` or `jax.pmap`.
      axis_name: as of the transform.
    """

    def reduce(node: Any) -> Any:
        if not _is_ours(node):
            return node
        own = jax.tree.map(lambda part: part[0], node.acc_grads)
        return node._replace(acc_grads=jax.lax.psum(own, axis_name))

    return jax.tree.map(reduce, state, is_leaf=_is_ours)


def spread_window(state: optax.OptState, axis_name: str | tuple[str, ...]) -> Any:
    """Undoes `reduce_window`, on any number of devices.

    The first device takes the whole gradient and the others none: parts add up, so
    the step at the window's end is the same to the bit.

    Args:
      state: of the form without `axis_name`, inside `jax.shard_map` or `jax.pmap`.
      axis_name: as of the transform.
    """
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name
    is_first = jax.lax.axis_index(axis_name) == 0

    def spread(node: Any) -> Any:
        if not _is_ours(node):
            return node
        part = jax.tree.map(
            lambda acc: jnp.where(is_first, as_varying(acc, axes), 0)[None],
            node.acc_grads,
        )
        return node._replace(acc_grads=part)

    return jax.tree.map(spread, state, is_leaf=_is_ours)


def _is_ours(node: Any) -> bool:
    return isinstance(node, AdaptiveMultiStepsState)
