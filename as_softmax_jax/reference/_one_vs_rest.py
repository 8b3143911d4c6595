"""One against rest, as its papers write it, by autodiff alone.

Clean inputs only: logits [..., C] in float32 or float64 with classes last, labels
[...] in range.
"""

import jax

from as_softmax_jax.reference._multi_label import multi_label_sigmoid_loss


def one_vs_rest_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Binary cross-entropy of the label and of the opposite of each other class."""
    onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return multi_label_sigmoid_loss(logits, onehot, ~onehot)
