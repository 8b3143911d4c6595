"""What the first pass over an output layer's logits takes and leaves, on any device."""

from typing import NamedTuple

import jax

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
