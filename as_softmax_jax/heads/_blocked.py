"""A blocked head with its gradient rule: rows laid out, passed over, differentiated."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from as_softmax_jax import kernels
from as_softmax_jax._core.cosine_margin import CosineMargin
from as_softmax_jax._core.margin import Margin
from as_softmax_jax._core.mesh import as_varying, is_tracked, varying_axes
from as_softmax_jax.heads import _dense, _passes
from as_softmax_jax.heads._blocks import ROW_SIZES, Layer
from as_softmax_jax.heads._operands import Inputs
from as_softmax_jax.heads._rows import Program, Rows, Statistics


class RowStatistics(NamedTuple):
    """What one pass says of each row [...]; only the loss has a gradient."""

    loss: jax.Array  # as of `linear_as_softmax_loss`
    settled: jax.Array  # bool, as of `as_softmax_settled`
    # The label's logit less the strongest other one, in a row that counts.
    label_lead: jax.Array
    # bool, that none is stronger, before any margin of the label's cosine.
    correct: jax.Array


def statistics(
    program: Program,
    x: Inputs,
    layer: Layer,
    cosine_margin: CosineMargin | None = None,
) -> RowStatistics:
    """Returns what the passes tell of each row.

    Args:
      program: what shapes it.
      x: checked and clean arguments.
      layer: of these.
      cosine_margin: [...], where logits are cosines.
    """
    if program.first_pass in _passes.KERNELS:
        _check_kernel(program.first_pass, x.features, layer.class_mask)
    with kernels.backward_only():
        return _blocked(
            program, x.features, layer, x.labels, x.margin, x.where, cosine_margin
        )


def _check_kernel(name: str, features: jax.Array, mask: jax.Array | None) -> None:
    """Refuses what a kernel does not serve."""
    kernels.require_device(name)
    dtype, width = features.dtype, features.shape[-1]
    served, what = dtype != jnp.float64, "no float64"
    if name == "mosaic_gpu":
        most = _passes.KERNELS[name].MAX_WIDTH
        served = dtype.itemsize == 2 and width <= most
        what = f"bfloat16 or float16, and up to {most} features"
    if not served:
        raise ValueError(
            f"`implementation` {name!r} takes {what}; got {width} features in {dtype}. "
            "Leave `implementation` out."
        )
    if mask is not None and mask.shape[0] > 1:
        raise ValueError(
            f"`implementation` {name!r} takes one class mask [C] for all rows. Leave "
            "`implementation` out."
        )


@functools.partial(jax.jit, static_argnames="program")
def _blocked(
    program: Program,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    where: jax.Array | None,
    cosine_margin: CosineMargin | None,
) -> RowStatistics:
    """Lays rows out for the passes: on one axis, those that count first, padded."""
    shape, num_rows = labels.shape, labels.size
    if not num_rows:
        none = jnp.zeros(shape, margin.value.dtype)
        return RowStatistics(none, none == 0, none, none == 0)
    features = features.reshape(num_rows, features.shape[-1])
    labels, margin, cosine_margin = jax.tree.map(
        lambda rows: rows.reshape(-1), (labels, margin, cosine_margin)
    )
    order, num_valid = None, jnp.asarray(num_rows, jnp.int32)
    if where is not None:
        where = where.reshape(-1)
        order = jnp.argsort(~where, stable=True)
        num_valid = jnp.sum(where, dtype=jnp.int32)
    # Of a symbolic number of rows each chunk must be known to fit.
    known = isinstance(num_rows, int)
    chunk = ROW_SIZES[-1 if known else 0]
    spare = (num_rows + chunk - 1) // chunk * chunk - num_rows

    def lay_out(rows: jax.Array, filler: int = 0) -> jax.Array:
        rows = rows if order is None else rows[order]
        sides = [(0, spare)] + [(0, 0)] * (rows.ndim - 1)
        return jnp.pad(rows, sides, constant_values=filler)

    mask = layer.class_mask
    if mask is not None and mask.shape[0] > 1:
        layer = layer._replace(class_mask=lay_out(mask))
    # A scale of 0 would be divided by, in rows that only fill up.
    cosine_margin = jax.tree.map(functools.partial(lay_out, filler=1), cosine_margin)
    # Each device differentiates its own rows and classes; what devices share is summed
    # up outside the gradient rule. What is the same along `axis_name` stays so.
    rows = *jax.tree.map(lay_out, (labels, margin)), num_valid, cosine_margin
    operands = lay_out(features), layer
    axes = varying_axes((operands, rows))
    own = () if program.axis_name is None else (program.axis_name,)
    along = tuple(axis for axis in axes if axis not in own)
    operands = jax.tree.map(lambda leaf: as_varying(leaf, (*along, *own)), operands)
    rows = jax.tree.map(lambda leaf: as_varying(leaf, along), rows)
    static = _Static(program, num_rows if where is None and known else None)
    statistics = _cross_entropy(static, *operands, *rows)
    back = slice(num_rows) if order is None else jnp.argsort(order)
    return jax.tree.map(lambda rows: rows[back].reshape(shape), statistics)


class _Static(NamedTuple):
    """What shapes the program, and how many rows count where that is known."""

    program: Program
    num_valid: int | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cross_entropy(
    static: _Static,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
    cosine_margin: CosineMargin | None,
) -> RowStatistics:
    """The loss of each row, with the gradient rule below."""
    return _pass(static, features, layer, labels, margin, num_valid, cosine_margin)[0]


def _pass(
    static: _Static,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
    cosine_margin: CosineMargin | None,
) -> tuple[RowStatistics, tuple[Any, ...]]:
    """Returns the loss, and what the gradient needs: a few numbers a row."""
    rows = _rows(static, features, labels, margin, num_valid, cosine_margin)
    found = _statistics(static.program, *jax.lax.stop_gradient((layer, rows)))
    saved = features, layer, labels, margin, num_valid, cosine_margin, found
    loss = _dense.losses(static.program, layer, rows, found)
    settled = found.gap == jnp.inf
    return RowStatistics(loss, settled, found.label_lead, found.correct), saved


def _statistics(program: Program, layer: Layer, rows: Rows) -> Statistics:
    found = _passes.classify_rows(program, layer, rows)
    return _passes.kept_sum(program, layer, rows, found)


def _forward(
    static: _Static,
    features: jax.Array,
    layer: Layer,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
    cosine_margin: CosineMargin | None,
) -> tuple[RowStatistics, tuple[Any, ...]]:
    """What `_pass` returns, where its gradient is asked for."""
    axis_name = static.program.axis_name
    if axis_name is not None and not is_tracked(axis_name):
        raise ValueError(
            f"`axis_name` {axis_name!r} has no gradient where JAX does not track what "
            "varies over devices, for it could be too small by their number; got "
            "`jax.shard_map` with `check_vma=False`, `jax.pmap` or `jax.vmap`. Use "
            "`jax.shard_map` with `check_vma=True`, its default."
        )
    return _pass(static, features, layer, labels, margin, num_valid, cosine_margin)


def _backward(
    static: _Static, saved: tuple[Any, ...], cotangents: RowStatistics
) -> tuple[jax.Array, Layer, None, None, None, CosineMargin | None]:
    """Returns the gradients of features and layer, and of scale and margins."""
    features, layer, labels, margin, num_valid, cosine_margin, s = saved
    rows = _rows(static, features, labels, margin, num_valid, cosine_margin)
    found = _dense.gradients(static.program, layer, rows, s, cotangents.loss)
    d_features = found.features.astype(features.dtype)
    d_layer = Layer(found.kernel, found.bias, None)
    return d_features, d_layer, None, None, None, found.cosine_margin


_cross_entropy.defvjp(_forward, _backward)


def _rows(
    static: _Static,
    features: jax.Array,
    labels: jax.Array,
    margin: Margin,
    num_valid: jax.Array,
    cosine_margin: CosineMargin | None,
) -> Rows:
    count = num_valid if static.num_valid is None else static.num_valid
    return Rows(features, labels, margin, count, cosine_margin).with_scale()
