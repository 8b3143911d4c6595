"""Output layer and loss in one, without an array of logits."""

from as_softmax_jax.heads._class_parallel import (
    row_statistics_on_mesh as row_statistics_on_mesh,
)
from as_softmax_jax.heads._linear import RowStatistics as RowStatistics
from as_softmax_jax.heads._linear import row_statistics as row_statistics
from as_softmax_jax.heads._sampling import SampledClasses as SampledClasses
from as_softmax_jax.heads._sampling import sample_classes as sample_classes
