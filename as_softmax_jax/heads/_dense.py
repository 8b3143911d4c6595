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

from as_softmax_jax._core.cosine_margin import CosineMargin
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax._core.log_sum_exp import exp
from as_softmax_jax._core.nan import nan_where, replaced
from as_softmax_jax.heads import _gradients
from as_softmax_jax.heads._blocks import Layer, Span
from as_softmax_jax.heads._rows import Program, Rows, Statistics, rivals_of


class _Operands(NamedTuple):
    """What the loss is differentiated by."""

    features: jax.Array  # [N, D]
    kernel: jax.Array
    bias: jax.Array | None
    cosine_margin: CosineMargin | None


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def losses(program: Program, layer: Layer, rows: Rows, s: Statistics) -> jax.Array:
    """Returns `Statistics.losses`, differentiable."""
    del program, layer, rows
    return s.losses()


@losses.defjvp
def _losses_jvp(program: Program, primals: Any, tangents: Any) -> Any:
    layer, rows, s = primals
    operands, changes = _operands(layer, rows), _operands(*tangents[:2])
    loss_of = functools.partial(_plain_losses, program, layer, rows, s)
    _, change = jax.jvp(loss_of, (operands,), (changes,))
    return losses(program, *primals), change


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def gradients(
    program: Program, layer: Layer, rows: Rows, s: Statistics, cotangent: jax.Array
) -> _gradients.Gradients:
    """Returns `_gradients.gradients`, differentiable."""
    return _gradients.gradients(program, layer, rows, s, cotangent)


@gradients.defjvp
def _gradients_jvp(program: Program, primals: Any, tangents: Any) -> Any:
    layer, rows, s, cotangent = primals
    operands, changes = _operands(layer, rows), _operands(*tangents[:2])
    loss_of = functools.partial(_plain_losses, program, layer, rows, s)

    def plain(operands: _Operands, cotangent: jax.Array) -> _Operands:
        return jax.vjp(loss_of, operands)[1](cotangent)[0]

    _, change = jax.jvp(plain, (operands, cotangent), (changes, tangents[3]))
    value = gradients(program, *primals)
    cast = jax.tree.map(lambda c, v: c.astype(v.dtype), tuple(change), tuple(value))
    return value, _gradients.Gradients(*cast)


def _operands(layer: Layer, rows: Rows) -> _Operands:
    return _Operands(rows.features, layer.kernel, layer.bias, rows.cosine_margin)


def _plain_losses(
    program: Program, layer: Layer, rows: Rows, s: Statistics, operands: _Operands
) -> jax.Array:
    """Returns the loss of each row over the classes that it keeps."""
    bad = jnp.isnan(s.gap)
    zero, one = (jnp.full((), value, s.gap.dtype) for value in (0, 1))
    gap = jnp.where(bad, jnp.inf, s.gap)
    label, shift = (jnp.where(bad, zero, a) for a in (s.label_logit, s.shift))
    nothing = jnp.zeros((), operands.features.dtype)
    rows = rows._replace(
        features=replaced(bad[:, None], operands.features, nothing),
        cosine_margin=jax.tree.map(
            lambda a: replaced(bad, a, one), operands.cosine_margin
        ),
    ).with_scale()
    whole = Span(np.int32(0), np.int32(0), program.num_classes)
    layer = layer._replace(kernel=operands.kernel, bias=operands.bias)
    block, places = program.block(layer, whole), whole.places_of(rows.labels)
    (rivals, _), logits = rivals_of(program, block, rows, places, lambda array: array)
    kept = ~(rivals - label[:, None] < gap[:, None])
    exps = jnp.where(kept, exp(jnp.where(kept, rivals, zero) - shift[:, None]), zero)
    total = jnp.sum(exps, axis=1)
    own = jnp.take_along_axis(
        logits, jnp.minimum(places, program.num_classes - 1)[:, None], axis=1
    )
    own = jnp.where(places < program.num_classes, own[:, 0], zero)
    if program.axis_name is not None:
        total, own = lax.psum((total, own), program.axis_name)
    alone = total == 0
    odds = jnp.log(jnp.where(alone, one, total)) - (rows.lowered(own) - shift)
    lost = jnp.where(own == -jnp.inf, jnp.inf, zero)
    loss = jnp.where(alone, lost, softplus(jnp.where(alone, zero, odds)))
    return nan_where(bad, loss)
