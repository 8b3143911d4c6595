"""A small Transformer encoder for text, trained from scratch."""

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..data.examples import NO_TOKEN, InputSpec
from ..errors import ConfigError


class Block(nnx.Module):
    """Self-attention, then a feed-forward network, each behind its norm.

    Where `causal`, a token attends to itself and to those before it alone.
    """

    def __init__(self, config: ModelConfig, *, causal: bool, rngs: nnx.Rngs):
        width, dtype = config.width, jnp.dtype(config.compute_dtype)
        if width % config.heads:
            raise ConfigError(
                f"`model.width`: {width} does not divide into {config.heads} heads; "
                "make it a multiple of `model.heads`"
            )
        self.heads, self.causal = config.heads, causal
        self.attention_norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.query_key_value = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.feed_forward_norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.expand = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.contract = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout)

    def __call__(
        self, x: jax.Array, mask: jax.Array, *, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """Returns x [n, length, width] after the block; mask [n, length]."""
        attended = self._attend(self.attention_norm(x), mask)
        x = x + self.dropout(attended, deterministic=rngs is None, rngs=rngs)
        hidden = nnx.gelu(self.expand(self.feed_forward_norm(x)))
        fed = self.contract(hidden)
        return x + self.dropout(fed, deterministic=rngs is None, rngs=rngs)

    def _attend(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        n, length, width = x.shape
        parts = self.query_key_value(x).reshape(n, length, 3, self.heads, -1)
        query, key, value = parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]
        attended = jax.nn.dot_product_attention(
            query, key, value, mask=mask[:, None, None, :], is_causal=self.causal
        )
        return self.output(attended.reshape(n, length, width))


class Transformer(nnx.Module):
    """Token and position embeddings, `depth` blocks, the mean over real tokens.

    Where the task wants an answer at each token, there is no mean; where it is the next
    token, attention looks back alone.

    Args:
      config: `depth` blocks of `width` with `heads`, and dropout.
      spec: shape (length,) and the vocabulary's size.
      rngs: for the initial parameters.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        (length,), width = spec.shape, config.width
        dtype = jnp.dtype(config.compute_dtype)
        self.per_token = spec.per_token
        self.tokens = nnx.Embed(spec.vocabulary_size, width, dtype=dtype, rngs=rngs)
        self.positions = nnx.Embed(length, width, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List(
            Block(config, causal=spec.causal, rngs=rngs) for _ in range(config.depth)
        )
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout)
        self.out_features = width

    def __call__(self, tokens: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns features [n, width] of token ids [n, length].

        Per token they are [n, length, width]. Padding takes no part in attention or
        in the mean. Dropout is on when `rngs` is given.
        """
        mask = tokens != NO_TOKEN
        x = self.tokens(jnp.maximum(tokens, 0))
        x = x + self.positions(jnp.arange(tokens.shape[1]))[None]
        x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        for block in self.blocks:
            x = block(x, mask, rngs=rngs)
        x = self.norm(x)
        x = x if self.per_token else masked_mean(x, mask)
        return self.dropout(x, deterministic=rngs is None, rngs=rngs)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean over real tokens; of a text without any, zeros."""
    total = jnp.sum(x * mask[..., None].astype(x.dtype), axis=1)
    count = jnp.sum(mask, axis=1, keepdims=True)
    return total / jnp.maximum(count, 1).astype(x.dtype)
