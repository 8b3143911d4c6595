"""ModernBERT: rotated positions, attention near by and afar, gated feed-forward.

Warner et al., arXiv 2412.13663.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..config import ModelConfig
from .family import Family, TextEncoderConfig
from .layers import (
    ACTIVATIONS,
    Block,
    dropout,
    dropout_keys,
    embed,
    linear,
    norm,
    run_blocks,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModernBertConfig(TextEncoderConfig):
    """The shape of a ModernBERT.

    Attributes:
      far: of each block, whether a token attends to all.
      reach: how far a token attends to in the other blocks, to each side.
      far_base: of the wavelengths of positions where attention is to all.
      near_base: of those where it is not.
      attention_bias: whether attention's products have one.
      feed_forward_bias: whether the feed-forward network's have one.
      norm_bias: whether norms have one.
    """

    far: tuple[bool, ...]
    reach: int
    far_base: float
    near_base: float
    attention_bias: bool
    feed_forward_bias: bool
    norm_bias: bool


class ModernBertBlock(Block):
    """A block with norms first, the gate, and positions as rotations.

    Args:
      encoder: the shape of the network.
      config: dropout and the type of the computation.
      number: of the block; the first has no norm before its attention.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        encoder: ModernBertConfig,
        config: ModelConfig,
        *,
        number: int,
        rngs: nnx.Rngs,
    ):
        super().__init__(encoder, config, norm_first=True, rngs=rngs)
        width, hidden = encoder.width, encoder.intermediate_size
        epsilon = encoder.layer_norm_epsilon
        self.reach = None if encoder.far[number] else encoder.reach
        self.base = encoder.far_base if encoder.far[number] else encoder.near_base
        bias = encoder.attention_bias
        self.query_key_value = linear(width, 3 * width, self.dtype, rngs, bias=bias)
        self.output = linear(width, width, self.dtype, rngs, bias=bias)
        bias = encoder.feed_forward_bias
        self.expand = linear(width, 2 * hidden, self.dtype, rngs, bias=bias)
        self.contract = linear(hidden, width, self.dtype, rngs, bias=bias)
        self.feed_forward_norm = norm(width, epsilon, rngs, bias=encoder.norm_bias)
        # The embeddings that the first block reads are normalised already.
        self.attention_norm = None
        if number:
            self.attention_norm = norm(width, epsilon, rngs, bias=encoder.norm_bias)

    def _scores(
        self, query: jax.Array, keys: jax.Array, *context: jax.Array
    ) -> jax.Array:
        """Returns the scores of what is rotated by its position; see `Block`."""
        query, keys = (rotate(part, self.base) for part in (query, keys))
        return super()._scores(query, keys, *context)

    def _visible(self, mask: jax.Array) -> jax.Array:
        """Returns what is seen from where, [n, 1, 1 or length, length]."""
        if self.reach is None:
            return super()._visible(mask)
        places = np.arange(mask.shape[1])
        near = np.abs(places[:, None] - places[None, :]) <= self.reach
        return mask[:, None, None, :] & near[None, None]

    def _feed(self, x: jax.Array) -> jax.Array:
        """Returns what the feed-forward network makes of x [n * length, width]."""
        hidden, gate = jnp.split(self.expand(x), 2, axis=-1)
        return self.contract(ACTIVATIONS[self.activation](hidden) * gate)


class ModernBert(nnx.Module):
    """Embeddings of tokens, `depth` blocks, and a last norm.

    Args:
      encoder: the shape of the network.
      config: dropout, the type of the computation, and recomputation.
      rngs: for the initial parameters.
    """

    def __init__(
        self, encoder: ModernBertConfig, config: ModelConfig, *, rngs: nnx.Rngs
    ):
        self.config, self.rate, self.remat = encoder, config.dropout, config.remat
        self.dtype = jnp.dtype(config.compute_dtype)
        width, epsilon = encoder.width, encoder.layer_norm_epsilon
        self.words = embed(encoder.vocabulary_size, width, rngs)
        self.norm = norm(width, epsilon, rngs, bias=encoder.norm_bias)
        self.blocks = nnx.List(
            ModernBertBlock(encoder, config, number=number, rngs=rngs)
            for number in range(encoder.depth)
        )
        self.final_norm = norm(width, epsilon, rngs, bias=encoder.norm_bias)

    def __call__(self, tokens: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns the last hidden states, [n, length, width].

        Args:
          tokens: int32 [n, length], negative where there is no token.
          rngs: with it, dropout is on.
        """
        first, *keys = dropout_keys(rngs, len(self.blocks) + 1)
        mask = tokens >= 0
        ids = jnp.where(mask, tokens, jnp.int32(self.config.pad_token_id))
        # The rows, not the table, are cast to the type of the computation.
        x = self.norm(jnp.take(self.words.embedding[...], ids, axis=0, mode="clip"))
        x = dropout(x.astype(self.dtype), self.rate, first)
        x = run_blocks(self.blocks, x, mask, keys, remat=self.remat)
        return self.final_norm(x.astype(jnp.float32)).astype(self.dtype)


def rotate(x: jax.Array, base: float) -> jax.Array:
    r"""Returns x with each pair of entries turned by its position (RoPE).

    .. math::
      x'_i = x_i \cos p\theta_i - x_{i+d/2} \sin p\theta_i, \qquad
      x'_{i+d/2} = x_{i+d/2} \cos p\theta_i + x_i \sin p\theta_i

    at position p, with :math:`\theta_i = b^{-2i/d}` (Su et al., arXiv 2104.09864).

    Args:
      x: [n, length, heads, d].
      base: b.
    """
    length, size = x.shape[1], x.shape[-1]
    speeds = base ** (-np.arange(0, size, 2) / size)
    angles = np.arange(length)[:, None] * speeds
    cosine, sine = (
        jnp.float32(wave(angles))[None, :, None] for wave in (np.cos, np.sin)
    )
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = first * cosine - second * sine, second * cosine + first * sine
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def _more(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns which blocks attend to all, and the wavelengths of positions.

    Raises:
      ValueError: positions are scaled in a way that is not known, or there are fewer
        or more kinds of blocks than blocks.
    """
    kinds, depth = content.get("layer_types"), content["num_hidden_layers"]
    if kinds is None:
        every = content.get("global_attn_every_n_layers", 3)
        kinds = ["full_attention" if k % every == 0 else "" for k in range(depth)]
    if len(kinds) != depth:
        raise ValueError(f"`layer_types` has {len(kinds)} kinds for {depth} layers")
    ropes = content.get("rope_parameters") or {}
    parts = [ropes.get(kind) or {} for kind in ("full_attention", "sliding_attention")]
    scaled = [part.get("rope_type", "default") != "default" for part in parts]
    if any(scaled) or content.get("rope_scaling"):
        raise ValueError("positions that are scaled (`rope_scaling`) are not known")
    far_base = parts[0].get("rope_theta", content.get("global_rope_theta", 160000.0))
    near_base = parts[1].get("rope_theta", content.get("local_rope_theta", 10000.0))
    return {
        "far": tuple(kind == "full_attention" for kind in kinds),
        "reach": content.get("local_attention", 128) // 2,
        "far_base": float(far_base),
        "near_base": float(far_base if near_base is None else near_base),
    }


FAMILIES = {
    "modernbert": Family(
        reads="text",
        class_name="ModernBert",
        prefix="model.",
        config=ModernBertConfig,
        network=ModernBert,
        sizes={
            "vocabulary_size": "vocab_size",
            "width": "hidden_size",
            "depth": "num_hidden_layers",
            "heads": "num_attention_heads",
            "intermediate_size": "intermediate_size",
            "position_table_size": "max_position_embeddings",
        },
        options={
            "layer_norm_epsilon": ("norm_eps", 1e-5),
            "activation": ("hidden_activation", "gelu"),
            "pad_token_id": ("pad_token_id", 50283),
            "attention_bias": ("attention_bias", False),
            "feed_forward_bias": ("mlp_bias", False),
            "norm_bias": ("norm_bias", False),
        },
        more=_more,
        modules={
            "words": ("embeddings.tok_embeddings",),
            "norm": ("embeddings.norm",),
            "blocks.{}.attention_norm": ("layers.{}.attn_norm",),
            "blocks.{}.query_key_value": ("layers.{}.attn.Wqkv",),
            "blocks.{}.output": ("layers.{}.attn.Wo",),
            "blocks.{}.feed_forward_norm": ("layers.{}.mlp_norm",),
            "blocks.{}.expand": ("layers.{}.mlp.Wi",),
            "blocks.{}.contract": ("layers.{}.mlp.Wo",),
            "final_norm": ("final_norm",),
        },
    )
}
