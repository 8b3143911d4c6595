"""Adaptive Sparse Softmax for JAX: losses and transforms.

Examples:
  >>> import jax.numpy as jnp
  >>> from as_softmax_jax import as_softmax_loss
  >>> logits = jnp.array([[4.0, 1.0, 0.0], [1.0, 0.9, -3.0]])
  >>> jnp.set_printoptions(precision=4)
  >>> print(as_softmax_loss(logits, jnp.array([0, 0]), delta=0.1))
  [0.     0.6444]
"""

from as_softmax_jax._core.checks import check_labels
from as_softmax_jax.heads._linear import linear_as_softmax_loss
from as_softmax_jax.losses._as_softmax import (
    as_softmax_kept,
    as_softmax_loss,
    as_softmax_probs,
    as_softmax_settled,
    count_active,
)
from as_softmax_jax.losses._margin import am_softmax_loss, soft_margin_softmax_loss
from as_softmax_jax.losses._multi_label import (
    multi_label_as_softmax_loss,
    multi_label_as_softmax_settled,
    multi_label_sigmoid_loss,
    multi_label_softmax_loss,
    multi_label_sparse_softmax_loss,
)
from as_softmax_jax.losses._softmax import (
    focal_loss,
    label_smoothing_loss,
    softmax_loss,
    temperature_softmax_loss,
)
from as_softmax_jax.losses._sparse import (
    entmax_loss,
    sparse_softmax_loss,
    sparsemax_loss,
)
from as_softmax_jax.transforms import (
    active_count_window,
    adaptive_multi_steps,
    compact_value_and_grad,
    delta_schedule,
    has_updated,
    settled_ratio_window,
)

__version__ = "0.1.0"

__all__ = (
    "active_count_window",
    "adaptive_multi_steps",
    "am_softmax_loss",
    "as_softmax_kept",
    "as_softmax_loss",
    "as_softmax_probs",
    "as_softmax_settled",
    "check_labels",
    "compact_value_and_grad",
    "count_active",
    "delta_schedule",
    "entmax_loss",
    "focal_loss",
    "has_updated",
    "label_smoothing_loss",
    "linear_as_softmax_loss",
    "multi_label_as_softmax_loss",
    "multi_label_as_softmax_settled",
    "multi_label_sigmoid_loss",
    "multi_label_softmax_loss",
    "multi_label_sparse_softmax_loss",
    "settled_ratio_window",
    "soft_margin_softmax_loss",
    "softmax_loss",
    "sparse_softmax_loss",
    "sparsemax_loss",
    "temperature_softmax_loss",
)
