"""An output layer and softmax cross-entropy in one: no array of logits."""

import jax
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax import kernels
from as_softmax_jax._core import checks
from as_softmax_jax.heads import _blocked, _operands
from as_softmax_jax.heads._linear import IMPLEMENTATIONS
from as_softmax_jax.heads._rows import Program
from as_softmax_jax.kernels import Implementation
from as_softmax_jax.losses._as_softmax import as_softmax_loss


def linear_softmax_loss(
    features: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    filter_eps: float | None = None,
    implementation: Implementation | None = None,
) -> jax.Array:
    r"""Softmax cross-entropy of an output layer, without an array of its logits.

    .. math::
      \ell = \log \Bigl(1 + \sum_{j \ne t} e^{o_j - o_t} \Bigr), \qquad o = x W + b

    The logits are made block by block and forgotten, and made again in the backward
    pass. It is `linear_as_softmax_loss` with a margin of infinity; and it is computed
    from the sum over the other classes, so that a loss of 1e-14 is not rounded to 0.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C], or [C, D]; as are all others, see
        `linear_as_softmax_loss`.
      labels: integers [...] in [0, C).
      bias: floating point [C]; None: no bias.
      where: boolean, broadcasts to [...]: the rows that count.
      class_mask: boolean, broadcasts to [..., C]: the valid classes.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      axis_name: inside `jax.shard_map`, the mesh axis over which classes are split.
      filter_eps: a probability below which the backward pass is approximate: a row
        skips the blocks of classes in which no probability is off by as much. Every
        entry left out of the gradient by the logits is smaller than it. For bfloat16
        2**-12 is below what a sum of such gradients can hold. None: exact.
      implementation: as in `linear_as_softmax_loss`.

    Returns:
      The loss of each example, [...]; float32, or float64 for float64 operands.

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value, or a name is unknown.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import linear_softmax_loss
      >>> x, w = jnp.eye(1, 2), jnp.array([[2.0, 0.0, 1.0], [0.0, 4.0, 0.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> # log(1 + exp(-2) + exp(-1))
      >>> print(linear_softmax_loss(x, w, jnp.array([0])))
      [0.4076]

    References:
      Wijmans et al., `Cut Your Losses in Large-Vocabulary Language Models
      <https://arxiv.org/abs/2411.09009>`_, ICLR 2025, which has the filter.
    """
    op = "linear_softmax_loss"
    implementation = kernels.choose(implementation, IMPLEMENTATIONS, op)
    given = None, np.inf
    x = _operands.read(
        features, kernel, labels, given, bias, where, kernel_layout, axis_name
    )
    if filter_eps is not None:
        filter_eps = checks.unit_interval_float(filter_eps, "filter_eps")
    if implementation != "reference":
        program = Program(
            kernel_layout,
            x.num_classes,
            axis_name,
            implementation,
            filter_eps=filter_eps,
        )
        return _blocked.statistics(program, x, x.layer(class_mask)).loss
    _operands.check_reference_alone(axis_name)
    if filter_eps is not None:
        raise ValueError(
            "`filter_eps` and `implementation` 'reference' do not go together: its "
            "gradient is exact. Leave one of them out."
        )
    return as_softmax_loss(
        x.logits(),
        labels,
        logit_margin=np.inf,
        where=where,
        class_mask=class_mask,
        implementation="reference",
    )
