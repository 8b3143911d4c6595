"""The parts that convolutional networks share."""

import jax
import jax.numpy as jnp
from flax import nnx

from ..config import ModelConfig

# GroupNorm takes the mean over so many channels together, as its paper found best.
_GROUP_CHANNELS = 16


class Convolution(nnx.Module):
    """A convolution without a bias, and GroupNorm, which has one.

    GroupNorm and not BatchNorm: an example's logits, and so whether it is settled,
    must not depend on the others of its batch, and running statistics are no
    parameters.

    Args:
      inputs: channels that come.
      outputs: channels that go; they are normalised in groups of 16, or all together
        where 16 does not divide them.
      kernel: the side of the kernel.
      stride: of the kernel.
      scale_init: of the scale of GroupNorm.
      dtype: of the computation.
      rngs: for the initial parameters, He's.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        scale_init: nnx.Initializer = nnx.initializers.ones,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.convolution = nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            strides=stride,
            padding=kernel // 2,
            use_bias=False,
            kernel_init=nnx.initializers.he_normal(),
            dtype=dtype,
            rngs=rngs,
        )
        groups, rest = divmod(outputs, _GROUP_CHANNELS)
        self.norm = nnx.GroupNorm(
            outputs,
            num_groups=1 if rest else groups,
            scale_init=scale_init,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, x: jax.Array, *, pool: bool = False) -> jax.Array:
        """Returns x [n, height, width, inputs] convolved and normalised.

        With `pool`, the maximum of 2 x 2 is taken between the two, where the norm
        then has a quarter of the work.
        """
        x = self.convolution(x)
        return self.norm(max_pool(x) if pool else x)


class Blocks(nnx.Module):
    """Blocks of half the height and width of the last, and twice its channels.

    A block is a convolution with pooling, and a second convolution whose output is
    added to its input.

    Args:
      config: `depth` blocks, the first of `width` channels.
      channels: of the input.
      rngs: for the initial parameters.
    """

    def __init__(self, config: ModelConfig, channels: int, *, rngs: nnx.Rngs):
        dtype = jnp.dtype(config.compute_dtype)
        self.pooled: nnx.List[Convolution] = nnx.List()
        self.added: nnx.List[Convolution] = nnx.List()
        for block in range(config.depth):
            width = config.width * 2**block
            self.pooled.append(Convolution(channels, width, dtype=dtype, rngs=rngs))
            self.added.append(Convolution(width, width, dtype=dtype, rngs=rngs))
            channels = width
        self.channels = channels

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [n, ceil(height / 2^depth), ceil(width / 2^depth), channels]."""
        for pooled, added in zip(self.pooled, self.added, strict=True):
            x = nnx.relu(pooled(x, pool=True))
            x = x + nnx.relu(added(x))
        return x


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the maximum of each 2 x 2; an odd side's last row stands for two.

    Of slices, for the gradient of `nnx.max_pool` is 20 times slower on a CPU.

    Args:
      x: [n, height, width, channels].
    """
    for axis in (1, 2):
        if x.shape[axis] % 2:  # jnp.pad would also add nothing, which ONNX cannot
            last = jax.lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis)
            x = jnp.concatenate([x, last], axis=axis)
    rows = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])
