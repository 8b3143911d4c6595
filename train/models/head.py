"""The output layer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx


class LinearLogits(NamedTuple):
    """Logits that are not computed yet: features @ kernel + bias."""

    features: Any  # [..., width]
    kernel: Any  # [width, num_classes]
    bias: Any  # [num_classes]


Logits = jax.Array | LinearLogits
"""What a network returns: logits, or how to make them."""


class Head(nnx.Module):
    """Features [..., width] to logits [..., num_classes].

    With `blocked` set it returns `LinearLogits`, for a loss that never holds all of
    them; cosines are none.

    Args:
      width: of the features.
      num_classes: of the logits.
      cosine: logits are the cosines between the features and each class's vector,
        which is what additive-margin losses want.
      dtype: of the computation.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        cosine: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.cosine, self.blocked = cosine, False
        self.linear = nnx.Linear(
            width, num_classes, use_bias=not cosine, dtype=dtype, rngs=rngs
        )

    def __call__(self, features: jax.Array) -> Logits:
        """Returns the logits."""
        if self.blocked:
            linear, dtype = self.linear, self.linear.dtype
            kernel = linear.kernel[...]
            bias = None if linear.bias is None else linear.bias[...]
            return LinearLogits(features.astype(dtype), kernel.astype(dtype), bias)
        if not self.cosine:
            return self.linear(features)
        kernel = _normalised(self.linear.kernel[...], axis=0).astype(features.dtype)
        return _normalised(features, axis=-1) @ kernel


def _normalised(x: jax.Array, axis: int) -> jax.Array:
    # rsqrt of a sum that cannot be 0 keeps the gradient of a zero vector finite.
    square = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(square + 1e-12).astype(x.dtype)
