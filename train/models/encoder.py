"""A pretrained encoder, and how its hidden states become features."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..data.examples import InputSpec
from ..data.images import normalise
from ..errors import ConfigError
from .huggingface import FAMILIES
from .layers import dropout, masked_mean
from .waveforms import normalise_waveforms


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
        network = FAMILIES[spec.encoder.model_type].network
        self.encoder = network(spec.encoder, config, rngs=rngs)
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
            x = masked_mean(x, tokens >= 0)
        return dropout(x, self.rate, None if rngs is None else rngs.dropout())


class _Whole(nnx.Module):
    """An encoder of what is of one size, and its features pooled.

    Args:
      config: dropout, pooling, the type of the computation, and recomputation.
      spec: `encoder`, the encoder's shape.
      rngs: for the initial parameters.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        self.pooling, self.rate = config.pooling, config.dropout
        self.dtype = jnp.dtype(config.compute_dtype)
        network: Any = FAMILIES[spec.encoder.model_type].network
        self.encoder = network(spec.encoder, config, rngs=rngs)
        self.out_features = spec.encoder.width

    def _features(self, inputs: jax.Array, rngs: nnx.Rngs | None) -> jax.Array:
        x = self.encoder.features(inputs, self.pooling, rngs=rngs)
        return dropout(x, self.rate, None if rngs is None else rngs.dropout())


class ImageEncoder(_Whole):
    """An encoder of images, and their features; `spec` has mean and deviation, too."""

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        super().__init__(config, spec, rngs=rngs)
        self.mean, self.deviation = spec.mean, spec.deviation

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns features [n, width] of images [n, height, width, 3].

        Dropout is on when `rngs` is given.
        """
        images = normalise(images, self.mean, self.deviation, self.dtype)
        return self._features(images, rngs)


class AudioEncoder(_Whole):
    """An encoder of waveforms, and their features."""

    def __call__(
        self, waveforms: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Returns features [n, width] of waveforms [n, samples].

        Dropout is on when `rngs` is given.
        """
        return self._features(normalise_waveforms(waveforms), rngs)
