"""What the first pass over an output layer's logits leaves, whatever the device."""

from typing import NamedTuple

import jax


class Seen(NamedTuple):
    """What the pass has seen of each row."""

    best: jax.Array  # [N] the strongest logit but the label's
    total: jax.Array  # [N] sum of e^{o - best} but the label's
    label_logit: jax.Array  # [N]
    block_best: jax.Array  # [N, blocks] as `best`, of each block of classes
