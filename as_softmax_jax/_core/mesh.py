"""What `jax.shard_map` knows of an array: the mesh axes over which it varies."""

from typing import Any

import jax
from jax.sharding import PartitionSpec


def varying_axes(tree: Any) -> tuple[str, ...]:
    """Returns the axes over which some leaf of a pytree varies, in a fixed order."""
    return tuple(sorted({axis for leaf in jax.tree.leaves(tree) for axis in _of(leaf)}))


def as_varying(leaf: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Marks an array as one that may differ between the devices of some axes."""
    missing = tuple(axis for axis in axes if axis not in _of(leaf))
    return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf


def shared_axes(leaf: jax.Array, axes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns those of some axes over which an array is the same."""
    return tuple(axis for axis in axes if axis not in _of(leaf))


def whole(array: jax.Array) -> jax.Array:
    """Gives every device all of an array that is spread over axes of type Explicit."""
    spec = jax.typeof(array).sharding.spec
    if all(part is None for part in spec):
        return array
    return jax.sharding.reshard(array, PartitionSpec(*(None,) * array.ndim))


def is_tracked(axis_name: str) -> bool:
    """Whether `jax.shard_map` keeps account of what varies over an axis it maps.

    It does not under `check_vma=False`, nor do `jax.pmap` and `jax.vmap`.
    """
    return axis_name in _of(jax.lax.axis_index(axis_name))


def _of(leaf: Any) -> frozenset[str]:
    return jax.typeof(leaf).manual_axis_type.varying
