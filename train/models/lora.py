"""Low-rank changes of an encoder's matrices, trained in their place (LoRA).

Hu et al., arXiv 2106.09685. A matrix W [inputs, outputs] counts as

  W + alpha / rank * down @ up,    down [inputs, rank], up [rank, outputs],

of which W stays as it was read. `up` begins at 0, and the network where it was. The
sum is made before the network runs, so there are no layers of its own, and a merged
export is that sum.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig, nearest
from ..errors import ConfigError

# What the changes stand under, beside the encoder's parameters.
LORA = "lora"
# Matrices of several layers, side by side.
_PARTS = {"query_key_value": ("query", "key", "value")}
# That of PyTorch's linear layers: uniform in [-1, 1] / sqrt(inputs).
_INITIAL = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def init_changes(
    encoder: Mapping[str, Any], config: ModelConfig, key: jax.Array
) -> dict[str, Any]:
    """Returns fresh changes, `{"blocks": {number: {matrix: {"down", "up"}}}}`.

    Args:
      encoder: its parameters, of which the shapes count.
      config: the rank, and which matrices of a block are changed.
      key: of the random numbers.

    Raises:
      ConfigError: no block has a matrix of a name.
    """
    known = {name for block in encoder["blocks"].values() for name in _shapes(block)}
    for name in config.lora_targets:
        if name not in known:
            raise ConfigError(
                f"`model.lora_targets`: this encoder has no {name!r}; "
                f"{nearest(name, known)}"
            )
    blocks: dict[int, Any] = {}
    for number, block in encoder["blocks"].items():
        blocks[number] = {}
        for name, (inputs, outputs) in _shapes(block).items():
            if name in config.lora_targets:
                key, own = jax.random.split(key)
                blocks[number][name] = {
                    "down": _INITIAL(own, (inputs, config.lora_rank), jnp.float32),
                    "up": jnp.zeros((config.lora_rank, outputs)),
                }
    return {"blocks": blocks}


def merge_changes(
    encoder: Mapping[str, Any], changes: Mapping[str, Any], config: ModelConfig
) -> dict[str, Any]:
    """Returns the encoder's parameters with the changes added.

    Args:
      encoder: its parameters.
      changes: as `init_changes` gives them.
      config: the rank and alpha.
    """
    scale = config.lora_alpha / config.lora_rank

    def merge(name: str, layer: Any, changes: Mapping[str, Any]) -> Any:
        names = _PARTS.get(name, (name,))
        if not changes.keys() & set(names):
            return layer
        kernels = jnp.split(layer["kernel"], len(names), axis=-1)
        for k, part in enumerate(names):
            if part in changes:
                down, up = changes[part]["down"], changes[part]["up"]
                kernels[k] += scale * jnp.matmul(down, up, precision="highest")
        return dict(layer) | {"kernel": jnp.concatenate(kernels, axis=-1)}

    blocks = {
        number: {
            name: merge(name, layer, changes["blocks"][number])
            for name, layer in block.items()
        }
        for number, block in encoder["blocks"].items()
    }
    return dict(encoder) | {"blocks": blocks}


def _shapes(block: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Returns the names of a block's matrices, and (inputs, outputs) of each."""
    found = {}
    for name, layer in block.items():
        kernel = layer.get("kernel") if isinstance(layer, Mapping) else None
        if kernel is not None and kernel.ndim == 2:
            parts = _PARTS.get(name, (name,))
            for part in parts:
                found[part] = (kernel.shape[0], kernel.shape[1] // len(parts))
    return found
