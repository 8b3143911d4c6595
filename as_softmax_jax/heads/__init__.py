"""Output layer and loss in one, without an array of logits."""

from as_softmax_jax.heads._class_parallel import measure_on_mesh as measure_on_mesh
from as_softmax_jax.heads._linear import Measures as Measures
from as_softmax_jax.heads._linear import measure as measure
from as_softmax_jax.heads._sampling import SampledClasses as SampledClasses
from as_softmax_jax.heads._sampling import sample_classes as sample_classes
