r"""AS-Softmax of logits as one TPU kernel: reads them once, writes the gradient once.

A block holds whole rows, so that everything follows from one visit to it. With logits
o, label t, margin delta, all in float32,

.. math::
  m = \max_i o_i, \quad e_i = e^{o_i - m}, \quad p_t = e_t / \textstyle\sum_i e_i,
  \quad g = \log(1 - \delta / p_t)

  k_i = e_i \, [\, o_i - o_t \ge g \,], \quad s = \textstyle\sum_i k_i, \quad
  \ell = \log s - (o_t - m), \quad \partial \ell / \partial o_i = k_i / s - [i = t]

with g = -inf where p_t <= delta. In a settled row k is 0 but at the label, which is the
maximum: s = 1, the loss is exactly 0 and so is the gradient. A row with a NaN, or with
a NaN margin, has a NaN gap; it keeps every class and is NaN throughout.

The forward pass forms the gradient already; the backward pass scales it by the row's
cotangent. That is one read and one write of [N, C], and one of each to scale, against
three reads and two writes of a forward pass that stores probabilities.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

# Rows of whole classes must fit into fast memory: logits and gradient twice each, since
# the next block is fetched while this one is worked on, and three blocks between.
MAX_CLASSES = 32_768


@jax.custom_vjp
def loss(
    logits: jax.Array, labels: jax.Array, delta: jax.Array, where: jax.Array
) -> jax.Array:
    """Returns the loss of each row.

    Args:
      logits: [N, C] float32, bfloat16 or float16; C at most `MAX_CLASSES`.
      labels: [N] int32 in [0, C).
      delta: [N] float32, NaN for a row whose loss is NaN.
      where: [N] bool, rows that count.

    Returns:
      [N] float32.
    """
    return _call(logits, labels, delta, where, with_gradient=False)[0]


def _forward(
    logits: jax.Array, labels: jax.Array, delta: jax.Array, where: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    value, gradient = _call(logits, labels, delta, where, with_gradient=True)
    return value, (gradient, where)


def _backward(
    saved: tuple[jax.Array, jax.Array], cotangent: jax.Array
) -> tuple[jax.Array, None, None, None]:
    gradient, where = saved
    # A row that is left out has a gradient of 0, whatever its cotangent.
    scale = jnp.where(where, cotangent, 0.0)[:, None]
    scaled = gradient.astype(jnp.float32) * scale
    return scaled.astype(gradient.dtype), None, None, None


loss.defvjp(_forward, _backward)


def _call(
    logits: jax.Array,
    labels: jax.Array,
    delta: jax.Array,
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
        _kernel,
        out_shape=shapes,
        grid=(pl.cdiv(num_rows, rows),),
        in_specs=[column, column, column, matrix],
        out_specs=specs,
        name="as_softmax_loss",
    )(labels[:, None], delta[:, None], where.astype(jnp.int32)[:, None], logits)
    return [outputs[0][:, 0], *outputs[1:]]


def _kernel(
    labels_ref: Any, delta_ref: Any, where_ref: Any, logits_ref: Any, *out_refs: Any
) -> None:
    """Works on a block of rows; see the module's equations."""
    logits = logits_ref[...].astype(jnp.float32)
    delta, valid = delta_ref[...], where_ref[...] != 0
    classes = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    is_label = classes == labels_ref[...]
    of_row = functools.partial(jnp.sum, axis=1, keepdims=True)
    label_logit = of_row(jnp.where(is_label, logits, 0.0))
    shift = jnp.max(logits, axis=1, keepdims=True)
    shift = jnp.where(shift == -jnp.inf, 0.0, shift)
    exps = jnp.exp(logits - shift)
    label_prob = jnp.exp(label_logit - shift) / _nonzero(of_row(exps))
    gap = jnp.log1p(-delta / label_prob)
    gap = jnp.where(label_prob <= delta, -jnp.inf, gap)
    kept_exps = jnp.where(logits - label_logit < gap, 0.0, exps)
    total = _nonzero(of_row(kept_exps))
    total = jnp.where(gap == gap, total, jnp.nan)  # NaN alone differs from itself
    value = jnp.log(total) - (label_logit - shift)
    out_refs[0][...] = jnp.where(valid, value, 0.0)
    if len(out_refs) > 1:
        gradient = kept_exps / total - is_label.astype(jnp.float32)
        gradient = jnp.where(valid, gradient, 0.0)
        out_refs[1][...] = gradient.astype(out_refs[1].dtype)


def _nonzero(total: jax.Array) -> jax.Array:
    """Returns a sum of exponentials, 1 where every one of them is 0."""
    return jnp.where(total == 0.0, 1.0, total)
