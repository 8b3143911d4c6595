"""AS-Softmax of logits as one TPU kernel: reads them once, writes the gradient once.

A block holds whole rows, so that everything follows from one visit to it. The equations
are those of `kernels/_as_softmax.py`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from as_softmax_jax._core.log_sum_exp import finite_shift, nonzero
from as_softmax_jax._core.margin import Margin

# Rows of whole classes must fit into fast memory: logits and gradient twice each, since
# the next block is fetched while this one is worked on, and three blocks between.
MAX_CLASSES = 32_768


def run(
    logits: jax.Array,
    labels: jax.Array,
    margin: Margin,
    where: jax.Array,
    *,
    with_gradient: bool,
) -> list[jax.Array]:
    """Runs the kernel over blocks of rows: the loss, and the gradient if wanted."""
    num_rows, num_classes = logits.shape
    # A tile of a narrow dtype holds more rows.
    rows = 8 * 4 // logits.dtype.itemsize
    column = pl.BlockSpec((rows, 1), lambda i: (i, 0))
    matrix = pl.BlockSpec((rows, num_classes), lambda i: (i, 0))
    shapes: list[Any] = [jax.ShapeDtypeStruct((num_rows, 1), jnp.float32)]
    specs = [column]
    if with_gradient:
        shapes.append(jax.ShapeDtypeStruct(logits.shape, logits.dtype))
        specs.append(matrix)
    outputs = pl.pallas_call(
        functools.partial(_kernel, in_logits=margin.in_logits),
        out_shape=shapes,
        grid=(pl.cdiv(num_rows, rows),),
        in_specs=[column, column, column, matrix],
        out_specs=specs,
        name="as_softmax_loss",
    )(labels[:, None], margin.value[:, None], where.astype(jnp.int32)[:, None], logits)
    return [outputs[0][:, 0], *outputs[1:]]


def _kernel(
    labels_ref: Any,
    margin_ref: Any,
    where_ref: Any,
    logits_ref: Any,
    *out_refs: Any,
    in_logits: bool,
) -> None:
    """Works on a block of rows."""
    logits = logits_ref[...].astype(jnp.float32)
    margin, valid = Margin(margin_ref[...], in_logits), where_ref[...] != 0
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    is_label = classes == labels_ref[...]
    of_row = functools.partial(jnp.sum, axis=1, keepdims=True)
    label_logit = of_row(jnp.where(is_label, logits, 0.0))
    shift = finite_shift(jnp.max(logits, axis=1, keepdims=True))
    exps = jnp.exp(logits - shift)
    if in_logits:
        gap = margin.gap_in_logits(label_logit)
    else:
        label_prob = jnp.exp(label_logit - shift) / nonzero(of_row(exps))
        gap = margin.gap_in_probs(label_prob)
    kept_exps = jnp.where(logits - label_logit < gap, 0.0, exps)
    total = nonzero(of_row(kept_exps))
    total = jnp.where(gap == gap, total, jnp.nan)  # NaN alone differs from itself
    value = jnp.log(total) - (label_logit - shift)
    out_refs[0][...] = jnp.where(valid, value, 0.0)
    if len(out_refs) > 1:
        gradient = kept_exps / total - is_label.astype(jnp.float32)
        gradient = jnp.where(valid, gradient, 0.0)
        out_refs[1][...] = gradient.astype(out_refs[1].dtype)
