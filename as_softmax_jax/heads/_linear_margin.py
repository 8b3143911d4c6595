r"""A cosine output layer and a margin loss in one: no array of cosines.

A margin touches the label's logit alone. So the passes need to know of it in one place,
after the label's cosine and before what is compared with it; and the gradient in one
more, where the label's entry of G is carried on to its cosine,

.. math::
  G_{nt} = c_n (\tilde p_{nt} - 1)\, \psi'(c_t), \qquad
  G_{ni} = c_n \tilde p_{ni} \quad (i \ne t).

The norms are taken block by block. A cosine does not change with the length of x, so
the gradient is what is left of :math:`G W^\top` without its part along x, and likewise
for each class.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax import kernels
from as_softmax_jax._core import checks, cosine_margin
from as_softmax_jax._core.cosine_margin import Beyond, CosineMargin
from as_softmax_jax.heads import _blocked, _operands
from as_softmax_jax.heads._blocked import RowStatistics
from as_softmax_jax.heads._cosine import cosine_logits
from as_softmax_jax.heads._rows import Program
from as_softmax_jax.kernels import Implementation
from as_softmax_jax.losses._as_softmax import as_softmax_loss
from as_softmax_jax.losses._cosine_margin import margin_logits, margin_softmax_loss

IMPLEMENTATIONS = ("xla", "reference")


def linear_margin_softmax_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
    filter_threshold: float | None = None,
    sub_centers: int = 1,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    implementation: Implementation | None = None,
) -> jax.Array:
    r"""A margin loss on the cosines of an output layer, without an array of them.

    .. math::
      \ell = \mathrm{margin\_softmax\_loss}(c, t), \qquad
      c_j = \frac{x \cdot w_j}{\lVert x \rVert\, \lVert w_j \rVert}

    Every margin loss of the label's cosine at the size of a vocabulary: ArcFace with
    ``angle=0.5``, AM-Softmax and CosFace with ``cosine=0.35``, ElasticFace and LDAM
    with the arrays of `elastic_margins` and ``ldam_margins(...)[labels]``, and
    AS-Softmax on any of them with `delta` or `logit_margin`: an example settles once
    its margin holds with that much to spare.

    Features of length 0, and classes of weights 0, have a cosine of 0 with all, and no
    gradient.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C], or [C, D]; as are all that are not said here, see
        `linear_as_softmax_loss`.
      labels: integers [...] in [0, C).
      scale: s, positive and finite; a number or an array that broadcasts to [...], as
        are the margins. Traced and out of range it makes its row NaN, as do they.
      angle: the margin a of the label's angle, in radians, in [-pi, pi].
      cosine: the margin b of the label's cosine, finite.
      beyond: what holds past an angle of pi, see `margin_logits`.
      straight_through: the gradient by the cosine as if the angle's margin were not
        there.
      filter_threshold: a cosine with another class above it counts as 0 and has no
        gradient, against labels that are wrong. None: no such limit.
      sub_centers: K, how many columns of the kernel a class has, side by side; the
        nearest counts, as in `cosine_logits`.
      delta: the margin of AS-Softmax in probability, in [0, 1]; or else
      logit_margin: that in logits, in [0, inf]. None of the two: softmax.
      where: boolean, broadcasts to [...]: the rows that count.
      class_mask: boolean, broadcasts to [..., C]: the valid classes.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      axis_name: inside `jax.shard_map`, the mesh axis over which classes are split.
      implementation: None or ``"xla"`` for the blocked form; ``"reference"`` for
        cosines, margin and loss one after the other, by automatic differentiation.

    Returns:
      The loss of each example, [...]; float32, or float64 for float64 operands.
      Gradients come back in the dtypes of `features` and `kernel`; those of scale and
      margins are for the arrays given.

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value, or a name is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import linear_margin_softmax_loss
      >>> x, w = jnp.array([[0.0, 3.0]]), jnp.array([[2.0, 0.0], [0.0, 5.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + exp(2 * 0 - 2 * (1 - 0.5)))
      >>> print(linear_margin_softmax_loss(
      ...     x, w, jnp.array([1]), scale=2.0, cosine=0.5
      ... ))
      [0.3133]

    References:
      Deng et al., `ArcFace <https://arxiv.org/abs/1801.07698>`_, CVPR 2019; An et al.,
      `Partial FC <https://arxiv.org/abs/2203.15565>`_, CVPR 2022, for the threshold.
    """
    return margin_loss(
        features,
        kernel,
        labels,
        implementation=implementation,
        class_mask=class_mask,
        scale=scale,
        angle=angle,
        cosine=cosine,
        beyond=beyond,
        straight_through=straight_through,
        filter_threshold=filter_threshold,
        sub_centers=sub_centers,
        delta=delta,
        logit_margin=logit_margin,
        where=where,
        kernel_layout=kernel_layout,
        axis_name=axis_name,
    )


def margin_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    implementation: Implementation | None,
    class_mask: ArrayLike | None,
    **options: Any,
) -> jax.Array:
    """Returns `linear_margin_softmax_loss`, with `bias` [C] added to its logits."""
    op = "linear_margin_softmax_loss"
    implementation = kernels.choose(implementation, IMPLEMENTATIONS, op)
    if implementation == "reference":
        _operands.check_reference_alone(options["axis_name"])
        read = _read(features, kernel, labels, **options)
        return _one_after_the_other(read, class_mask)
    return margin_row_statistics(
        features, kernel, labels, class_mask=class_mask, **options
    ).loss


def margin_row_statistics(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    **margins: Any,
) -> RowStatistics:
    """Returns the margin loss of each row, and what its pass over the cosines tells.

    A row's lead is that of the label's logit after its margin, and it is settled where
    `delta` or `logit_margin` says so. Arguments and errors are those of
    `linear_margin_softmax_loss`, of which this is the blocked form.
    """
    x = _read(
        features,
        kernel,
        labels,
        kernel_layout=kernel_layout,
        axis_name=axis_name,
        **margins,
    )
    program = Program(
        kernel_layout,
        x.operands.num_classes,
        axis_name,
        cosines=True,
        cosine_threshold=x.threshold,
        centers=x.sub_centers,
    )
    layer = x.operands.layer(class_mask)
    return _blocked.statistics(program, x.operands, layer, x.margins)


class _Inputs(NamedTuple):
    """Checked arguments."""

    operands: _operands.Inputs
    margins: CosineMargin  # [...]
    threshold: float | None
    given: tuple[ArrayLike | None, ArrayLike | None]  # delta, margin in logits
    sub_centers: int


def _read(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    scale: ArrayLike = 64.0,
    angle: ArrayLike = 0.0,
    cosine: ArrayLike = 0.0,
    beyond: Beyond = "linear",
    straight_through: bool = False,
    filter_threshold: float | None = None,
    sub_centers: int = 1,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    kernel_layout: str,
    axis_name: str | None,
) -> _Inputs:
    """Checks the arguments of `linear_margin_softmax_loss`."""
    if delta is None and logit_margin is None:
        logit_margin = np.inf
    given = delta, logit_margin
    sub_centers = checks.integer(sub_centers, "sub_centers", at_least=1)
    x = _operands.read(
        features,
        kernel,
        labels,
        given,
        bias,
        where,
        kernel_layout,
        axis_name,
        sub_centers=sub_centers,
        op="linear_margin_softmax_loss",
    )
    if filter_threshold is not None:
        name = "filter_threshold"
        filter_threshold = checks.unit_interval_float(filter_threshold, name)
    margins = cosine_margin.read(scale, angle, cosine, beyond, straight_through, x.like)
    return _Inputs(x, margins, filter_threshold, given, sub_centers)


def _one_after_the_other(read: _Inputs, class_mask: ArrayLike | None) -> jax.Array:
    """Returns the loss by all cosines, their margin, and the loss on logits."""
    x, margins, threshold, (delta, logit_margin), centers = read
    cosines = cosine_logits(
        x.features, x.kernel, sub_centers=centers, kernel_layout=x.layout
    )
    if threshold is not None:
        label = jax.nn.one_hot(x.labels, x.num_classes, dtype=bool)
        filtered = ~label & (cosines > threshold)
        cosines = jnp.where(filtered, jnp.zeros((), cosines.dtype), cosines)
    masks: dict[str, Any] = {"where": x.where, "class_mask": class_mask}
    own: dict[str, Any] = vars(margins)
    if logit_margin is np.inf and x.bias is None:
        return margin_softmax_loss(cosines, x.labels, **own, **masks)
    logits = margin_logits(cosines, x.labels, **own, **masks)
    if x.bias is not None:
        shape = (1,) * (logits.ndim - 1) + (-1,)
        logits += x.bias.astype(logits.dtype).reshape(shape)
    return as_softmax_loss(
        logits,
        x.labels,
        delta=delta,
        logit_margin=logit_margin,
        implementation="reference",
        **masks,
    )
