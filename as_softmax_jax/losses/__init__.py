r"""Per-example losses of one grammar; `LOSSES` is the table of them by name.

Every loss is ``f(logits, labels, *, where=None, class_mask=None, axis=-1, ...)``: two
arrays, then keywords only, and one value an example comes out.

Args:
  logits: floating point [..., C], the unnormalised log-probabilities of C classes, -inf
    for a class of probability 0. The classes may lie at another `axis`.
  labels: integers of the shape of the loss, each in [0, C). Losses for any number of
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
  positive nor negative;
- a label outside [0, C), a target other than 0 and 1, a NaN or +inf logit, an own
  keyword that is NaN, or traced and out of range: NaN for that row, loss and gradient,
  and for no other. Where the loss's cotangent is exactly 0, as of a row that is masked
  out after the loss, the gradient is 0. `check_labels` finds such labels in what was
  read;
- a logit of -inf: probability 0, and a loss of +inf at the label;
- labels of any integer width: cast to int32, and none wraps around into another class;
- half precision: mask, sums and loss in float32, the gradient in the logits' dtype.

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
from as_softmax_jax.losses._as_softmax import (
    as_softmax_kept,
    as_softmax_loss,
    as_softmax_probs,
    as_softmax_settled,
    count_active,
)
from as_softmax_jax.losses._extras import (
    ClassCounts,
    Extra,
    OtherLogits,
    PerBatch,
    PerExample,
    StepKey,
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
    entmax_probs,
    entmax_settled,
    sparse_softmax_loss,
    sparsemax_loss,
    sparsemax_probs,
    sparsemax_settled,
)
from as_softmax_jax.losses._table import LOSSES, Loss, register_loss

__all__ = (
    "LOSSES",
    "ClassCounts",
    "Extra",
    "Loss",
    "OtherLogits",
    "PerBatch",
    "PerExample",
    "StepKey",
    "am_softmax_loss",
    "as_softmax_kept",
    "as_softmax_loss",
    "as_softmax_probs",
    "as_softmax_settled",
    "check_labels",
    "count_active",
    "entmax_loss",
    "entmax_probs",
    "entmax_settled",
    "focal_loss",
    "label_smoothing_loss",
    "multi_label_as_softmax_loss",
    "multi_label_as_softmax_settled",
    "multi_label_sigmoid_loss",
    "multi_label_softmax_loss",
    "multi_label_sparse_softmax_loss",
    "register_loss",
    "soft_margin_softmax_loss",
    "softmax_loss",
    "sparse_softmax_loss",
    "sparsemax_loss",
    "sparsemax_probs",
    "sparsemax_settled",
    "temperature_softmax_loss",
)
