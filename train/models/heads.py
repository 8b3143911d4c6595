"""Output layers by name: features [..., width] to what the loss takes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from as_softmax_jax import heads

Gives = Literal["logits", "cosines"]


class Linear(nnx.Module):
    """Logits: features times a kernel, and a bias.

    Args:
      width: of the features.
      num_classes: of the logits.
      dtype: of the computation.
      rngs: for the initial parameters.
    """

    gives: ClassVar[Gives] = "logits"
    # Whether `row_statistics` stands in for the logits in training.
    blocked: ClassVar[bool] = False

    def __init__(
        self, width: int, num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.linear = nnx.Linear(width, num_classes, dtype=dtype, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the logits [..., num_classes]."""
        return self.linear(features)


class Blocked(Linear):
    """`Linear` for many thousands of classes: training never holds their logits."""

    blocked = True

    def row_statistics(
        self, mesh: Mesh, features: jax.Array, labels: jax.Array, **keywords: Any
    ) -> heads.RowStatistics:
        """Returns losses, what is settled and the leads, block by block.

        Args:
          mesh: with the axes `data` and `model`.
          features: [n, ..., width].
          labels: integers [n, ...].
          **keywords: of `as_softmax_jax.heads.row_statistics_on_mesh`.
        """
        linear, dtype = self.linear, self.linear.dtype
        assert linear.bias is not None, "Linear makes one"
        return heads.row_statistics_on_mesh(
            mesh,
            features.astype(dtype),
            linear.kernel[...].astype(dtype),
            labels,
            bias=linear.bias[...],
            **keywords,
        )


class Cosine(nnx.Module):
    """The cosines between the features and each class's vector; arguments as `Linear`.

    Additive-margin losses take these.
    """

    gives: ClassVar[Gives] = "cosines"
    blocked: ClassVar[bool] = False

    def __init__(
        self, width: int, num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.linear = nnx.Linear(
            width, num_classes, use_bias=False, dtype=dtype, rngs=rngs
        )

    def __call__(self, features: jax.Array) -> jax.Array:
        """Returns the cosines [..., num_classes]."""
        kernel = _normalised(self.linear.kernel[...], axis=0).astype(features.dtype)
        return _normalised(features, axis=-1) @ kernel


# Of `model.head`.
HEADS: Mapping[str, type[Linear] | type[Cosine]] = {
    "linear": Linear,
    "cosine": Cosine,
    "blocked": Blocked,
}


def _normalised(x: jax.Array, axis: int) -> jax.Array:
    # rsqrt of a sum that cannot be 0 keeps the gradient of a zero vector finite.
    square = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
    return x * jax.lax.rsqrt(square + 1e-12).astype(x.dtype)
