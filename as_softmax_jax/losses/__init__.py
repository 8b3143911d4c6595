r"""Per-example losses of one grammar; `LOSSES` is the table of them by name.

Every loss is ``f(logits, labels, *, where=None, class_mask=None, axis=-1, ...)``: two
arrays, then keywords only, and one value an example comes out.

Args:
  logits: floating point [..., C], the unnormalised log-probabilities of C classes, -inf
    for a class of probability 0. The classes may lie at another `axis`.
  labels: integers of the shape of the loss, each in [0, C). Where a row of `LOSSES` has
    `distributions`, they may be distributions over the classes as well: floating point
    of the shape of `logits`, none below 0, their sum 1. Losses for any number of
    labels an example, `multi_label_...`, take `targets` in their place: multi-hot of
    the shape of `logits`, True or 1 for the classes of an example, else False or 0.
  where: boolean, broadcasts to the shape of the loss: the rows that count. None: all.
  class_mask: boolean, broadcasts to the shape of `logits`: the valid classes. None:
    all.
  axis: the class axis; or a tuple of them, whose classes count as one axis would, row
    by row in the order of `axis`: a label is the flat index.

A loss's own keywords are documented with it. One that is a number may be an array, too,
which broadcasts to the shape of the loss, and it may be traced.

Returns:
  The loss of each example, the shape of `logits` without the class axes; float32, or
  float64 for float64 logits. Reduce it with ``loss.mean(where=where)``, weigh it with
  ``loss * weights[labels]``. Gradients have the dtype of what they belong to.

Raises:
  TypeError: an argument has a wrong dtype.
  ValueError: an argument has a wrong shape, or an own keyword is known and out of
    range.

A loss never looks at values, so that eager and traced calls agree:

- a row where `where` is False, whatever it holds: loss and gradient 0;
- a class where `class_mask` is False: no part in the loss, gradient 0. An integer label
  counts as valid whatever the mask says; a multi-label entry is unknown, neither
  positive nor negative; the share of a distribution is left out, and the rest is not
  brought to a sum of 1;
- a label outside [0, C), a target other than 0 and 1, a distribution with an entry
  below 0 or another sum than 1 (to 1e-3), a NaN or +inf logit, an own keyword that is
  NaN, or traced and out of range: NaN for that row, loss and gradient, and for no
  other. Where the loss's cotangent is exactly 0, as of a row that is masked
  out after the loss, the gradient is 0. `check_labels` finds such labels in what was
  read;
- a logit of -inf: probability 0, and so no part in a mean or a sum over classes; at
  the label a loss of +inf, or the most that a bounded loss can be;
- labels of any integer width: cast to int32, and none wraps around into another class;
- half precision: mask, sums and loss in float32, the gradient in the logits' dtype.
  No gradient flows to a target.

Rows are independent: on a mesh that shards the examples a loss compiles to no
communication, unless its row in `LOSSES` says otherwise.

A loss ``<name>_loss`` may have companions, which take its arguments:

- ``<name>_settled``: which examples are *settled*, with a loss and a gradient of
  exactly 0. A row left out counts as settled, and `count_active` leaves it out by its
  own `where`; a row whose loss is NaN is not settled;
- ``<name>_probs``: the probabilities that the loss scores, the shape of `logits`, 0 for
  masked classes and in rows left out; without `labels` where these have no part;
- ``<name>_kept``: the classes that are left in its sum.

Examples:
  >>> import jax.numpy as jnp
  >>> from as_softmax_jax.losses import LOSSES, softmax_loss
  >>> logits, labels = jnp.log(jnp.array([[0.5, 0.25, 0.25]])), jnp.array([0])
  >>> jnp.set_printoptions(precision=4)
  >>> print(softmax_loss(logits, labels))
  [0.6931]
  >>> row = LOSSES["focal"]
  >>> print(row.keywords, row.target, row.exact_zeros)
  {'gamma': 2.0} labels False
"""

from as_softmax_jax._core.checks import check_labels
from as_softmax_jax.losses._adaface import (
    NormState,
    adaface_loss,
    feature_norms,
    init_norm_state,
    norm_margins,
    update_norm_state,
)
from as_softmax_jax.losses._as_softmax import (
    as_softmax_kept,
    as_softmax_loss,
    as_softmax_probs,
    as_softmax_settled,
    count_active,
)
from as_softmax_jax.losses._asymmetric import (
    asymmetric_single_label_loss,
    multi_label_asymmetric_loss,
    multi_label_asymmetric_settled,
)
from as_softmax_jax.losses._average_k import (
    average_k_threshold,
    two_head_average_k_loss,
)
from as_softmax_jax.losses._comp_sum import (
    comp_sum_loss,
    poly_loss,
)
from as_softmax_jax.losses._cosine_margin import (
    am_softmax_loss,
    arcface_loss,
    margin_logits,
    margin_softmax_loss,
)
from as_softmax_jax.losses._cosine_pairs import (
    circle_loss,
    real_am_softmax_loss,
    real_am_softmax_settled,
)
from as_softmax_jax.losses._decoupled import multi_label_decoupled_softmax_loss
from as_softmax_jax.losses._dismax import dismax_loss
from as_softmax_jax.losses._elastic import (
    elastic_arcface_loss,
    elastic_cosface_loss,
    elastic_margins,
    rank_margins,
)
from as_softmax_jax.losses._extras import (
    ActiveClasses,
    ClassCounts,
    Extra,
    FromFeatures,
    Learned,
    OtherLogits,
    PerBatch,
    PerExample,
    PerRun,
    StepKey,
)
from as_softmax_jax.losses._gumbel import (
    gumbel_loss,
    gumbel_probs,
    multi_label_gumbel_loss,
)
from as_softmax_jax.losses._hinge import (
    multi_label_squared_hinge_loss,
    multi_label_squared_hinge_settled,
    squared_hinge_loss,
    squared_hinge_settled,
)
from as_softmax_jax.losses._ldr_kl import (
    aldr_kl_loss,
    aldr_kl_temperature,
    ldr_kl_loss,
)
from as_softmax_jax.losses._madacos import madacos_loss, madacos_scale_margin
from as_softmax_jax.losses._margin import soft_margin_softmax_loss
from as_softmax_jax.losses._masked_softmax import masked_softmax_loss
from as_softmax_jax.losses._multi_label import (
    multi_label_as_softmax_loss,
    multi_label_as_softmax_settled,
    multi_label_sigmoid_loss,
    multi_label_softmax_loss,
    multi_label_sparse_softmax_loss,
)
from as_softmax_jax.losses._one_vs_rest import (
    one_vs_rest_loss,
)
from as_softmax_jax.losses._ordinal import (
    ordinal_cross_entropy_loss,
    ordinal_probs,
)
from as_softmax_jax.losses._penalties import (
    maxsup_loss,
    squentropy_loss,
)
from as_softmax_jax.losses._prior import (
    balanced_softmax_loss,
    class_prior,
    effective_number_weights,
    ldam_loss,
    ldam_margins,
)
from as_softmax_jax.losses._robust import (
    active_passive_loss,
    mean_absolute_error_loss,
    normalized_cross_entropy_loss,
    normalized_focal_loss,
    reverse_cross_entropy_loss,
)
from as_softmax_jax.losses._soft_top_k import multi_label_soft_top_k_loss
from as_softmax_jax.losses._softmax import (
    focal_loss,
    label_smoothing_loss,
    softmax_loss,
    temperature_softmax_loss,
)
from as_softmax_jax.losses._sovr import sovr_loss, sovr_threshold
from as_softmax_jax.losses._sparse import (
    entmax_loss,
    entmax_probs,
    entmax_settled,
    sparse_softmax_loss,
    sparsemax_loss,
    sparsemax_probs,
    sparsemax_settled,
)
from as_softmax_jax.losses._sphereface2 import sphereface2_bias, sphereface2_loss
from as_softmax_jax.losses._spherical import (
    spherical_z_loss,
)
from as_softmax_jax.losses._squared_error import (
    softmax_squared_error_loss,
)
from as_softmax_jax.losses._stablemax import (
    stablemax_loss,
    stablemax_probs,
)
from as_softmax_jax.losses._table import LOSSES, Loss, register_loss
from as_softmax_jax.losses._unpg import NegativePairs, negative_pairs, unpg_loss

__all__ = (
    "LOSSES",
    "ActiveClasses",
    "ClassCounts",
    "Extra",
    "FromFeatures",
    "Learned",
    "Loss",
    "NegativePairs",
    "NormState",
    "OtherLogits",
    "PerBatch",
    "PerExample",
    "PerRun",
    "StepKey",
    "active_passive_loss",
    "adaface_loss",
    "aldr_kl_loss",
    "aldr_kl_temperature",
    "am_softmax_loss",
    "arcface_loss",
    "as_softmax_kept",
    "as_softmax_loss",
    "as_softmax_probs",
    "as_softmax_settled",
    "asymmetric_single_label_loss",
    "average_k_threshold",
    "balanced_softmax_loss",
    "check_labels",
    "circle_loss",
    "class_prior",
    "comp_sum_loss",
    "count_active",
    "dismax_loss",
    "effective_number_weights",
    "elastic_arcface_loss",
    "elastic_cosface_loss",
    "elastic_margins",
    "entmax_loss",
    "entmax_probs",
    "entmax_settled",
    "feature_norms",
    "focal_loss",
    "gumbel_loss",
    "gumbel_probs",
    "init_norm_state",
    "label_smoothing_loss",
    "ldam_loss",
    "ldam_margins",
    "ldr_kl_loss",
    "madacos_loss",
    "madacos_scale_margin",
    "margin_logits",
    "margin_softmax_loss",
    "masked_softmax_loss",
    "maxsup_loss",
    "mean_absolute_error_loss",
    "multi_label_as_softmax_loss",
    "multi_label_as_softmax_settled",
    "multi_label_asymmetric_loss",
    "multi_label_asymmetric_settled",
    "multi_label_decoupled_softmax_loss",
    "multi_label_gumbel_loss",
    "multi_label_sigmoid_loss",
    "multi_label_soft_top_k_loss",
    "multi_label_softmax_loss",
    "multi_label_sparse_softmax_loss",
    "multi_label_squared_hinge_loss",
    "multi_label_squared_hinge_settled",
    "negative_pairs",
    "norm_margins",
    "normalized_cross_entropy_loss",
    "normalized_focal_loss",
    "one_vs_rest_loss",
    "ordinal_cross_entropy_loss",
    "ordinal_probs",
    "poly_loss",
    "rank_margins",
    "real_am_softmax_loss",
    "real_am_softmax_settled",
    "register_loss",
    "reverse_cross_entropy_loss",
    "soft_margin_softmax_loss",
    "softmax_loss",
    "softmax_squared_error_loss",
    "sovr_loss",
    "sovr_threshold",
    "sparse_softmax_loss",
    "sparsemax_loss",
    "sparsemax_probs",
    "sparsemax_settled",
    "sphereface2_bias",
    "sphereface2_loss",
    "spherical_z_loss",
    "squared_hinge_loss",
    "squared_hinge_settled",
    "squentropy_loss",
    "stablemax_loss",
    "stablemax_probs",
    "temperature_softmax_loss",
    "two_head_average_k_loss",
    "unpg_loss",
    "update_norm_state",
)
