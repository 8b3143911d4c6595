r"""An output layer and AS-Softmax in one: no array of logits (cf. arXiv 2411.09009).

The gradient of the loss :math:`\ell_n` of a row with features x, kernel W and bias b
follows from that with respect to its logits (see `losses/_as_softmax.py`),

.. math::
  G_{ni} = \tilde p_{ni} - [\, i = t_n \,], \qquad
  \frac{\partial \ell}{\partial x} = G W^\top, \quad
  \frac{\partial \ell}{\partial W} = x^\top G, \quad
  \frac{\partial \ell}{\partial b_i} = \sum_n G_{ni},

and G has a row of zeros for each settled example. So the backward pass computes logits
again for active rows alone, block by block; `_passes` has the passes.
"""

from typing import Literal

import jax
from jax.typing import ArrayLike

from as_softmax_jax import kernels
from as_softmax_jax.heads import _blocked, _operands, _passes
from as_softmax_jax.heads._blocked import RowStatistics
from as_softmax_jax.heads._rows import Program
from as_softmax_jax.kernels import Implementation
from as_softmax_jax.losses._as_softmax import as_softmax_loss

IMPLEMENTATIONS = ("xla", *_passes.KERNELS, "reference")


def linear_as_softmax_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    implementation: Implementation | None = None,
) -> jax.Array:
    r"""AS-Softmax of an output layer, without an array of its logits.

    .. math::
      \ell = \mathrm{as\_softmax\_loss}(x W + b, t), \qquad
      x \in \mathbb{R}^{\dots \times D}, \ W \in \mathbb{R}^{D \times C}

    The logits are made block by block and forgotten. One pass over all of them tells
    settled rows from active ones; the backward pass makes those of active rows again,
    and of a row that keeps few classes only the blocks where these lie. Memory is that
    of the gradients and a few megabytes. With ``logit_margin=inf`` or ``delta=1`` this
    is softmax cross-entropy of a layer with many classes.

    With a margin in logits that pass is all: the label's logit comes first, and what is
    kept is known as it is made. With the paper's margin, rows that keep few classes
    are looked at once more.

    Products of bfloat16 or float16 are summed in float32, and the mask is decided on
    these sums, not on logits rounded to the operands' dtype.

    Rows are picked by their values, so an array of features that is spread over a mesh
    under `jax.jit` would be gathered on every device. Call this inside
    `jax.shard_map`, each device on its own rows; there the gradient of a kernel that
    all devices share is their sum.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C], or [C, D] as an embedding has it. Where the dtype
        is not that of `features`, both are cast to the wider one.
      labels: integers [...] in [0, C). One outside makes its row's loss NaN, and so
        every gradient that the row has part in.
      delta: the margin, a difference of probabilities in [0, 1]; or else
      logit_margin: the margin, a difference of logits in [0, inf]; exactly one of the
        two is given, see `as_softmax_loss`.
      bias: floating point [C]; None: no bias.
      where: boolean, broadcasts to [...]: the rows that count. What is left out may
        hold NaN and costs nothing.
      class_mask: boolean, broadcasts to [..., C]: the valid classes. One mask for all
        rows, [C], is the cheap form.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      axis_name: inside `jax.shard_map`, the mesh axis over which the classes are
        split: kernel, bias and class mask are this device's part, all of one size,
        and labels count over all of them. Pad what does not divide, and mask the
        padding by `class_mask`. A few numbers a row cross the wire, never a logit.
        The gradient needs ``check_vma=True``, the default, and is refused without.
        None: this device has all classes.
      implementation: None or ``"xla"`` for the blocked form; ``"mosaic_tpu"`` or
        ``"mosaic_gpu"`` for the same with its first pass in a kernel, without a class
        mask of each row's own (on a Hopper GPU: of bfloat16 or float16, up to 768
        features); ``"reference"`` for the layer and the loss one after the other, by
        automatic differentiation, which serves forward mode. Second derivatives of the
        blocked form are right, and hold the logits of all rows.

    Returns:
      The loss of each example, [...]; float32, or float64 for float64 operands.
      Gradients come back in the dtypes of `features`, `kernel` and `bias`.

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value, or a name is unknown.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_loss, linear_as_softmax_loss
      >>> x, w = jnp.eye(3, 2), jnp.array([[2.0, 0.0, 1.9], [0.0, 4.0, 0.0]])
      >>> labels = jnp.array([0, 1, 2])
      >>> jnp.set_printoptions(precision=4)
      >>> print(linear_as_softmax_loss(x, w, labels, logit_margin=1.0))
      [0.6444 0.     1.0986]
      >>> print(as_softmax_loss(x @ w, labels, logit_margin=1.0))
      [0.6444 0.     1.0986]

    References:
      Wijmans et al., `Cut Your Losses in Large-Vocabulary Language Models
      <https://arxiv.org/abs/2411.09009>`_, ICLR 2025, for softmax without logits.
    """
    op = "linear_as_softmax_loss"
    implementation = kernels.choose(implementation, IMPLEMENTATIONS, op)
    if implementation != "reference":
        return row_statistics(
            features,
            kernel,
            labels,
            delta=delta,
            logit_margin=logit_margin,
            bias=bias,
            where=where,
            class_mask=class_mask,
            kernel_layout=kernel_layout,
            axis_name=axis_name,
            implementation=implementation,
        ).loss
    _operands.check_reference_alone(axis_name)
    given = delta, logit_margin
    x = _operands.read(features, kernel, labels, given, bias, where, kernel_layout)
    return as_softmax_loss(
        x.logits(),
        labels,
        delta=delta,
        logit_margin=logit_margin,
        where=where,
        class_mask=class_mask,
        implementation="reference",
    )


def row_statistics(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    delta: ArrayLike | None = None,
    logit_margin: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    implementation: Literal["xla", "mosaic_tpu", "mosaic_gpu"] = "xla",
) -> RowStatistics:
    """Returns the loss of each row, and what its pass over the logits tells of it.

    For training loops that count settled and rightly predicted examples. Arguments and
    errors are those of `linear_as_softmax_loss`.
    """
    given = delta, logit_margin
    x = _operands.read(
        features, kernel, labels, given, bias, where, kernel_layout, axis_name
    )
    program = Program(kernel_layout, x.num_classes, axis_name, implementation)
    return _blocked.statistics(program, x, x.layer(class_mask))
