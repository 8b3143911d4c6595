"""Adaptive Sparse Softmax for JAX: losses, output layers and transforms.

AS-Softmax and what trains with it stand here. Everything stands in its topic: `losses`
(every loss, and the table `losses.LOSSES`), `heads`, `regularizers`, `scores` and
`transforms`.

Examples:
  >>> import jax.numpy as jnp
  >>> from as_softmax_jax import as_softmax_loss
  >>> logits = jnp.array([[4.0, 1.0, 0.0], [1.0, 0.9, -3.0]])
  >>> jnp.set_printoptions(precision=4)
  >>> print(as_softmax_loss(logits, jnp.array([0, 0]), delta=0.1))
  [0.     0.6444]
"""

from as_softmax_jax import heads, losses, regularizers, scores, transforms
from as_softmax_jax.heads import linear_as_softmax_loss
from as_softmax_jax.losses import (
    as_softmax_kept,
    as_softmax_loss,
    as_softmax_probs,
    as_softmax_settled,
    check_labels,
    count_active,
    multi_label_as_softmax_loss,
    multi_label_as_softmax_settled,
)
from as_softmax_jax.transforms import (
    active_count_window,
    adaptive_multi_steps,
    compact_value_and_grad,
    delta_schedule,
    has_updated,
    margin_schedule,
    settled_ratio_window,
)

__version__ = "0.1.0"

__all__ = (
    "active_count_window",
    "adaptive_multi_steps",
    "as_softmax_kept",
    "as_softmax_loss",
    "as_softmax_probs",
    "as_softmax_settled",
    "check_labels",
    "compact_value_and_grad",
    "count_active",
    "delta_schedule",
    "has_updated",
    "heads",
    "linear_as_softmax_loss",
    "losses",
    "margin_schedule",
    "multi_label_as_softmax_loss",
    "multi_label_as_softmax_settled",
    "regularizers",
    "scores",
    "settled_ratio_window",
    "transforms",
)
