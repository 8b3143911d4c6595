"""What the first pass over an output layer's logits leaves, whatever the device."""

from typing import NamedTuple

import jax


class OnlineSums(NamedTuple):
    """What each row has come to, over the logits so far but the label's."""

    strongest: jax.Array  # [N] the largest of them
    total: jax.Array  # [N] sum of e^{o - strongest}
    label_logit: jax.Array  # [N]
