"""The mesh, and where arrays lie on it: one code path for one device and for many."""

import math
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ..config import MeshConfig
from ..errors import ConfigError

Tree = TypeVar("Tree")

# A vector of this length is worth splitting: the bias of many classes.
_LONG = 4096


def make_mesh(config: MeshConfig, *, batch_size: int) -> Mesh:
    """Returns a mesh with the axes `data` and `model` over the configured devices.

    Args:
      config: devices along each axis.
      batch_size: of the global batch, which `data` must divide.

    Raises:
      ConfigError: there are too few devices, or the batch does not divide.
    """
    there = jax.device_count()
    data = config.data or max(there // config.model, 1)
    if data * config.model > there:
        raise ConfigError(
            f"`mesh`: {data} x {config.model} devices asked for and {there} there; "
            "lower `mesh.data` or `mesh.model`"
        )
    if batch_size % data:
        raise ConfigError(
            f"`training.batch_size`: {batch_size} does not divide over {data} devices; "
            f"make it a multiple, or set `mesh.data`"
        )
    return jax.make_mesh(
        (data, config.model),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=jax.devices()[: data * config.model],
    )


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Returns the global batch, each device of `data` holding its rows.

    Args:
      mesh: the devices.
      batch: this process's part; the whole where there is one process.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return {
        name: jax.make_array_from_process_local_data(sharding, rows)
        for name, rows in batch.items()
    }


def constrain_state(mesh: Mesh, state: Tree) -> Tree:
    """Keeps every leaf of a training state where `_state_spec` says; for use in jit.

    A step that returns its state where it found it compiles once.
    """

    def constrain(leaf: jax.Array) -> jax.Array:
        sharding = NamedSharding(mesh, _state_spec(leaf.shape, mesh.shape["model"]))
        return jax.lax.with_sharding_constraint(leaf, sharding)

    return jax.tree.map(constrain, state)


def replicate(mesh: Mesh, tree: Tree) -> Tree:
    """Gives every device the whole of each leaf; for use in jit."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.lax.with_sharding_constraint(leaf, everywhere), tree
    )


def _state_spec(shape: tuple[int, ...], model: int) -> PartitionSpec:
    """Splits the last axis of matrices and long vectors over `model` where it divides.

    By shape alone, so that moments and accumulated gradients lie with their parameter.
    """
    parts: list[Any] = [None] * len(shape)
    large = len(shape) >= 2 or math.prod(shape) >= _LONG
    if model > 1 and large and shape[-1] % model == 0:
        parts[-1] = "model"
    return PartitionSpec(*parts)
