"""A multi-layer perceptron for numeric features."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..data.examples import InputSpec


class Mlp(nnx.Module):
    """`depth` hidden layers of `width`; none: the inputs as they are.

    Args:
      config: width, depth and dropout.
      spec: shape (features,).
      rngs: for the initial parameters.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        self.dtype = jnp.dtype(config.compute_dtype)
        widths = [spec.shape[0]] + [config.width] * config.depth
        self.layers = nnx.List(
            nnx.Linear(inputs, outputs, dtype=self.dtype, rngs=rngs)
            for inputs, outputs in itertools.pairwise(widths)
        )
        self.dropout = nnx.Dropout(config.dropout)
        self.out_features = widths[-1]

    def __call__(self, inputs: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns features [n, width] of inputs [n, f]; dropout with `rngs` only."""
        x = inputs.astype(self.dtype)
        for layer in self.layers:
            x = nnx.gelu(layer(x))
            x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        return x
