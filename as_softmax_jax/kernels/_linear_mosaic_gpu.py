r"""The first pass over an output layer's logits as a GPU kernel that stores none.

For Hopper, whose tensor cores multiply what lies in shared memory. A block of threads
takes 128 rows and one block of classes, 64 of them at a time. Their columns of the
kernel stream through a ring of slots while the features stay; the logits, o = xW + b,
stand in registers only. Of each row it keeps the strongest logit m but the label's, the
sum s of exponentials relative to it, and the label's own logit:

.. math::
  m' = \max(m, \max_i o_i), \qquad
  s' = s \, e^{m - m'} + \textstyle\sum_i e^{o_i - m'}

over the classes i but the label, and of these only those within the row's bound where
it has one. These three numbers a row and block of classes are
written, and joined over blocks afterwards by the same rule. The strongest logits of the
blocks are an answer, too: the passes that follow visit the blocks that hold kept
classes and no other (`as_softmax_jax.heads._passes`).
"""

import functools
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from as_softmax_jax._core.log_sum_exp import finite_shift
from as_softmax_jax.kernels._linear import Bound, OnlineSums, filled_in

# The features of 128 rows must fit into shared memory, together with the ring.
MAX_WIDTH = 768
_ROWS, _CLASSES, _DEPTH, _SLOTS = 128, 64, 64, 3
# How the tensor cores expect rows of 64 narrow numbers in shared memory.
_TILES = (plgpu.TilingTransform((8, _DEPTH)), plgpu.SwizzleTransform(128))
_OF_ROWS, _OF_CLASSES = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA.reduce(0)
# jax before 0.12 wants an index.
_INDEX = ((),) if "idx" in inspect.signature(plgpu.load).parameters else ()


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

    What does not divide is padded: rows to 128, features to 64, classes to a block.
    Where a kernel's classes do not, that is a copy of it.

    Args:
      features: [N, D] bfloat16 or float16, D at most `MAX_WIDTH`.
      kernel: [D, C] in layout "dc", [C, D] in "cd"; in the features' dtype.
      bias: [C] float32, or None.
      class_mask: [1, C] bool, the valid classes; a label counts all the same.
      labels: [N] int32; -1 where there is none.
      bound: of the classes that enter the sum; None: all do.
      layout: of the kernel.
      classes: in a block, a multiple of 64.

    Returns:
      The sums over all classes, and the strongest logit but the label's of each block
      of classes, [N, blocks].
    """
    (num_rows, width), num_classes = features.shape, kernel.shape[layout.index("c")]
    bias, mask, bound = filled_in(bias, class_mask, bound, num_rows, num_classes)
    rows, depth, spare = -num_rows % _ROWS, -width % _DEPTH, -num_classes % classes
    features = jnp.pad(features, [(0, rows), (0, depth)])
    padding = {"d": (0, depth), "c": (0, spare)}
    kernel = jnp.pad(kernel, [padding[axis] for axis in layout])
    parts, blocks = features.shape[1] // _DEPTH, (num_classes + spare) // classes
    strip = (_DEPTH, _CLASSES) if layout == "dc" else (_CLASSES, _DEPTH)
    dtype, shape = features.dtype, (blocks, len(features))
    best, total, label_logit = plgpu.kernel(
        functools.partial(_kernel, layout=layout, classes=classes),
        out_type=[jax.ShapeDtypeStruct(shape, jnp.float32)] * 3,
        scratch_types=[
            plgpu.SMEM((parts, _ROWS, _DEPTH), dtype, transforms=_TILES),
            plgpu.SMEM((_SLOTS, *strip), dtype, transforms=_TILES),
            plgpu.SMEM((3, _ROWS), jnp.float32),
            plgpu.Barrier(num_arrivals=parts),
            plgpu.Barrier(num_barriers=_SLOTS),
        ],
        grid=(blocks, len(features) // _ROWS),
        grid_names=("block", "rows"),
    )(
        jnp.pad(labels, (0, rows), constant_values=-1),
        *(jnp.pad(array, (0, rows)) for array in bound),
        jnp.pad(bias, (0, spare)),
        jnp.pad(mask, (0, spare)),
        features,
        kernel,
    )
    strongest = jnp.max(best, axis=0)
    shift = finite_shift(strongest)
    total = jnp.sum(total * jnp.exp(best - shift[None]), axis=0)
    sums = OnlineSums(strongest, total, jnp.sum(label_logit, axis=0))
    return jax.tree.map(lambda array: array[:num_rows], (sums, best.T))


def _kernel(
    labels_ref: Any,
    bound_label_ref: Any,
    gap_ref: Any,
    bias_ref: Any,
    mask_ref: Any,
    features_ref: Any,
    kernel_ref: Any,
    best_ref: Any,
    total_ref: Any,
    label_ref: Any,
    rows_ref: Any,
    ring_ref: Any,
    result_ref: Any,
    rows_barrier: Any,
    ring_barrier: Any,
    *,
    layout: str,
    classes: int,
) -> None:
    """Works on 128 rows and a block of classes; see the module's equations."""
    block = jax.lax.axis_index("block")
    rows = pl.ds(jax.lax.axis_index("rows") * _ROWS, _ROWS)
    parts, steps = rows_ref.shape[0], classes // _CLASSES
    first = block * classes
    ring = _Ring(kernel_ref, ring_ref, ring_barrier, layout, first, parts, steps)

    def add_step(step: Any, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        start = first + step * _CLASSES
        sums_type = plgpu.WGMMAAccumulatorRef((_ROWS, _CLASSES), jnp.float32)
        multiply = functools.partial(_multiply, ring, rows_ref, step)
        logits = pl.run_scoped(multiply, sums_type)
        span = pl.ds(start, _CLASSES)
        logits += _across(_load(bias_ref.at[span], _OF_CLASSES))
        is_valid = _across(_load(mask_ref.at[span], _OF_CLASSES)) != 0
        return _add_logits(sums, logits, is_valid, _down(labels) - start, bound)

    for part in range(parts):
        source = features_ref.at[rows, pl.ds(part * _DEPTH, _DEPTH)]
        plgpu.copy_gmem_to_smem(source, rows_ref.at[part], rows_barrier)
    for number in range(min(_SLOTS - 1, steps * parts)):
        _fetch(ring, jnp.int32(number))
    labels = _load(labels_ref.at[rows], _OF_ROWS)
    bound = Bound(*(_load(r.at[rows], _OF_ROWS) for r in (bound_label_ref, gap_ref)))
    plgpu.barrier_wait(rows_barrier)
    zero = plgpu.layout_cast(jnp.zeros(_ROWS, jnp.float32), _OF_ROWS)
    low = plgpu.layout_cast(jnp.full(_ROWS, -jnp.inf, jnp.float32), _OF_ROWS)
    sums = (low, zero, zero)
    sums = jax.lax.fori_loop(jnp.int32(0), jnp.int32(steps), add_step, sums)
    for number, array in enumerate(sums):
        result_ref[number] = array
    plgpu.commit_smem()
    for number, ref in enumerate((best_ref, total_ref, label_ref)):
        plgpu.copy_smem_to_gmem(result_ref.at[number], ref.at[block, rows])
    plgpu.wait_smem_to_gmem(0)


class _Ring(NamedTuple):
    """Strips of the kernel on their way: 64 features of 64 classes each."""

    source: Any  # the kernel, in global memory
    slots: Any  # in shared memory
    barriers: Any  # of the slots
    layout: str
    first: Any  # class of the block
    parts: int  # strips for one step, which all features take
    steps: int  # strips of 64 classes in the block


def _fetch(ring: _Ring, number: Any) -> None:
    """Asks for a strip."""
    step, part = number // ring.parts, number % ring.parts
    spans = {
        "d": pl.ds(part * _DEPTH, _DEPTH),
        "c": pl.ds(ring.first + step * _CLASSES, _CLASSES),
    }
    slot = number % _SLOTS
    source = ring.source.at[tuple(spans[axis] for axis in ring.layout)]
    plgpu.copy_gmem_to_smem(source, ring.slots.at[slot], ring.barriers.at[slot])


def _multiply(ring: _Ring, rows_ref: Any, step: Any, sums_ref: Any) -> jax.Array:
    """Returns the logits of one step, and asks for the strips of the next."""

    def add(part: Any, nothing: None) -> None:
        del nothing
        number = step * ring.parts + part
        slot = number % _SLOTS
        plgpu.barrier_wait(ring.barriers.at[slot])
        strip = ring.slots.at[slot]
        strip = strip if ring.layout == "dc" else strip.transpose((1, 0))
        plgpu.wgmma(sums_ref, rows_ref.at[part], strip)
        ahead = number + _SLOTS - 1

        @pl.when(ahead < ring.steps * ring.parts)
        def _() -> None:
            plgpu.wgmma_wait(1)  # who read the slot last is done
            _fetch(ring, ahead)

    jax.lax.fori_loop(jnp.int32(0), jnp.int32(ring.parts), add, None)
    return sums_ref[...]


def _add_logits(
    sums: tuple[jax.Array, ...],
    logits: jax.Array,
    is_valid: jax.Array,
    places: jax.Array,
    bound: Bound,
) -> tuple[jax.Array, ...]:
    """Returns best, total and label's logit of rows with some more logits added."""
    best, total, label_logit = sums
    number = plgpu.broadcasted_iota(
        jnp.int32, logits.shape, 1, layout=plgpu.Layout.WGMMA
    )
    is_label = number == places
    label_logit += jnp.sum(jnp.where(is_label, logits, 0.0), axis=1)
    rivals = jnp.where(is_valid, logits, -jnp.inf)
    rivals = jnp.where(is_label, -jnp.inf, rivals)
    strongest = jnp.maximum(best, jnp.max(rivals, axis=1))
    shift = finite_shift(strongest)
    dropped = rivals - _down(finite_shift(bound.label_logit)) < _down(bound.gap)
    new = jnp.sum(jnp.where(dropped, 0.0, jnp.exp(rivals - _down(shift))), axis=1)
    return strongest, total * jnp.exp(best - shift) + new, label_logit


def _load(ref: Any, layout: Any) -> jax.Array:
    """Loads a vector from global memory, laid out as rows or columns of logits are."""
    return plgpu.load(ref, *_INDEX, layout=layout, optimized=False)


def _across(vector: jax.Array) -> jax.Array:
    """Returns [128, 64] with a number a class."""
    return jax.lax.broadcast_in_dim(vector, (_ROWS, _CLASSES), (1,))


def _down(vector: jax.Array) -> jax.Array:
    """Returns [128, 64] with a number a row."""
    return jax.lax.broadcast_in_dim(vector, (_ROWS, _CLASSES), (0,))
