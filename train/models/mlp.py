"""A multi-layer perceptron for numeric features."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.models.head import Head, Logits


class Mlp(nnx.Module):
    """`depth` hidden layers of `width`; none: a linear classifier.

    Args:
      config: width, depth and dropout.
      spec: shape (features,).
      cosine: whether logits are cosines.
      rngs: for the initial parameters.
    """

    def __init__(
        self, config: ModelConfig, spec: InputSpec, *, cosine: bool, rngs: nnx.Rngs
    ):
        self.dtype = jnp.dtype(config.compute_dtype)
        widths = [spec.shape[0]] + [config.width] * config.depth
        self.layers = nnx.List(
            nnx.Linear(inputs, outputs, dtype=self.dtype, rngs=rngs)
            for inputs, outputs in itertools.pairwise(widths)
        )
        self.dropout = nnx.Dropout(config.dropout)
        self.head = Head(
            widths[-1], spec.num_classes, cosine=cosine, dtype=self.dtype, rngs=rngs
        )

    def __call__(self, features: jax.Array, *, rngs: nnx.Rngs | None = None) -> Logits:
        """Returns logits [n, classes] of features [n, f]; dropout with `rngs` only."""
        x = features.astype(self.dtype)
        for layer in self.layers:
            x = nnx.gelu(layer(x))
            x = self.dropout(x, deterministic=rngs is None, rngs=rngs)
        return self.head(x)
