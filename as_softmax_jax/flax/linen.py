"""The output layer with its loss, for Flax Linen."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from as_softmax_jax import linear_as_softmax_loss

__all__ = ("ASSoftmaxHead",)


class ASSoftmaxHead(nn.Module):
    r"""An output layer that gives its loss without its logits.

    Called without labels, it is `flax.linen.Dense`; with labels it gives the loss of
    each example and never holds an array of logits (see `linear_as_softmax_loss`).

    Attributes:
      num_classes: C, how many logits there are.
      use_bias: whether a bias is added.
      dtype: of the products; None: that of the operands. Sums are float32.
      param_dtype: of kernel and bias.
      kernel_init: draws the kernel [D, C].

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.flax.linen import ASSoftmaxHead
      >>> head = ASSoftmaxHead(50_000)
      >>> features, labels = jnp.ones((4, 8)), jnp.array([1, 2, 3, 4])
      >>> variables = head.init(jax.random.key(0), features)
      >>> def mean_loss(variables):
      ...     return head.apply(variables, features, labels, logit_margin=2.0).mean()
      >>> grads = jax.grad(mean_loss)(variables)
      >>> print(grads["params"]["kernel"].shape, head.apply(variables, features).shape)
      (8, 50000) (4, 50000)
    """

    num_classes: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(
        self, features: ArrayLike, labels: ArrayLike | None = None, **keywords: Any
    ) -> jax.Array:
        """Returns logits [..., C] of features [..., D], or losses [...].

        Args:
          features: floating point [..., D].
          labels: integers [...] in [0, C); None: logits are wanted.
          **keywords: `logit_margin`, and what else `linear_as_softmax_loss` takes.
        """
        shape = (jnp.shape(features)[-1], self.num_classes)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = None
        if self.use_bias:
            zeros = nn.initializers.zeros_init()
            bias = self.param("bias", zeros, shape[1:], self.param_dtype)
        if labels is not None:
            features, kernel = nn.dtypes.promote_dtype(
                features, kernel, dtype=self.dtype
            )
            return linear_as_softmax_loss(
                features, kernel, labels, bias=bias, **keywords
            )
        if keywords:
            raise TypeError(
                f"`{next(iter(keywords))}` belongs to the loss; give `labels`, too."
            )
        features, kernel, bias = nn.dtypes.promote_dtype(
            features, kernel, bias, dtype=self.dtype
        )
        logits = features @ kernel
        if bias is None:
            return logits
        return logits + bias.reshape((1,) * (logits.ndim - 1) + (-1,))
