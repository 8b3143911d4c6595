"""ResNet-18 for images."""

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig
from ..data.examples import InputSpec
from ..data.images import normalise
from .convolution import Convolution

_WIDTHS = (64, 128, 256, 512)
_BLOCKS_OF_A_WIDTH = 2
# Images with a side up to this keep their resolution in the first layer.
_SMALL = 64


class BasicBlock(nnx.Module):
    """Two convolutions of 3 x 3, and the input added to what they give.

    Args:
      inputs: channels that come.
      outputs: channels that go.
      stride: of the first convolution.
      dtype: of the computation.
      rngs: for the initial parameters.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        stride: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.first = Convolution(inputs, outputs, stride=stride, dtype=dtype, rngs=rngs)
        # A block starts as the identity, which makes the first steps safe.
        zeros = nnx.initializers.zeros
        self.second = Convolution(
            outputs, outputs, scale_init=zeros, dtype=dtype, rngs=rngs
        )
        self.same_shape = stride == 1 and inputs == outputs
        if not self.same_shape:
            self.shortcut = Convolution(
                inputs, outputs, kernel=1, stride=stride, dtype=dtype, rngs=rngs
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [n, ceil(height / stride), ceil(width / stride), outputs]."""
        shortcut = x if self.same_shape else self.shortcut(x)
        return nnx.relu(shortcut + self.second(nnx.relu(self.first(x))))


class ResNet18(nnx.Module):
    """ResNet-18 (He et al., 2016) with GroupNorm in the place of BatchNorm.

    Its widths are its own, 64 to 512, and its depth is 18: of the configuration it
    reads `dropout`, `compute_dtype` and `remat`. Images of at most 64 pixels a side
    get a first convolution of 3 x 3 at full resolution, as is usual for CIFAR; larger
    ones the original's 7 x 7 with stride 2, and pooling.

    Args:
      config: of the network.
      spec: shape (height, width, channels), mean and deviation of the channels.
      rngs: for the initial parameters.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        self.dtype, self.remat = jnp.dtype(config.compute_dtype), config.remat
        self.mean, self.deviation = spec.mean, spec.deviation
        height, width, channels = spec.shape
        self.small = max(height, width) <= _SMALL
        self.stem = Convolution(
            channels,
            _WIDTHS[0],
            kernel=3 if self.small else 7,
            stride=1 if self.small else 2,
            dtype=self.dtype,
            rngs=rngs,
        )
        self.blocks: nnx.List[BasicBlock] = nnx.List()
        channels = _WIDTHS[0]
        for width in _WIDTHS:
            for _ in range(_BLOCKS_OF_A_WIDTH):
                stride = 1 if channels == width else 2
                self.blocks.append(
                    BasicBlock(
                        channels, width, stride=stride, dtype=self.dtype, rngs=rngs
                    )
                )
                channels = width
        self.dropout = nnx.Dropout(config.dropout)
        self.out_features = channels

    def __call__(self, images: jax.Array, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        """Returns features [n, 512] of images [n, height, width, channels].

        Dropout is on when `rngs` is given.
        """
        x = jnp.mean(self.feature_maps(images), axis=(1, 2))
        return self.dropout(x, deterministic=rngs is None, rngs=rngs)

    def feature_maps(self, images: jax.Array) -> jax.Array:
        """Returns the last block's output, [n, height, width, 512]."""
        x = normalise(images, self.mean, self.deviation, self.dtype)
        x = nnx.relu(self.stem(x))
        if not self.small:
            around = ((1, 1), (1, 1))
            x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=around)
        call = nnx.remat(BasicBlock.__call__) if self.remat else BasicBlock.__call__
        for block in self.blocks:
            x = call(block, x)
        return x
