"""Output layer and loss in one, without an array of logits.

A head is a pure function of explicit parameters: ``features`` [..., D], ``kernel``
[D, C] and ``bias`` [C] stand in the place of a loss's ``logits``; `labels`, `where`,
`class_mask` and the loss's own keywords are as in `as_softmax_jax.losses`.

- `linear_as_softmax_loss`: the loss of each example, with its gradients;
- `row_statistics`: that loss, and which rows are settled and rightly predicted;
- `row_statistics_on_mesh`: the same under `jax.jit`, with rows and classes on a mesh;
- `sample_classes`: a share of the classes for one step;
- `cosine_logits`: cosines in place of logits, for the losses that take them;
- `append_class`: one more class for such a layer, out of a few examples.
"""

from as_softmax_jax.heads._class_parallel import row_statistics_on_mesh
from as_softmax_jax.heads._cosine import append_class, cosine_logits
from as_softmax_jax.heads._linear import (
    RowStatistics,
    linear_as_softmax_loss,
    row_statistics,
)
from as_softmax_jax.heads._sampling import SampledClasses, sample_classes

__all__ = (
    "RowStatistics",
    "SampledClasses",
    "append_class",
    "cosine_logits",
    "linear_as_softmax_loss",
    "row_statistics",
    "row_statistics_on_mesh",
    "sample_classes",
)
