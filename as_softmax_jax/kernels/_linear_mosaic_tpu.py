r"""The first pass over an output layer's logits as a TPU kernel that stores none.

The grid goes over blocks of rows and, within, over 512 classes at a time. A step forms
their logits on the matrix unit, o = xW + b, and keeps of each row, in scratch
memory, the strongest logit m but the label's, the sum s of exponentials relative to it,
and the label's own logit:

.. math::
  m' = \max(m, \max_i o_i), \qquad
  s' = s \, e^{m - m'} + \textstyle\sum_i e^{o_i - m'}

over the classes i of the step but the label, and of these only those within the row's
bound where it has one. The strongest logit of each block of
classes, some steps, is written, too: with it the passes that follow visit the blocks
that hold kept classes and no other (`as_softmax_jax.heads._passes`).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from as_softmax_jax._core.log_sum_exp import finite_shift
from as_softmax_jax.kernels._linear import Bound, OnlineSums, filled_in

# Of one step; a kernel's columns lie in fast memory twice, one set on its way.
_ROWS, _CLASSES = 256, 512
_LOW = float("-inf")


def online_log_sum_exp(
    features: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    class_mask: jax.Array | None,
    labels: jax.Array,
    bound: Bound | None,
    *,
    layout: str,
    classes: int,
) -> tuple[OnlineSums, jax.Array]:
    """Passes over every logit once, by an online log-sum-exp.

    Args:
      features: [N, D] float32, bfloat16 or float16.
      kernel: [D, C] in layout "dc", [C, D] in "cd"; in the features' dtype.
      bias: [C] float32, or None.
      class_mask: [1, C] bool, the valid classes; a label counts all the same.
      labels: [N] int32; -1 where there is none.
      bound: of the classes that enter the sum; None: all do.
      layout: of the kernel.
      classes: in a block, a multiple of 512.

    Returns:
      The sums over all classes, and the strongest logit but the label's of each block
      of classes, [N, blocks].
    """
    num_rows, width = features.shape
    num_classes = kernel.shape[layout.index("c")]
    steps, rows = pl.cdiv(num_classes, _CLASSES), min(_ROWS, num_rows)
    blocks = pl.cdiv(num_classes, classes)
    bias, mask, bound = filled_in(bias, class_mask, bound, num_rows, num_classes)
    across = pl.BlockSpec((1, _CLASSES), lambda i, j: (0, j))
    column = pl.BlockSpec((rows, 1), lambda i, j: (i, 0))
    row = pl.BlockSpec((rows, width), lambda i, j: (i, 0))
    part = {
        "dc": pl.BlockSpec((width, _CLASSES), lambda i, j: (0, j)),
        "cd": pl.BlockSpec((_CLASSES, width), lambda i, j: (j, 0)),
    }
    number = jax.ShapeDtypeStruct((num_rows, 1), jnp.float32)
    best, total, label_logit, block_best = pl.pallas_call(
        functools.partial(
            _kernel,
            layout=layout,
            num_classes=num_classes,
            steps_a_block=classes // _CLASSES,
        ),
        out_shape=[*[number] * 3, number.update(shape=(num_rows, blocks))],
        grid=(pl.cdiv(num_rows, rows), steps),
        in_specs=[row, part[layout], across, across, *[column] * 3],
        out_specs=[*[column] * 3, pl.BlockSpec((rows, blocks), lambda i, j: (i, 0))],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary")
        ),
        name="linear_as_softmax_online_log_sum_exp",
    )(
        features,
        kernel,
        bias[None],
        mask[None],
        labels[:, None],
        *(array[:, None] for array in bound),
    )
    return OnlineSums(best[:, 0], total[:, 0], label_logit[:, 0]), block_best


def _kernel(
    features_ref: Any,
    kernel_ref: Any,
    bias_ref: Any,
    mask_ref: Any,
    labels_ref: Any,
    bound_label_ref: Any,
    gap_ref: Any,
    best_ref: Any,
    total_ref: Any,
    label_ref: Any,
    blocks_ref: Any,
    *,
    layout: str,
    num_classes: int,
    steps_a_block: int,
) -> None:
    """Works on a block of rows and some classes; see the module's equations."""
    step = pl.program_id(1)

    @pl.when(step == 0)
    def _() -> None:
        best_ref[...] = jnp.full(best_ref.shape, _LOW, jnp.float32)
        total_ref[...] = jnp.zeros(total_ref.shape, jnp.float32)
        label_ref[...] = jnp.zeros(label_ref.shape, jnp.float32)
        blocks_ref[...] = jnp.full(blocks_ref.shape, _LOW, jnp.float32)

    logits = jax.lax.dot_general(
        features_ref[...],
        kernel_ref[...],
        (((1,), (layout.index("d"),)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    logits += bias_ref[...]
    first = step * logits.shape[1]
    number = first + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    is_label = number == labels_ref[...]
    at_label = jnp.sum(jnp.where(is_label, logits, 0.0), axis=1, keepdims=True)
    label_ref[...] += at_label
    # Columns past the last class hold anything.
    is_rival = ~is_label & (mask_ref[...] != 0) & (number < num_classes)
    rivals = jnp.where(is_rival, logits, _LOW)
    strongest = jnp.max(rivals, axis=1, keepdims=True)
    best = jnp.maximum(best_ref[...], strongest)
    shift = finite_shift(best)
    dropped = rivals - finite_shift(bound_label_ref[...]) < gap_ref[...]
    exps = jnp.where(dropped, 0.0, jnp.exp(rivals - shift))
    sums = jnp.sum(exps, axis=1, keepdims=True)
    total_ref[...] = total_ref[...] * jnp.exp(best_ref[...] - shift) + sums
    best_ref[...] = best
    column = jax.lax.broadcasted_iota(jnp.int32, blocks_ref.shape, 1)
    is_block = column == step // steps_a_block
    blocks_ref[...] = jnp.maximum(blocks_ref[...], jnp.where(is_block, strongest, _LOW))
