"""The layer and its loss by all logits at once, which higher derivatives take.

The blocked passes have a gradient rule, and loops whose trip counts are known only when
the program runs, which cannot be differentiated again. Derivatives of the loss beyond
the first, and of the gradient, are those of the plain formula here; which classes are
kept is taken from the passes. This holds the logits of every row.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from as_softmax_jax._core.log_sum_exp import exp, nonzero
from as_softmax_jax._core.nan import nan_where, replaced
from as_softmax_jax.heads import _passes
from as_softmax_jax.heads._blocks import Layer, Span


class _Operands(NamedTuple):
    """What the loss is differentiated by."""

    features: jax.Array  # [N, D]
    kernel: jax.Array
    bias: jax.Array | None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def losses(
    program: _passes.Program,
    layer: Layer,
    rows: _passes.Rows,
    s: _passes.Statistics,
) -> jax.Array:
    """Returns `_passes.losses`, differentiable."""
    del program, layer, rows
    return _passes.losses(s)


@losses.defjvp
def _losses_jvp(program: _passes.Program, primals: Any, tangents: Any) -> Any:
    layer, rows, s = primals
    operands, changes = _operands(layer, rows), _operands(*tangents[:2])
    loss_of = functools.partial(_plain_losses, program, layer, rows, s)
    _, change = jax.jvp(loss_of, (operands,), (changes,))
    return losses(program, *primals), change


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def gradients(
    program: _passes.Program,
    layer: Layer,
    rows: _passes.Rows,
    s: _passes.Statistics,
    cotangent: jax.Array,
) -> _passes.Gradients:
    """Returns `_passes.gradients`, differentiable."""
    return _passes.gradients(program, layer, rows, s, cotangent)


@gradients.defjvp
def _gradients_jvp(program: _passes.Program, primals: Any, tangents: Any) -> Any:
    layer, rows, s, cotangent = primals
    operands, changes = _operands(layer, rows), _operands(*tangents[:2])
    loss_of = functools.partial(_plain_losses, program, layer, rows, s)

    def plain(operands: _Operands, cotangent: jax.Array) -> _Operands:
        return jax.vjp(loss_of, operands)[1](cotangent)[0]

    _, change = jax.jvp(plain, (operands, cotangent), (changes, tangents[3]))
    value = gradients(program, *primals)
    cast = jax.tree.map(lambda c, v: c.astype(v.dtype), tuple(change), tuple(value))
    return value, _passes.Gradients(*cast)


def _operands(layer: Layer, rows: _passes.Rows) -> _Operands:
    return _Operands(rows.features, layer.kernel, layer.bias)


def _plain_losses(
    program: _passes.Program,
    layer: Layer,
    rows: _passes.Rows,
    s: _passes.Statistics,
    operands: _Operands,
) -> jax.Array:
    """Returns the loss of each row over the classes that it keeps."""
    bad = jnp.isnan(s.gap)
    zero = jnp.zeros((), s.gap.dtype)
    gap = jnp.where(bad, jnp.inf, s.gap)
    label, shift = (jnp.where(bad, zero, a) for a in (s.label_logit, s.shift))
    nothing = jnp.zeros((), operands.features.dtype)
    features = replaced(bad[:, None], operands.features, nothing)
    whole = Span(np.int32(0), np.int32(0), program.num_classes)
    layer = layer._replace(kernel=operands.kernel, bias=operands.bias)
    block = layer.block(whole, program.layout)
    logits, places = block.logits(features), whole.places_of(rows.labels)
    rivals = _passes.rivals_of(logits, places, block.class_mask)
    kept = ~(rivals - label[:, None] < gap[:, None])
    exps = jnp.where(kept, exp(jnp.where(kept, rivals, zero) - shift[:, None]), zero)
    total = jnp.sum(exps, axis=1)
    own = jnp.take_along_axis(
        logits, jnp.minimum(places, program.num_classes - 1)[:, None], axis=1
    )
    own = jnp.where(places < program.num_classes, own[:, 0], zero)
    if program.axis_name is not None:
        total, own = lax.psum((total, own), program.axis_name)
    total = nonzero(total + jnp.exp(own - shift))
    return nan_where(bad, jnp.log(total) - (own - shift))
