"""ConvNeXt: stages of blocks, each a wide convolution and a feed-forward network.

Liu et al., arXiv 2201.03545.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..errors import ConfigError
from .family import EncoderConfig, Family, whole_numbers
from .layers import ACTIVATIONS, linear, norm

# Of all norms but the last.
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNextConfig(EncoderConfig):
    """The shape of a ConvNeXt; `depth` is of all stages, `width` the last one's.

    Attributes:
      widths: of each stage.
      depths: blocks of each stage.
      patch_size: the side of the patches that the first stage reads.
      layer_norm_epsilon: added to the variance of the last norm.
      activation: a key of `ACTIVATIONS`.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    patch_size: int
    layer_norm_epsilon: float
    activation: str

    def place(self, block: int) -> tuple[int, int]:
        """Returns the stage of a block, and its number there."""
        stage = 0
        while block >= self.depths[stage]:
            block -= self.depths[stage]
            stage += 1
        return stage, block

    def block_names(self, block: int) -> Mapping[str, int]:
        """Returns what stands in the names of a block's weights."""
        stage, layer = self.place(block)
        return {"stage": stage, "layer": layer}


class ConvNextBlock(nnx.Module):
    """A convolution a channel, a feed-forward network, and a way around both.

    Args:
      encoder: the shape of the network.
      config: the type of the computation.
      number: of the block; the first of a later stage halves both sides.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        encoder: ConvNextConfig,
        config: ModelConfig,
        *,
        number: int,
        rngs: nnx.Rngs,
    ):
        self.dtype, self.activation = (
            jnp.dtype(config.compute_dtype),
            encoder.activation,
        )
        stage, layer = encoder.place(number)
        width = encoder.widths[stage]
        self.halves = bool(stage) and not layer
        if self.halves:
            before = encoder.widths[stage - 1]
            self.halving_norm = norm(before, _EPSILON, rngs)
            self.halving = _patches(before, width, 2, self.dtype, rngs)
        self.convolution = nnx.Conv(
            width,
            width,
            (7, 7),
            feature_group_count=width,
            dtype=self.dtype,
            rngs=rngs,
        )
        self.norm = norm(width, _EPSILON, rngs)
        self.expand = linear(width, 4 * width, self.dtype, rngs)
        self.contract = linear(4 * width, width, self.dtype, rngs)
        self.layer_scale = nnx.Param(jnp.full(width, 1e-6))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns maps [n, height, width, channels] after the block."""
        if self.halves:
            x = self.halving(self._normed(self.halving_norm, x))
        convolved = self._normed(self.norm, self.convolution(x))
        rows = convolved.reshape(-1, x.shape[-1])
        fed = self.contract(ACTIVATIONS[self.activation](self.expand(rows)))
        scaled = self.layer_scale[...].astype(self.dtype)[None] * fed
        return x + scaled.reshape(x.shape)

    def _normed(self, norm: nnx.LayerNorm, x: jax.Array) -> jax.Array:
        return norm(x.astype(jnp.float32)).astype(self.dtype)


class ConvNext(nnx.Module):
    """Patches, the blocks of all stages, and a norm of the mean.

    Args:
      encoder: the shape of the network.
      config: pooling, the type of the computation, and recomputation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: ConvNextConfig, config: ModelConfig, *, rngs: nnx.Rngs):
        self.remat, self.dtype = config.remat, jnp.dtype(config.compute_dtype)
        width = encoder.widths[0]
        self.patches = _patches(3, width, encoder.patch_size, self.dtype, rngs)
        self.norm = norm(width, _EPSILON, rngs)
        self.blocks = nnx.List(
            ConvNextBlock(encoder, config, number=number, rngs=rngs)
            for number in range(encoder.depth)
        )
        self.final_norm = norm(encoder.width, encoder.layer_norm_epsilon, rngs)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns the last maps, [n, height, width, channels].

        Args:
          images: normalised, [n, height, width, 3], of any size.
          rngs: nothing is drawn from them.
        """
        del rngs
        x = self.norm(self.patches(images).astype(jnp.float32)).astype(self.dtype)
        call = ConvNextBlock.__call__
        for block in self.blocks:
            x = (nnx.remat(call) if self.remat else call)(block, x)
        return x

    def features(
        self, images: jax.Array, pooling: str, *, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Returns the normalised mean of the last maps, [n, width].

        Args:
          images: as above.
          pooling: mean.
          rngs: nothing is drawn from them.

        Raises:
          ConfigError: there is no other pooling.
        """
        if pooling != "mean":
            raise ConfigError(
                f"`model.pooling`: {pooling} is the state of a first token, and this "
                "encoder has no tokens; set it to mean"
            )
        maps = jnp.mean(self(images, rngs=rngs), axis=(1, 2), dtype=jnp.float32)
        return self.final_norm(maps).astype(self.dtype)


def _patches(
    inputs: int, outputs: int, side: int, dtype: jnp.dtype, rngs: nnx.Rngs
) -> nnx.Conv:
    """Returns a convolution of patches that do not overlap."""
    return nnx.Conv(
        inputs,
        outputs,
        (side, side),
        strides=(side, side),
        padding="VALID",
        dtype=dtype,
        rngs=rngs,
    )


def _more(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns widths and depths of the stages.

    Raises:
      ValueError: they are none, or blocks have no scale of their own.
    """
    widths, depths = (whole_numbers(content, key) for key in ("hidden_sizes", "depths"))
    if len(widths) != len(depths):
        raise ValueError("`hidden_sizes` and `depths` are not of the same stages")
    if not content.get("layer_scale_init_value", 1e-6) > 0:
        raise ValueError("`layer_scale_init_value` of 0 is not known")
    return {
        "widths": widths,
        "depths": depths,
        "width": widths[-1],
        "depth": sum(depths),
    }


_BLOCK = "encoder.stages.{stage}.layers.{layer}"
FAMILIES = {
    "convnext": Family(
        reads="images",
        class_name="ConvNext",
        prefix="convnext.",
        config=ConvNextConfig,
        network=ConvNext,
        sizes={"patch_size": "patch_size"},
        options={
            "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
            "activation": ("hidden_act", "gelu"),
        },
        fixed={"num_channels": (3, 3)},
        more=_more,
        modules={
            "patches": ("embeddings.patch_embeddings",),
            "norm": ("embeddings.layernorm",),
            "blocks.{}.halving_norm": ("encoder.stages.{stage}.downsampling_layer.0",),
            "blocks.{}.halving": ("encoder.stages.{stage}.downsampling_layer.1",),
            "blocks.{}.convolution": (f"{_BLOCK}.dwconv",),
            "blocks.{}.norm": (f"{_BLOCK}.layernorm",),
            "blocks.{}.expand": (f"{_BLOCK}.pwconv1",),
            "blocks.{}.contract": (f"{_BLOCK}.pwconv2",),
            "blocks.{}.layer_scale": (f"{_BLOCK}.layer_scale_parameter",),
            "final_norm": ("layernorm",),
        },
    )
}
