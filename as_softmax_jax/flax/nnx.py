"""The output layer with its loss, for Flax NNX."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from as_softmax_jax import linear_as_softmax_loss

__all__ = ("ASSoftmaxHead",)

_KERNEL_INIT = nnx.initializers.lecun_normal()


class ASSoftmaxHead(nnx.Module):
    r"""An output layer that gives its loss without its logits.

    Called, it is `flax.nnx.Linear`; in training call `loss`, which never holds an array
    of logits (see `linear_as_softmax_loss`).

    Args:
      in_features: D, the width of the features.
      num_classes: C, how many logits there are.
      use_bias: whether a bias is added.
      dtype: of the products; None: that of the operands. Sums are float32.
      param_dtype: of kernel and bias.
      kernel_init: draws the kernel [D, C].
      rngs: for it.

    Examples:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from as_softmax_jax.flax.nnx import ASSoftmaxHead
      >>> head = ASSoftmaxHead(8, 50_000, rngs=nnx.Rngs(0))
      >>> features, labels = jnp.ones((4, 8)), jnp.array([1, 2, 3, 4])
      >>> def mean_loss(head):
      ...     return head.loss(features, labels, logit_margin=2.0).mean()
      >>> loss, grads = nnx.value_and_grad(mean_loss)(head)
      >>> print(grads["kernel"][...].shape, head(features).shape)
      (8, 50000) (4, 50000)
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        kernel_init: nnx.Initializer = _KERNEL_INIT,
        rngs: nnx.Rngs,
    ):
        shape = (in_features, num_classes)
        self.dtype = dtype
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, param_dtype))
        bias = jnp.zeros(num_classes, param_dtype)
        self.bias = nnx.Param(bias) if use_bias else nnx.data(None)

    def __call__(self, features: ArrayLike) -> jax.Array:
        """Returns the logits [..., C] of features [..., D]."""
        features, kernel, bias = nnx.nn.dtypes.promote_dtype(
            (features, *self._parameters()), dtype=self.dtype
        )
        logits = jnp.matmul(features, kernel)
        if bias is None:
            return logits
        return logits + bias.reshape((1,) * (logits.ndim - 1) + (-1,))

    def loss(
        self, features: ArrayLike, labels: ArrayLike, **keywords: Any
    ) -> jax.Array:
        """Returns the loss of each example, [...].

        Args:
          features: floating point [..., D].
          labels: integers [...] in [0, C).
          **keywords: `logit_margin`, and what else `linear_as_softmax_loss` takes.
        """
        kernel, bias = self._parameters()
        features, kernel = nnx.nn.dtypes.promote_dtype(
            (features, kernel), dtype=self.dtype
        )
        return linear_as_softmax_loss(features, kernel, labels, bias=bias, **keywords)

    def _parameters(self) -> tuple[jax.Array, jax.Array | None]:
        return self.kernel[...], None if self.bias is None else self.bias[...]
