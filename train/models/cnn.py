"""A small convolutional network for small images."""

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..data.examples import InputSpec
from ..data.images import normalise
from .convolution import Blocks


class Cnn(nnx.Module):
    """Blocks of two convolutions, each twice as wide as the last.

    Args:
      config: `depth` blocks, the first of `width` channels, and dropout.
      spec: shape (height, width, channels), mean and deviation of the channels.
      rngs: for the initial parameters.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        self.dtype = jnp.dtype(config.compute_dtype)
        self.mean, self.deviation = spec.mean, spec.deviation
        height, width, channels = spec.shape
        self.blocks = Blocks(config, channels, rngs=rngs)
        for _ in range(config.depth):
            height, width = (height + 1) // 2, (width + 1) // 2
        self.dropout = nnx.Dropout(config.dropout)
        self.out_features = height * width * self.blocks.channels

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns features [n, out_features] of images [n, height, width, channels].

        Dropout is on when `rngs` is given.
        """
        x = self.blocks(normalise(images, self.mean, self.deviation, self.dtype))
        x = x.reshape(x.shape[0], -1)
        return self.dropout(x, deterministic=rngs is None, rngs=rngs)
