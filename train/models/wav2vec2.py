"""wav2vec 2.0 and HuBERT: convolutions on a waveform, and a Transformer on theirs.

Baevski et al., arXiv 2006.11477; Hsu et al., arXiv 2106.07447.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..errors import ConfigError
from .family import Family, TransformerConfig, side_by_side, whole_numbers
from .layers import (
    ACTIVATIONS,
    INITIAL,
    Block,
    dropout,
    dropout_keys,
    linear,
    masked_mean,
    norm,
    run_blocks,
)
from .waveforms import real_samples

# Of the norms of convolutions.
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config(TransformerConfig):
    """The shape of a wav2vec 2.0.

    Attributes:
      channels: of each convolution.
      kernels: of each, in what it reads.
      strides: of each.
      convolution_bias: whether they have one.
      convolution_activation: a key of `ACTIVATIONS`.
      every_norm: each convolution has a norm over its channels, and padding is left
        out; else the first alone has one, over time, and padding is heard as silence.
      norm_first: of the blocks.
      position_kernel: frames that tell a frame its position.
      position_groups: of that convolution.
    """

    channels: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    convolution_bias: bool
    convolution_activation: str
    every_norm: bool
    norm_first: bool
    position_kernel: int
    position_groups: int

    def frames(self, samples: Any) -> Any:
        """Returns how many frames the convolutions make of so many samples."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


class FrameConvolution(nnx.Module):
    """One of the convolutions that make frames of samples.

    Args:
      encoder: the shape of the network.
      number: of the convolution.
      dtype: of the computation.
      rngs: for the initial parameters.
    """

    def __init__(
        self, encoder: Wav2Vec2Config, number: int, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        inputs = encoder.channels[number - 1] if number else 1
        outputs = encoder.channels[number]
        self.dtype, self.activation = dtype, encoder.convolution_activation
        self.convolution = nnx.Conv(
            inputs,
            outputs,
            (encoder.kernels[number],),
            strides=(encoder.strides[number],),
            padding="VALID",
            use_bias=encoder.convolution_bias,
            dtype=dtype,
            rngs=rngs,
        )
        # Over channels, or each channel over time.
        self.over_time = not encoder.every_norm
        has_norm = encoder.every_norm or not number
        self.norm = norm(outputs, _EPSILON, rngs) if has_norm else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns frames [n, length, channels] of such."""
        x = self.convolution(x)
        if self.norm is not None:
            x = x.astype(jnp.float32)
            x = _over_time(self.norm, x) if self.over_time else self.norm(x)
        return ACTIVATIONS[self.activation](x.astype(self.dtype))


class Positions(nnx.Module):
    """A grouped convolution over frames whose kernel has a direction and lengths.

    Args:
      encoder: the shape of the network.
      dtype: of the computation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: Wav2Vec2Config, dtype: jnp.dtype, rngs: nnx.Rngs):
        width, size = encoder.width, encoder.position_kernel
        self.dtype, self.groups = dtype, encoder.position_groups
        self.activation = encoder.convolution_activation
        # As files have them: [outputs, inputs of a group, size].
        shape = (width, width // self.groups, size)
        self.direction = nnx.Param(INITIAL(rngs.params(), shape, jnp.float32))
        self.scale = nnx.Param(jnp.ones((1, 1, size)))
        self.bias = nnx.Param(jnp.zeros(width))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns what is added to frames [n, length, width]."""
        direction = self.direction[...]
        size = direction.shape[-1]
        length = jnp.sqrt(jnp.sum(jnp.square(direction), axis=(0, 1), keepdims=True))
        kernel = (self.scale[...] * direction / length).transpose(2, 1, 0)
        # An even kernel has no middle: one place more stands before it.
        y = jax.lax.conv_general_dilated(
            x,
            kernel.astype(self.dtype),
            window_strides=(1,),
            padding=[(size // 2, (size - 1) // 2)],
            dimension_numbers=("NWC", "WIO", "NWC"),
            feature_group_count=self.groups,
        )
        bias = self.bias[...].astype(self.dtype)[None, None]
        return ACTIVATIONS[self.activation](y + bias)


class Wav2Vec2(nnx.Module):
    """Frames, their positions, and `depth` blocks.

    Args:
      encoder: the shape of the network.
      config: dropout, the type of the computation, and recomputation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: Wav2Vec2Config, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config, self.rate, self.remat = encoder, config.dropout, config.remat
        self.dtype = jnp.dtype(config.compute_dtype)
        epsilon = encoder.layer_norm_epsilon
        self.convolutions = nnx.List(
            FrameConvolution(encoder, number, self.dtype, rngs)
            for number in range(len(encoder.channels))
        )
        self.frame_norm = norm(encoder.channels[-1], epsilon, rngs)
        self.project = linear(encoder.channels[-1], encoder.width, self.dtype, rngs)
        self.positions = Positions(encoder, self.dtype, rngs)
        self.blocks = nnx.List(
            Block(encoder, config, norm_first=encoder.norm_first, rngs=rngs)
            for _ in range(encoder.depth)
        )
        # Where blocks have norms first, the last one follows them.
        whole = norm(encoder.width, epsilon, rngs)
        self.norm = None if encoder.norm_first else whole
        self.final_norm = whole if encoder.norm_first else None

    def __call__(
        self, waveforms: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Returns the last hidden states, [n, frames, width].

        Args:
          waveforms: float32 [n, samples], each of mean 0 and deviation 1, with zeros
            alone where it is over.
          rngs: with it, dropout is on.
        """
        x = waveforms[..., None].astype(self.dtype)
        for convolution in self.convolutions:
            x = convolution(x)
        x = self.frame_norm(x.astype(jnp.float32)).astype(self.dtype)
        n, frames, channels = x.shape
        first, second, *keys = dropout_keys(rngs, len(self.blocks) + 2)
        x = self.project(x.reshape(-1, channels)).reshape(n, frames, -1)
        x = dropout(x, self.rate, first)
        mask = self._mask(waveforms, frames)
        x = jnp.where(mask[..., None], x, 0)
        x += self.positions(x)
        if self.norm is not None:
            x = self.norm(x.astype(jnp.float32)).astype(self.dtype)
        x = dropout(x, self.rate, second)
        x = run_blocks(self.blocks, x, mask, keys, remat=self.remat)
        if self.final_norm is None:
            return x
        return self.final_norm(x.astype(jnp.float32)).astype(self.dtype)

    def features(
        self, waveforms: jax.Array, pooling: str, *, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Returns the mean of the last hidden states over frames, [n, width].

        Args:
          waveforms: as above.
          pooling: mean.
          rngs: with it, dropout is on.

        Raises:
          ConfigError: there is no other pooling.
        """
        if pooling != "mean":
            raise ConfigError(
                f"`model.pooling`: {pooling} is the state of a first token that stands "
                "for all, and recordings have none; set it to mean"
            )
        states = self(waveforms, rngs=rngs)
        return masked_mean(states, self._mask(waveforms, states.shape[1]))

    def _mask(self, waveforms: jax.Array, frames: int) -> jax.Array:
        """Returns which frames are heard, bool [n, frames]."""
        if not self.config.every_norm:
            return jnp.ones((waveforms.shape[0], frames), bool)
        heard = self.config.frames(real_samples(waveforms))
        return jnp.arange(frames)[None] < heard[:, None]


def _over_time(norm: nnx.LayerNorm, x: jax.Array) -> jax.Array:
    """Returns each channel of float32 [n, length, channels], normalised over time."""
    mean = jnp.mean(x, axis=1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=1, keepdims=True)
    assert norm.scale is not None, "these norms have both"
    assert norm.bias is not None, "these norms have both"
    scale, bias = norm.scale[...][None, None], norm.bias[...][None, None]
    return (x - mean) * jax.lax.rsqrt(variance + _EPSILON) * scale + bias


def _more(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the convolutions, and where norms are.

    Raises:
      ValueError: it has none of the known forms.
    """
    keys = {"channels": "conv_dim", "kernels": "conv_kernel", "strides": "conv_stride"}
    found: dict[str, Any] = {
        field: whole_numbers(content, key) for field, key in keys.items()
    }
    if len({len(sizes) for sizes in found.values()}) > 1:
        raise ValueError(f"{', '.join(keys.values())} are not of the same layers")
    kind = content.get("feat_extract_norm", "group")
    if kind not in ("group", "layer"):
        raise ValueError(f"`feat_extract_norm` is {kind!r}, not group or layer")
    activation = content.get("feat_extract_activation", "gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(f"no activation {activation!r}")
    return found | {"every_norm": kind == "layer", "convolution_activation": activation}


_WAV2VEC2 = Family(
    reads="audio",
    class_name="Wav2Vec2",
    prefix="wav2vec2.",
    config=Wav2Vec2Config,
    network=Wav2Vec2,
    sizes={
        "width": "hidden_size",
        "depth": "num_hidden_layers",
        "heads": "num_attention_heads",
        "intermediate_size": "intermediate_size",
        "position_kernel": "num_conv_pos_embeddings",
        "position_groups": "num_conv_pos_embedding_groups",
    },
    options={
        "layer_norm_epsilon": ("layer_norm_eps", 1e-5),
        "activation": ("hidden_act", "gelu"),
        "convolution_bias": ("conv_bias", False),
        "norm_first": ("do_stable_layer_norm", False),
    },
    fixed={
        "add_adapter": (False, False),
        "adapter_attn_dim": (None, None),
        "feat_proj_layer_norm": (True, True),
        "conv_pos_batch_norm": (False, False),
    },
    more=_more,
    modules={
        "convolutions.{}.convolution": ("feature_extractor.conv_layers.{}.conv",),
        "convolutions.{}.norm": ("feature_extractor.conv_layers.{}.layer_norm",),
        "frame_norm": ("feature_projection.layer_norm",),
        "project": ("feature_projection.projection",),
        "positions.scale": (
            "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
        ),
        "positions.direction": (
            "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
        ),
        "positions.bias": ("encoder.pos_conv_embed.conv.bias",),
        "norm": ("encoder.layer_norm",),
        "final_norm": ("encoder.layer_norm",),
        "blocks.{}.query_key_value": side_by_side(
            "encoder.layers.{}.attention", "q_proj", "k_proj", "v_proj"
        ),
        "blocks.{}.output": ("encoder.layers.{}.attention.out_proj",),
        "blocks.{}.attention_norm": ("encoder.layers.{}.layer_norm",),
        "blocks.{}.expand": ("encoder.layers.{}.feed_forward.intermediate_dense",),
        "blocks.{}.contract": ("encoder.layers.{}.feed_forward.output_dense",),
        "blocks.{}.feed_forward_norm": ("encoder.layers.{}.final_layer_norm",),
    },
)
FAMILIES = {
    "wav2vec2": _WAV2VEC2,
    "hubert": dataclasses.replace(_WAV2VEC2, class_name="Hubert", prefix="hubert."),
}
