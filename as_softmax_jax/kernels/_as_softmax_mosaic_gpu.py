"""AS-Softmax of logits as one GPU kernel: reads them once, writes the gradient once.

For Hopper and later. A block of threads takes one row into its shared memory, as pieces
of 256 classes since a copy moves no longer ones, and passes over it there: for the
maximum, for the sum of exponentials, for the sum over kept classes, and to put the
gradient in the place of the logits. That row is copied back whole; the label's entry,
from which 1 is taken, is written last. The equations are those of
`kernels/_as_softmax.py`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from as_softmax_jax._core.log_sum_exp import finite_shift, nonzero
from as_softmax_jax._core.margin import Margin, gap_by_log

# A row must fit into shared memory, 227 KiB on Hopper.
MAX_CLASSES = 49_152
# Classes in a piece of a row, and pieces in registers at once: 16 numbers a thread.
_PIECE, _PIECES = 256, 8


def run(
    logits: jax.Array,
    labels: jax.Array,
    margin: Margin,
    where: jax.Array,
    *,
    with_gradient: bool,
) -> list[jax.Array]:
    """Runs the kernel, a row a block: the loss, and the gradient if wanted.

    Classes that are no multiple of 256 are padded first, which is one more copy.
    """
    num_rows, num_classes = logits.shape
    padding = [(0, 0), (0, -num_classes % _PIECE)]
    padded = jnp.pad(logits, padding, constant_values=-jnp.inf)
    padded = padded.reshape(num_rows, -1, _PIECE)
    out_type = [jax.ShapeDtypeStruct((num_rows,), jnp.float32)]
    if with_gradient:
        out_type.append(jax.ShapeDtypeStruct(padded.shape, logits.dtype))
    outputs = plgpu.kernel(
        functools.partial(_kernel, in_logits=margin.in_logits),
        out_type=out_type,
        scratch_types=[plgpu.SMEM(padded.shape[1:], logits.dtype), plgpu.Barrier()],
        grid=(num_rows,),
        grid_names=("row",),
    )(labels, margin.value, where.astype(jnp.int32), padded)
    loss, *gradient = outputs
    return [loss, *(g.reshape(num_rows, -1)[:, :num_classes] for g in gradient)]


def _kernel(
    labels_ref: Any,
    margin_ref: Any,
    where_ref: Any,
    logits_ref: Any,
    *refs: Any,
    in_logits: bool,
) -> None:
    """Works on one row."""
    loss_ref, *gradient_refs, row_ref, barrier_ref = refs
    row = jax.lax.axis_index("row")
    plgpu.copy_gmem_to_smem(logits_ref.at[row], row_ref, barrier_ref)
    plgpu.barrier_wait(barrier_ref)
    label, margin, valid = labels_ref[row], margin_ref[row], where_ref[row] != 0
    place = (label // _PIECE, label % _PIECE)
    label_logit = row_ref[place].astype(jnp.float32)
    over = functools.partial(_over, row_ref)
    shift = finite_shift(over(jnp.maximum, jnp.max, -jnp.inf))
    label_exp = jnp.exp(label_logit - shift)
    if in_logits:
        gap = Margin(margin, in_logits).gap_in_logits(label_logit)
    else:
        total = over(jnp.add, lambda part: jnp.sum(jnp.exp(part - shift)), 0.0)
        gap = gap_by_log(label_exp / nonzero(total), margin)
    # A row that does not count keeps no class, whatever it holds.
    gap = jnp.where(valid, gap, jnp.inf)

    def kept(part: jax.Array) -> jax.Array:
        # NaN compares as False, is kept, and shows in the sum.
        return jnp.where(part - label_logit < gap, 0.0, jnp.exp(part - shift))

    total = nonzero(over(jnp.add, lambda part: jnp.sum(kept(part)), 0.0))
    total = jnp.where(gap == gap, total, jnp.nan)  # NaN alone differs from itself
    loss = jnp.log(total) - (label_logit - shift)
    loss_ref[row] = jnp.where(valid, loss, 0.0)
    for gradient_ref in gradient_refs:
        _write(row_ref, lambda part: kept(part) / total)
        plgpu.commit_smem()
        plgpu.copy_smem_to_gmem(row_ref, gradient_ref.at[row])
        plgpu.wait_smem_to_gmem(0)
        at_label = jnp.where(valid, label_exp / total - 1.0, 0.0)
        gradient_ref[(row, *place)] = at_label.astype(gradient_ref.dtype)


def _over(
    row_ref: Any,
    join: Callable[[jax.Array, jax.Array], jax.Array],
    reduce: Callable[[jax.Array], jax.Array],
    start: float,
) -> jax.Array:
    """Joins what each part of a row comes to."""
    pieces = _pieces_at_once(row_ref)

    def step(i: jax.Array, so_far: jax.Array) -> jax.Array:
        part = row_ref[pl.ds(i * pieces, pieces)].astype(jnp.float32)
        return join(so_far, reduce(part))

    return jax.lax.fori_loop(
        np.int32(0), np.int32(row_ref.shape[0] // pieces), step, jnp.float32(start)
    )


def _write(row_ref: Any, change: Callable[[jax.Array], jax.Array]) -> None:
    """Changes each part of a row in place."""
    pieces = _pieces_at_once(row_ref)

    def step(i: jax.Array, nothing: None) -> None:
        at = pl.ds(i * pieces, pieces)
        part = row_ref[at].astype(jnp.float32)
        row_ref[at] = change(part).astype(row_ref.dtype)
        return nothing

    trips = np.int32(row_ref.shape[0] // pieces)
    jax.lax.fori_loop(np.int32(0), trips, step, None)


def _pieces_at_once(row_ref: Any) -> int:
    """Returns how many pieces of a row are worked on at once."""
    return math.gcd(row_ref.shape[0], _PIECES)
