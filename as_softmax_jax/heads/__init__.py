"""Output layer and loss in one, without an array of logits.

A head is a pure function of explicit parameters: ``features`` [..., D], ``kernel``
[D, C] and ``bias`` [C] stand in the place of a loss's ``logits``; `labels`, `where`,
`class_mask` and the loss's own keywords are as in `as_softmax_jax.losses`.

- `linear_as_softmax_loss`: the loss of each example, with its gradients;
- `linear_softmax_loss`: softmax, the same with a margin of infinity;
- `linear_margin_softmax_loss`: margin losses on cosines, AS-Softmax on top or not;
- `row_statistics`: AS-Softmax, and which rows are settled and rightly predicted;
- `row_statistics_on_mesh`: the same under `jax.jit`, with rows and classes on a mesh;
- `margin_row_statistics`, `margin_row_statistics_on_mesh`: both for margin losses;
- `sample_classes`, `sample_features`: a share of either for one step;
- `partial_fc_loss`: a margin loss among them;
- `sampled_softmax_loss`: softmax against draws of a proposal, such as that of a
  `MultiIndex`;
- `linear_top_k`: the best classes and their probabilities, for prediction;
- `low_rank_logits`: all logits of a trained layer for part of their price;
- `cosine_logits`: cosines in place of logits, for the losses that take them;
- `append_class`: one more class for such a layer, out of a few examples;
- `distance_logits`: distances from a prototype of each class, below 0;
- `l_softmax_loss`, `noisy_softmax_loss`: margins that the lengths of the features are
  part of, and `l_softmax_logits`, `noisy_softmax_logits` for other losses;
- `fourier_logits`, `fourier_penalty`: a smooth density of classes that are numbers.
"""

from as_softmax_jax._core.log_sum_exp import LogSumExp
from as_softmax_jax.heads._blocked import RowStatistics
from as_softmax_jax.heads._class_parallel import (
    margin_row_statistics_on_mesh,
    row_statistics_on_mesh,
)
from as_softmax_jax.heads._cosine import append_class, cosine_logits
from as_softmax_jax.heads._distance import distance_logits
from as_softmax_jax.heads._fourier import fourier_logits, fourier_penalty
from as_softmax_jax.heads._label_margin import (
    l_softmax_logits,
    l_softmax_loss,
    noisy_softmax_logits,
    noisy_softmax_loss,
)
from as_softmax_jax.heads._linear import linear_as_softmax_loss, row_statistics
from as_softmax_jax.heads._linear_margin import (
    linear_margin_softmax_loss,
    margin_row_statistics,
)
from as_softmax_jax.heads._linear_softmax import linear_softmax_loss
from as_softmax_jax.heads._low_rank import (
    LowRankKernel,
    LowRankLogits,
    low_rank_kernel,
    low_rank_logits,
)
from as_softmax_jax.heads._multi_index import (
    MultiIndex,
    SampledFromIndex,
    build_multi_index,
    multi_index_log_q,
    sample_multi_index,
)
from as_softmax_jax.heads._partial_fc import partial_fc_loss, sample_features
from as_softmax_jax.heads._sampled_softmax import sampled_softmax_loss
from as_softmax_jax.heads._sampling import SampledClasses, sample_classes
from as_softmax_jax.heads._top_k import TopClasses, linear_top_k

__all__ = (
    "LogSumExp",
    "LowRankKernel",
    "LowRankLogits",
    "MultiIndex",
    "RowStatistics",
    "SampledClasses",
    "SampledFromIndex",
    "TopClasses",
    "append_class",
    "build_multi_index",
    "cosine_logits",
    "distance_logits",
    "fourier_logits",
    "fourier_penalty",
    "l_softmax_logits",
    "l_softmax_loss",
    "linear_as_softmax_loss",
    "linear_margin_softmax_loss",
    "linear_softmax_loss",
    "linear_top_k",
    "low_rank_kernel",
    "low_rank_logits",
    "margin_row_statistics",
    "margin_row_statistics_on_mesh",
    "multi_index_log_q",
    "noisy_softmax_logits",
    "noisy_softmax_loss",
    "partial_fc_loss",
    "row_statistics",
    "row_statistics_on_mesh",
    "sample_classes",
    "sample_features",
    "sample_multi_index",
    "sampled_softmax_loss",
)
