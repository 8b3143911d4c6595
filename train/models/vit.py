"""ViT, and DINOv2: an image as a row of square patches, read by a Transformer.

Dosovitskiy et al., arXiv 2010.11929; Oquab et al., arXiv 2304.07193.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..config import ModelConfig
from ..errors import ConfigError
from .family import Family, TransformerConfig, side_by_side
from .layers import INITIAL, Block, dropout, dropout_keys, norm, run_blocks


@dataclasses.dataclass(frozen=True, kw_only=True)
class VitConfig(TransformerConfig):
    """The shape of a ViT.

    Attributes:
      image_size: the side of the square that its positions are of.
      patch_size: the side of a patch.
    """

    image_size: int
    patch_size: int

    @property
    def patches(self) -> int:
        """How many lie side by side."""
        return self.image_size // self.patch_size


class ScaledBlock(Block):
    """A block with norms first whose changes are scaled, channel by channel.

    Args:
      encoder: the shape of the network.
      config: dropout and the type of the computation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: VitConfig, config: ModelConfig, *, rngs: nnx.Rngs):
        super().__init__(encoder, config, norm_first=True, rngs=rngs)
        self.attention_scale = nnx.Param(jnp.ones(encoder.width))
        self.feed_forward_scale = nnx.Param(jnp.ones(encoder.width))

    def _attend(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None, *context: jax.Array
    ) -> jax.Array:
        """Returns what attention makes of x [n * length, width]."""
        scale = self.attention_scale[...].astype(self.dtype)
        return scale[None] * super()._attend(x, mask, key, *context)

    def _feed(self, x: jax.Array) -> jax.Array:
        """Returns what the feed-forward network makes of x [n * length, width]."""
        scale = self.feed_forward_scale[...].astype(self.dtype)
        return scale[None] * super()._feed(x)


class Vit(nnx.Module):
    """Patches, `depth` blocks with norms first, and a last norm.

    Args:
      encoder: the shape of the network.
      config: dropout, the type of the computation, and recomputation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: VitConfig, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config, self.rate, self.remat = encoder, config.dropout, config.remat
        self.dtype = jnp.dtype(config.compute_dtype)
        side = (encoder.patch_size, encoder.patch_size)
        self.patches = nnx.Conv(
            3,
            encoder.width,
            side,
            strides=side,
            padding="VALID",
            dtype=self.dtype,
            rngs=rngs,
        )
        # That of the token which stands for all, and one a patch.
        shape = (1, 1 + encoder.patches**2, encoder.width)
        self.first = nnx.Param(jnp.zeros((1, 1, encoder.width)))
        self.positions = nnx.Param(INITIAL(rngs.params(), shape, jnp.float32))
        self.blocks = nnx.List(
            self._block(encoder, config, rngs) for _ in range(encoder.depth)
        )
        self.final_norm = norm(encoder.width, encoder.layer_norm_epsilon, rngs)

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns the last hidden states, [n, 1 + patches, width].

        Args:
          images: normalised, [n, side, side, 3].
          rngs: with it, dropout is on.

        Raises:
          ConfigError: patches do not fill them.
        """
        side, patch = images.shape[1], self.config.patch_size
        if side % patch:
            raise ConfigError(
                f"`data.image_size`: {side} pixels do not divide into patches of "
                f"{patch}; set it to {max(side // patch, 1) * patch}, for instance"
            )
        patches = self.patches(images)
        n, _, _, width = patches.shape
        patches = patches.reshape(n, (side // patch) ** 2, width)
        first = jnp.broadcast_to(self.first[...].astype(self.dtype), (n, 1, width))
        positions = resize_positions(self.positions[...], side // patch)
        x = jnp.concatenate([first, patches], axis=1) + positions.astype(self.dtype)
        first_key, *keys = dropout_keys(rngs, len(self.blocks) + 1)
        x = dropout(x, self.rate, first_key)
        everything = jnp.ones(x.shape[:2], bool)
        x = run_blocks(self.blocks, x, everything, keys, remat=self.remat)
        return self.final_norm(x.astype(jnp.float32)).astype(self.dtype)

    def features(
        self, images: jax.Array, pooling: str, *, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Returns the state of the first token, or the mean over patches, [n, width].

        Args:
          images: as above.
          pooling: cls or mean.
          rngs: with it, dropout is on.
        """
        states = self(images, rngs=rngs)
        return states[:, 0] if pooling == "cls" else jnp.mean(states[:, 1:], axis=1)

    @staticmethod
    def _block(encoder: VitConfig, config: ModelConfig, rngs: nnx.Rngs) -> Block:
        return Block(encoder, config, norm_first=True, rngs=rngs)


class Dinov2(Vit):
    """A ViT whose blocks scale what they change."""

    @staticmethod
    def _block(encoder: VitConfig, config: ModelConfig, rngs: nnx.Rngs) -> Block:
        return ScaledBlock(encoder, config, rngs=rngs)


def resize_positions(positions: jax.Array, side: int) -> jax.Array:
    """Returns positions of more or fewer patches than they were trained for.

    Those of patches are resampled by cubic convolution, the first one stays.

    Args:
      positions: float32 [1, 1 + patches, width].
      side: patches that lie side by side.
    """
    first, rest = positions[:, :1], positions[:, 1:]
    old = round(rest.shape[1] ** 0.5)
    if old == side:
        return positions
    weights = jnp.float32(_cubic_weights(old, side))
    grid = rest.reshape(old, old, -1)
    grid = jnp.einsum(
        "ai,bj,ijd->abd", weights, weights, grid, precision=jax.lax.Precision.HIGHEST
    )
    return jnp.concatenate([first, grid.reshape(1, side * side, -1)], axis=1)


def _cubic_weights(old: int, new: int) -> np.ndarray:
    """Returns what of each old place goes into each new one, [new, old].

    Keys's kernel with a = -0.75, at the centres of places; borders are repeated.
    """
    a = -0.75
    at = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        place = np.floor(at).astype(int) + tap
        t = np.abs(at - place)
        near = ((a + 2) * t - (a + 3)) * t**2 + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        weight = np.where(t <= 1, near, np.where(t < 2, far, 0))
        np.add.at(weights, (np.arange(new), np.clip(place, 0, old - 1)), weight)
    return weights


def _more(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the width inside the feed-forward network of a DINOv2."""
    return {
        "intermediate_size": int(content["hidden_size"] * content.get("mlp_ratio", 4))
    }


_SIZES = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "image_size": "image_size",
    "patch_size": "patch_size",
}
_MODULES = {
    "first": ("embeddings.cls_token",),
    "positions": ("embeddings.position_embeddings",),
    "patches": ("embeddings.patch_embeddings.projection",),
    "blocks.{}.query_key_value": side_by_side(
        "encoder.layer.{}.attention.attention", "query", "key", "value"
    ),
    "blocks.{}.output": ("encoder.layer.{}.attention.output.dense",),
    "final_norm": ("layernorm",),
}
_VIT = Family(
    reads="images",
    class_name="ViT",
    prefix="vit.",
    config=VitConfig,
    network=Vit,
    sizes=_SIZES | {"intermediate_size": "intermediate_size"},
    options={
        "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
        "activation": ("hidden_act", "gelu"),
    },
    fixed={"num_channels": (3, 3), "qkv_bias": (True, True)},
    modules=_MODULES
    | {
        "blocks.{}.attention_norm": ("encoder.layer.{}.layernorm_before",),
        "blocks.{}.feed_forward_norm": ("encoder.layer.{}.layernorm_after",),
        "blocks.{}.expand": ("encoder.layer.{}.intermediate.dense",),
        "blocks.{}.contract": ("encoder.layer.{}.output.dense",),
    },
)
_DINOV2 = dataclasses.replace(
    _VIT,
    class_name="Dinov2",
    prefix="dinov2.",
    network=Dinov2,
    sizes=_SIZES,
    options={**_VIT.options} | {"layer_norm_epsilon": ("layer_norm_eps", 1e-6)},
    fixed={**_VIT.fixed} | {"use_swiglu_ffn": (False, False)},
    more=_more,
    modules=_MODULES
    | {
        "blocks.{}.attention_norm": ("encoder.layer.{}.norm1",),
        "blocks.{}.attention_scale": ("encoder.layer.{}.layer_scale1.lambda1",),
        "blocks.{}.feed_forward_norm": ("encoder.layer.{}.norm2",),
        "blocks.{}.feed_forward_scale": ("encoder.layer.{}.layer_scale2.lambda1",),
        "blocks.{}.expand": ("encoder.layer.{}.mlp.fc1",),
        "blocks.{}.contract": ("encoder.layer.{}.mlp.fc2",),
    },
)
FAMILIES = {"vit": _VIT, "dinov2": _DINOV2}
