"""What the first pass over an output layer's logits takes and leaves, on any device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from as_softmax_jax._core.log_sum_exp import finite_shift


class OnlineSums(NamedTuple):
    """What each row has come to, over the logits so far but the label's."""

    strongest: jax.Array  # [N] the largest of them
    total: jax.Array  # [N] sum of e^{o - strongest}
    label_logit: jax.Array  # [N]


class Bound(NamedTuple):
    """How weak a class may be and still enter the sum of its row."""

    label_logit: jax.Array  # [N] o_t
    gap: jax.Array  # [N] g, see `as_softmax_jax._core.margin`

    def drops(self, rivals: jax.Array) -> jax.Array:
        """Returns which logits [N, width] are below it; NaN is not."""
        return rivals - finite_shift(self.label_logit)[:, None] < self.gap[:, None]


def filled_in(
    bias: jax.Array | None,
    class_mask: jax.Array | None,
    bound: Bound | None,
    num_rows: int,
    num_classes: int,
) -> tuple[jax.Array, jax.Array, Bound]:
    """Returns arrays in place of what is not given: they change no sum.

    Args:
      bias: [C], or None.
      class_mask: [1, C] bool, or None.
      bound: of [N], or None.
      num_rows: N.
      num_classes: C.

    Returns:
      Bias [C], mask [C] int32, and bound.
    """
    if bias is None:
        bias = jnp.zeros(num_classes, jnp.float32)
    if class_mask is None:
        class_mask = jnp.ones((1, num_classes), bool)
    if bound is None:
        nothing = jnp.zeros(num_rows, jnp.float32)
        bound = Bound(nothing, nothing - jnp.inf)
    return bias, class_mask[0].astype(jnp.int32), bound
