"""What pretrained encoders are made of: blocks, dropout, products, norms."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from .family import TransformerConfig

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
INITIAL = nnx.initializers.normal(0.02)


class Block(nnx.Module):
    """Self-attention, then a feed-forward network, each with a norm and a way around.

    Families differ in `_attend`, `_scores`, `_visible` and `_feed`.

    Args:
      encoder: the shape of the network.
      config: dropout and the type of the computation.
      norm_first: norms stand before both, and not after the sum.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        encoder: TransformerConfig,
        config: ModelConfig,
        *,
        norm_first: bool = False,
        rngs: nnx.Rngs,
    ):
        width, hidden = encoder.width, encoder.intermediate_size
        self.rate, self.dtype = config.dropout, jnp.dtype(config.compute_dtype)
        self.heads, self.activation = encoder.heads, encoder.activation
        self.norm_first = norm_first
        # One product in place of three: a small matrix keeps few cores busy.
        self.query_key_value = linear(width, 3 * width, self.dtype, rngs)
        self.output = linear(width, width, self.dtype, rngs)
        self.attention_norm: nnx.LayerNorm | None = norm(
            width, encoder.layer_norm_epsilon, rngs
        )
        self.expand = linear(width, hidden, self.dtype, rngs)
        self.contract = linear(hidden, width, self.dtype, rngs)
        self.feed_forward_norm = norm(width, encoder.layer_norm_epsilon, rngs)

    def __call__(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None, *context: jax.Array
    ) -> jax.Array:
        """Returns x after the block.

        Args:
          x: [n * length, width].
          mask: bool [n, length], the positions that are attended to.
          key: of dropout; None: dropout is off.
          *context: what `_scores` takes besides.
        """
        first, second, third = split_key(key, 3)
        if self.norm_first:
            before = self._normed(self.attention_norm, x)
            attended = self._attend(before, mask, first, *context)
            x += dropout(attended, self.rate, second)
            fed = self._feed(self._normed(self.feed_forward_norm, x))
            return x + dropout(fed, self.rate, third)
        attended = self._attend(x, mask, first, *context)
        x += dropout(attended, self.rate, second)
        x = self._normed(self.attention_norm, x)
        x += dropout(self._feed(x), self.rate, third)
        return self._normed(self.feed_forward_norm, x)

    def _attend(
        self, x: jax.Array, mask: jax.Array, key: jax.Array | None, *context: jax.Array
    ) -> jax.Array:
        """Returns what attention makes of x [n * length, width]."""
        shape = (*mask.shape, self.heads, x.shape[-1] // self.heads)
        parts = jnp.split(self.query_key_value(x), 3, axis=-1)
        query, keys, values = (part.reshape(shape) for part in parts)
        scores = self._scores(query, keys, *context)
        scores = jnp.where(self._visible(mask), scores, _LARGE_NEGATIVE)
        shares = dropout(jax.nn.softmax(scores), self.rate, key).astype(self.dtype)
        means = jnp.einsum("nhqk,nkhd->nqhd", shares, values)
        return self.output(means.reshape(x.shape))

    def _scores(
        self, query: jax.Array, keys: jax.Array, *context: jax.Array
    ) -> jax.Array:
        """Returns float32 [n, heads, length, length] of [n, length, heads, size]."""
        del context
        query *= 1 / math.sqrt(query.shape[-1])
        return jnp.einsum(
            "nqhd,nkhd->nhqk", query, keys, preferred_element_type=jnp.float32
        )

    def _visible(self, mask: jax.Array) -> jax.Array:
        """Returns what is seen from where, [n, 1, 1 or length, length]."""
        return mask[:, None, None, :]

    def _feed(self, x: jax.Array) -> jax.Array:
        """Returns what the feed-forward network makes of x [n * length, width]."""
        return self.contract(ACTIVATIONS[self.activation](self.expand(x)))

    def _normed(self, norm: nnx.LayerNorm | None, x: jax.Array) -> jax.Array:
        return x if norm is None else norm(x.astype(jnp.float32)).astype(self.dtype)


def run_blocks(
    blocks: Sequence[Block],
    x: jax.Array,
    mask: jax.Array,
    keys: Sequence[jax.Array | None],
    *context: jax.Array,
    remat: bool,
) -> jax.Array:
    """Returns x [n, length, width] after all blocks.

    Args:
      blocks: one after the other.
      x: [n, length, width], of the type of the computation.
      mask: bool [n, length].
      keys: of dropout, one a block.
      *context: what blocks take besides.
      remat: recompute a block's activations in the backward pass.
    """
    # Rows of tokens: products of matrices are faster than those of batches.
    rows = x.reshape(-1, x.shape[-1])
    for block, key in zip(blocks, keys, strict=True):
        call = type(block).__call__
        rows = (nnx.remat(call) if remat else call)(block, rows, mask, key, *context)
    return rows.reshape(x.shape)


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


def split_key(key: jax.Array | None, count: int) -> Sequence[jax.Array | None]:
    """Returns so many keys of one; of none, none each."""
    return [None] * count if key is None else list(jax.random.split(key, count))


def dropout_keys(rngs: nnx.Rngs | None, count: int) -> Sequence[jax.Array | None]:
    """Returns so many keys of dropout; none each where it is off."""
    return split_key(None if rngs is None else rngs.dropout(), count)


def masked_mean(x: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean over real positions; where there is none, zeros.

    Args:
      x: [n, length, width].
      mask: bool [n, length].
    """
    total = jnp.sum(jnp.where(mask[..., None], x, 0), axis=1, dtype=jnp.float32)
    count = jnp.maximum(jnp.sum(mask, axis=1, keepdims=True), 1)
    return (total / count.astype(jnp.float32)).astype(x.dtype)


def embed(rows: int, width: int, rngs: nnx.Rngs) -> nnx.Embed:
    """Returns a table of vectors."""
    return nnx.Embed(rows, width, embedding_init=INITIAL, rngs=rngs)


def linear(
    inputs: int, outputs: int, dtype: jnp.dtype, rngs: nnx.Rngs, *, bias: bool = True
) -> nnx.Linear:
    """Returns a layer that takes rows [n, inputs] to [n, outputs]."""
    on_cpu = jax.default_backend() == "cpu"
    return nnx.Linear(
        inputs,
        outputs,
        use_bias=bias,
        dtype=dtype,
        kernel_init=INITIAL,
        dot_general=_dot_general if on_cpu else jax.lax.dot_general,
        rngs=rngs,
    )


def norm(
    width: int, epsilon: float, rngs: nnx.Rngs, *, bias: bool = True
) -> nnx.LayerNorm:
    """Returns a norm over the last axis; its inputs are float32."""
    return nnx.LayerNorm(
        width,
        epsilon=epsilon,
        use_bias=bias,
        # The mean square less the squared mean cancels where the mean is large.
        use_fast_variance=False,
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
