"""The layers of a pretrained encoder: which train, and how fast each learns."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from ..config import Config, ModelConfig, OptimizerConfig
from ..errors import ConfigError
from ..models.lora import LORA

# What the parameters of a pretrained encoder stand under.
ENCODER = "encoder"


def check_layers(config: Config) -> None:
    """Refuses what only a pretrained encoder has where there is none.

    Raises:
      ConfigError: names the key and the cure.
    """
    model, default = config.model, ModelConfig()
    asked = {
        "model.freeze": model.freeze != default.freeze,
        "model.lora_rank": model.lora_rank != default.lora_rank,
        "optimizer.layer_decay": config.optimizer.layer_decay
        != OptimizerConfig().layer_decay,
    }
    for key, is_asked in asked.items():
        if is_asked and not model.pretrained:
            raise ConfigError(
                f"`{key}`: this network has no pretrained encoder; name one by "
                "`model.pretrained`, or leave it out"
            )
    if model.lora_rank and not model.lora_targets:
        raise ConfigError(
            "`model.lora_targets`: no matrix is named; name some, such as query,value, "
            "or set `model.lora_rank` to 0"
        )
    if model.freeze and model.lora_rank:
        raise ConfigError(
            "`model.freeze`: with `model.lora_rank` the encoder's own parameters do "
            "not move anyway; leave out one of both"
        )


def trained(config: ModelConfig, params: Any) -> Any:
    """Returns, for each parameter, whether it is trained.

    Args:
      config: says what of a pretrained encoder is not.
      params: of the network.
    """
    whole = config.freeze == "encoder" or bool(config.lora_rank)

    def moves(path: tuple[Any, ...], _: Any) -> bool:
        if path[0].key != ENCODER:
            return True
        return not whole and not (config.freeze and _block(path) == 0)

    return jax.tree_util.tree_map_with_path(moves, params)


def scale_by_layer(decay: float) -> optax.GradientTransformation:
    r"""Scales updates down from the top of a pretrained encoder to its embeddings.

    .. math:: u \mapsto \delta^{L + 1 - l} u

    with :math:`l` = 0 for the embeddings and 1 to :math:`L` for the blocks; the rest,
    the output layer and an encoder's last norm, is :math:`l = L + 1` and is not
    scaled. As in BEiT (Bao et al., arXiv 2106.08254); ELECTRA (Clark et al., arXiv
    2003.10555) has the output layer one power higher still.

    Args:
      decay: the factor :math:`\delta` a layer.
    """

    def update_fn(
        updates: optax.Updates, state: optax.EmptyState, params: Any = None
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params
        top = max(map(_depth, updates.values())) + 1

        def scale(path: tuple[Any, ...], update: jax.Array) -> jax.Array:
            encodes = path[0].key in (ENCODER, LORA)
            layer = _block(path) if encodes else None
            return update if layer is None else decay ** (top - layer) * update

        return jax.tree_util.tree_map_with_path(scale, updates), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update_fn)


def _block(path: tuple[Any, ...]) -> int | None:
    """Returns the number of an encoder's block from 1 on, 0 of what lies below them.

    What lies above, a norm by the name of `final_norm`, has None.
    """
    name = path[1].key
    if name == "blocks":
        return path[2].key + 1
    return None if name == "final_norm" else 0


def _depth(part: Any) -> int:
    """Returns the number of an encoder's blocks; 0 of what is none."""
    return len(part.get("blocks", ())) if isinstance(part, Mapping) else 0
