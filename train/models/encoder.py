"""A pretrained BERT-family encoder, and how its hidden states become features."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..data.examples import InputSpec
from ..errors import ConfigError

# By erf where jax.nn has erfc: a CPU takes half the time, and float32 is as near.
ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: x * (0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5))),
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
}
_LARGE_NEGATIVE = -1e30
_INITIAL = nnx.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of an encoder, as its folder's config.json gives it.

    Attributes:
      model_type: bert, roberta, xlm-roberta or distilbert.
      vocabulary_size: rows of the table of tokens.
      width: of the hidden states.
      depth: number of blocks.
      heads: of each block's attention.
      intermediate_size: width inside the feed-forward network.
      position_table_size: rows of the table of positions.
      position_offset: the row of the first token's position.
      type_vocabulary_size: rows of the table of token types; 0: it has none.
      layer_norm_epsilon: added to the variance.
      activation: a key of `ACTIVATIONS`.
      pad_token_id: the token that stands where there is none.
      source: the text of config.json, which an export writes again.
    """

    model_type: str
    vocabulary_size: int
    width: int
    depth: int
    heads: int
    intermediate_size: int
    position_table_size: int
    position_offset: int
    type_vocabulary_size: int
    layer_norm_epsilon: float
    activation: str
    pad_token_id: int
    source: str

    @property
    def max_positions(self) -> int:
        """The longest sequence that has a position for each token."""
        return self.position_table_size - self.position_offset


class Encoder(nnx.Module):
    """Embeddings and `depth` post-norm Transformer blocks, as in BERT.

    Args:
      encoder: the shape of the network.
      config: dropout, the type of the computation, and recomputation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: EncoderConfig, config: ModelConfig, *, rngs: nnx.Rngs):
        self.config, self.rate, self.remat = encoder, config.dropout, config.remat
        self.dtype = jnp.dtype(config.compute_dtype)
        self.words = _embed(encoder.vocabulary_size, encoder.width, rngs)
        self.positions = _embed(encoder.position_table_size, encoder.width, rngs)
        if encoder.type_vocabulary_size:
            self.types = _embed(encoder.type_vocabulary_size, encoder.width, rngs)
        self.norm = _norm(encoder, rngs)
        self.blocks = nnx.List(
            Block(encoder, config, rngs=rngs) for _ in range(encoder.depth)
        )

    def __call__(self, tokens: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns the last hidden states.

        Args:
          tokens: int32 [n, length], negative where there is no token.
          rngs: with it, dropout is on.

        Returns:
          [n, length, width] in the type of the computation.

        Raises:
          ConfigError: the sequences are longer than the table of positions.
        """
        # One key a block, and one more for the embeddings.
        count = len(self.blocks) + 1
        keys = (
            [None] * count if rngs is None else jax.random.split(rngs.dropout(), count)
        )
        mask = tokens >= 0
        x = dropout(self._embeddings(tokens, mask), self.rate, keys[0])
        # Rows of tokens: products of matrices are faster than those of batches.
        x = x.reshape(-1, x.shape[-1])
        run = nnx.remat(Block.__call__) if self.remat else Block.__call__
        for block, key in zip(self.blocks, keys[1:], strict=True):
            x = run(block, x, mask, key)
        return x.reshape(*tokens.shape, -1)

    def _embeddings(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Returns the normalised sum of the embeddings, [n, length, width]."""
        length, first = tokens.shape[1], self.config.position_offset
        if length > self.config.max_positions:
            raise ConfigError(
                f"`data.max_length`: {length} tokens, but the encoder has positions "
                f"for {self.config.max_positions}; lower it to that"
            )
        ids = jnp.where(mask, tokens, jnp.int32(self.config.pad_token_id))
        # The rows, not the table, are cast to the type of the computation.
        x = jnp.take(self.words.embedding[...], ids, axis=0, mode="clip")
        x += self.positions.embedding[first : first + length][None]
        if self.config.type_vocabulary_size:
            x += self.types.embedding[0][None, None]
        return self.norm(x).astype(self.dtype)


class Block(nnx.Module):
    """Self-attention, then a feed-forward network, each followed by its norm.

    Args:
      encoder: the shape of the network.
      config: dropout and the type of the computation.
      rngs: for the initial parameters.
    """

    def __init__(self, encoder: EncoderConfig, config: ModelConfig, *, rngs: nnx.Rngs):
        width, hidden = encoder.width, encoder.intermediate_size
        self.rate, self.dtype = config.dropout, jnp.dtype(config.compute_dtype)
        self.heads, self.activation = encoder.heads, encoder.activation
        # One product in place of three: a small matrix keeps few cores busy.
        self.query_key_value = _linear(width, 3 * width, self.dtype, rngs)
        self.output = _linear(width, width, self.dtype, rngs)
        self.attention_norm = _norm(encoder, rngs)
        self.expand = _linear(width, hidden, self.dtype, rngs)
        self.contract = _linear(hidden, width, self.dtype, rngs)
        self.feed_forward_norm = _norm(encoder, rngs)

    def __call__(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """Returns x after the block.

        Args:
          x: [n * length, width].
          mask: bool [n, length], the real tokens.
          key: of dropout; None: dropout is off.
        """
        first, second, third = _split(key, 3)
        attended = self.output(self._attend(x, mask, first))
        x = self._add(self.attention_norm, x, dropout(attended, self.rate, second))
        hidden = ACTIVATIONS[self.activation](self.expand(x))
        fed = self.contract(hidden)
        return self._add(self.feed_forward_norm, x, dropout(fed, self.rate, third))

    def _attend(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """Returns each head's mean of the values, side by side, [n * length, width]."""
        shape = (*mask.shape, self.heads, x.shape[-1] // self.heads)
        parts = jnp.split(self.query_key_value(x), 3, axis=-1)
        query, keys, values = (part.reshape(shape) for part in parts)
        query *= 1 / math.sqrt(shape[-1])
        scores = jnp.einsum(
            "nqhd,nkhd->nhqk", query, keys, preferred_element_type=jnp.float32
        )
        scores = jnp.where(mask[:, None, None, :], scores, _LARGE_NEGATIVE)
        shares = dropout(jax.nn.softmax(scores), self.rate, key).astype(self.dtype)
        return jnp.einsum("nhqk,nkhd->nqhd", shares, values).reshape(x.shape)

    def _add(self, norm: nnx.LayerNorm, x: jax.Array, change: jax.Array) -> jax.Array:
        return norm((x + change).astype(jnp.float32)).astype(self.dtype)


class PooledEncoder(nnx.Module):
    """An encoder, and its hidden states pooled or one by one.

    Args:
      config: dropout, pooling, the type of the computation, and recomputation.
      spec: `encoder`, the encoder's shape, and whether features are one row a token.
      rngs: for the initial parameters.

    Raises:
      ConfigError: the tokenizer has more tokens than the encoder.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        if spec.vocabulary_size > spec.encoder.vocabulary_size:
            raise ConfigError(
                f"`model.pretrained`: its tokenizer has {spec.vocabulary_size} tokens, "
                f"its network {spec.encoder.vocabulary_size}; name a folder whose "
                "tokenizer.json and model.safetensors belong together"
            )
        self.pooling = "" if spec.per_token else config.pooling
        self.rate = config.dropout
        self.encoder = Encoder(spec.encoder, config, rngs=rngs)
        self.out_features = spec.encoder.width

    def __call__(self, tokens: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns features [n, width], or [n, length, width] for each token.

        Args:
          tokens: int32 [n, length], negative where there is no token.
          rngs: with it, dropout is on.
        """
        x = self.encoder(tokens, rngs=rngs)
        if self.pooling == "cls":
            x = x[:, 0]
        elif self.pooling == "mean":
            x = _masked_mean(x, tokens >= 0)
        return dropout(x, self.rate, None if rngs is None else rngs.dropout())


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes a share `rate` of x at random and scales the rest up.

    A random word serves two entries, so the rate is rounded to 1 / 65536: drawing a
    word for each entry would cost a CPU a tenth of a training step.

    Args:
      x: [..., size].
      rate: in [0, 1).
      key: of the draw; None: x is returned as it is.
    """
    threshold = round(rate * 2**16)
    if key is None or not threshold:
        return x
    # Words are drawn along the last axis alone: other axes may lie on many devices.
    words = jax.random.bits(key, (*x.shape[:-1], -(-x.shape[-1] // 2)), jnp.uint32)
    halves = jax.lax.bitcast_convert_type(words, jnp.uint16)
    halves = halves.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
    return jnp.where(halves >= threshold, x * (2**16 / (2**16 - threshold)), 0)


def _split(key: jax.Array | None, count: int) -> Sequence[jax.Array | None]:
    return [None] * count if key is None else list(jax.random.split(key, count))


def _masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean over real tokens; of a text without any, zeros."""
    total = jnp.sum(jnp.where(mask[..., None], x, 0), axis=1, dtype=jnp.float32)
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    return (total / count.astype(jnp.float32)).astype(x.dtype)


def _embed(rows: int, width: int, rngs: nnx.Rngs) -> nnx.Embed:
    return nnx.Embed(rows, width, embedding_init=_INITIAL, rngs=rngs)


def _linear(inputs: int, outputs: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.Linear:
    on_cpu = jax.default_backend() == "cpu"
    return nnx.Linear(
        inputs,
        outputs,
        dtype=dtype,
        kernel_init=_INITIAL,
        dot_general=_dot_general if on_cpu else jax.lax.dot_general,
        rngs=rngs,
    )


def _dot_general(x: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """Stands in for `jax.lax.dot_general` in `nnx.Linear`."""
    return _product(x, kernel)


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns x [n, inputs] times kernel [inputs, outputs].

    The gradient is the usual one. But XLA's product on a CPU reads a transposed left
    side at two thirds of its speed, so that of the kernel's gradient is turned first.
    """
    return x @ kernel


def _product_forward(x: jax.Array, kernel: jax.Array) -> Any:
    return x @ kernel, (x, kernel)


def _product_backward(kept: Any, cotangent: jax.Array) -> Any:
    x, kernel = kept
    # Without the barrier XLA would fold the transposition into the product again.
    return cotangent @ kernel.T, jax.lax.optimization_barrier(x.T) @ cotangent


_product.defvjp(_product_forward, _product_backward)


def _norm(encoder: EncoderConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(
        encoder.width,
        epsilon=encoder.layer_norm_epsilon,
        # The mean square less the squared mean cancels where the mean is large.
        use_fast_variance=False,
        rngs=rngs,
    )
