"""The backward pass over the blocks of logits; `_passes` has its equations."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from as_softmax_jax._core.cosine_margin import CosineMargin
from as_softmax_jax._core.log_sum_exp import nonzero
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax._core.norms import inverse_norm
from as_softmax_jax.heads._blocks import (
    ROW_SIZES,
    Layer,
    Span,
    dot,
    filled,
    for_blocks,
    for_rows,
    put,
)
from as_softmax_jax.heads._centers import at_centers, nearest
from as_softmax_jax.heads._passes import GATHERED
from as_softmax_jax.heads._rows import (
    Pick,
    Program,
    Rows,
    Statistics,
    chunk_of,
    indices_of,
    kept_exps,
    slicing,
    taking,
    written,
)


class Gradients(NamedTuple):
    """Of features, kernel and bias, and of what lowers the label's cosine."""

    features: jax.Array  # [N, D]
    kernel: jax.Array  # in the layer's layout
    bias: jax.Array | None  # [C]
    cosine_margin: CosineMargin | None = None  # [N]


class _Slopes(NamedTuple):
    """What scales the gradient of each row; 0 where it has none."""

    kept: jax.Array  # [N] of e^{o - shift} of each rival
    label: jax.Array  # [N] of the label's logit
    active: jax.Array  # [N] bool


def gradients(
    program: Program, layer: Layer, rows: Rows, s: Statistics, cotangent: jax.Array
) -> Gradients:
    """Returns the gradients of the losses, weighted by a cotangent [N].

    Where classes are split, that of the features is this device's part of a sum.
    """
    rows, s = _without_dead(rows, s, cotangent)
    slopes, d_margin = _slopes(program, rows, s, cotangent)
    # Hard rows first: each block takes all of them, and a slice beats a gather.
    hard = jnp.isnan(s.gap) | jnp.all(s.keeps, axis=1)
    order = jnp.argsort(jnp.where(hard, 0, jnp.where(slopes.active, 1, 2)))
    s, slopes = jax.tree.map(lambda array: array[order], (s, slopes))
    found = _sum_of_blocks(
        program,
        layer.take(order),
        rows.take(order),
        s,
        slopes,
        jnp.sum(hard, dtype=jnp.int32),
    )
    d_features = found.features[jnp.argsort(order)]
    if rows.cosine_margin is None or d_margin is None:
        return found._replace(features=d_features)
    # A longer vector has the same cosines: what lies along it counts for the scale.
    x = rows.features.astype(d_features.dtype)
    along = jnp.sum(x * d_features, axis=1)
    d_features -= x * (along * inverse_norm(x, axis=1) ** 2)[:, None]
    along = along if program.axis_name is None else lax.psum(along, program.axis_name)
    d_scale = d_margin.scale + along / rows.cosine_margin.scale
    d_margin = dataclasses.replace(d_margin, scale=d_scale)
    return found._replace(features=d_features, cosine_margin=d_margin)


def _without_dead(
    rows: Rows, s: Statistics, cotangent: jax.Array
) -> tuple[Rows, Statistics]:
    """Makes settled and harmless the bad rows that have no part in what is asked."""
    dead = jnp.isnan(s.gap) & (cotangent == 0)

    def neutral(array: jax.Array, value: float) -> jax.Array:
        return jnp.where(dead, jnp.full((), value, array.dtype), array)

    clean = Statistics(
        own_logit=neutral(s.own_logit, 0),
        label_logit=neutral(s.label_logit, 0),
        shift=neutral(s.shift, 0),
        rivals=neutral(s.rivals, 1),
        gap=neutral(s.gap, np.inf),
        label_lead=s.label_lead,
        correct=s.correct,
        keeps=s.keeps & ~dead[:, None],
    )
    zero = jnp.zeros((), rows.features.dtype)
    features = jnp.where(dead[:, None], zero, rows.features)
    margin = jax.tree.map(lambda a: neutral(a, 1), rows.cosine_margin)
    rows = rows._replace(features=features, cosine_margin=margin)
    return rows.with_scale(), clean


def _slopes(
    program: Program, rows: Rows, s: Statistics, cotangent: jax.Array
) -> tuple[_Slopes, CosineMargin | None]:
    """Returns what scales the gradients, and what lowers the label has for its own."""
    wrong = jax.nn.sigmoid(s.odds_against())  # 1 - p_t
    active = ~(s.gap == jnp.inf)
    if program.filter_eps is not None:
        active &= ~(wrong < program.filter_eps)
    pull = jnp.where(active, cotangent, 0) * jnp.where(active, wrong, 0)
    pull = nan_where(jnp.isnan(s.gap), pull)
    kept, at_label, d_margin = pull / nonzero(s.rivals), -pull, None
    if rows.cosine_margin is not None:
        _, back = jax.vjp(CosineMargin.lowered, rows.cosine_margin, s.own_logit)
        d_margin, at_label = back(at_label)
    return _Slopes(kept, at_label, active), d_margin


def _sum_of_blocks(
    program: Program,
    layer: Layer,
    rows: Rows,
    s: Statistics,
    slopes: _Slopes,
    num_hard: jax.Array,
) -> Gradients:
    """Returns the sum over blocks and rows, of which the first `num_hard` are hard."""
    num_rows = rows.labels.shape[0]
    # The last chunk of hard rows may hold others; these are done with it.
    rest = jnp.arange(num_rows, dtype=jnp.int32) >= _filled_up(num_hard)
    partial = slopes.active & rest

    def add_block(span: Span, carry: Gradients) -> Gradients:
        places = span.places_of(rows.labels)
        needed = partial & (s.keeps[:, span.index] | (places < span.width))
        chosen, count = indices_of(needed)

        def chunks(carry: Gradients) -> Gradients:
            block = program.block(layer, span)
            term = functools.partial(_term, program, block, rows, s, slopes, places)

            def sliced(offset: Any, size: int, carry: Gradients) -> Gradients:
                pick = slicing(offset, size)
                new = term(pick, True)
                d_features = pick(carry.features) + new.features
                d_features = written(carry.features, d_features, offset)
                return Gradients(d_features, *_sums(carry, new))

            def gathered(offset: Any, size: int, carry: Gradients) -> Gradients:
                index, real = chunk_of(chosen, count, offset, size)
                new = term(taking(index), real)
                d_features = carry.features.at[index].add(new.features)
                return Gradients(d_features, *_sums(carry, new))

            inner = _empty_block(carry, block, rows)
            inner = for_rows(num_hard, num_rows, sliced, inner)
            inner = for_rows(count, num_rows, gathered, inner, GATHERED)
            return _write_block(program, carry, inner, block, span)

        return lax.cond(num_hard + count > 0, chunks, lambda carry: carry, carry)

    dtype = s.rivals.dtype
    start = Gradients(
        filled(rows.features.shape, 0, dtype, rows),
        filled(layer.kernel.shape, 0, layer.kernel.dtype, rows),
        None if layer.bias is None else filled(layer.bias.shape, 0, dtype, rows),
    )
    return for_blocks(program.num_classes, add_block, start)


def _term(
    program: Program,
    block: Layer,
    rows: Rows,
    s: Statistics,
    slopes: _Slopes,
    places: jax.Array,
    pick: Pick,
    real: jax.Array | bool,
) -> Gradients:
    """Returns what some rows give in a block, each row's features apart."""
    exps, fixed = kept_exps(program, block, rows, s, places, pick)
    if fixed is not None:
        exps = jnp.where(fixed, jnp.zeros((), exps.dtype), exps)
    kept = jnp.where(real, pick(slopes.kept), 0)
    at_label = jnp.where(real, pick(slopes.label), 0)
    g = put(exps * kept[:, None], pick(places), at_label)
    scale = None if rows.scale is None else pick(rows.scale)
    by_column = g
    if program.centers > 1:
        products = block.products(pick(rows.features), scale)
        _, best = nearest(products, program.centers)
        by_column = at_centers(g, best, program.centers)
    rounded = (by_column * block.factors(scale)).astype(block.kernel.dtype)
    # Two CPU cores multiply by a transposed copy a sixth faster than along the rows of
    # both; the barrier keeps XLA from folding the copy into the product.
    transposed = lax.optimization_barrier(pick(rows.features).T)
    return Gradients(
        dot(rounded, block.kernel, (1, 1)),
        dot(transposed, rounded, (1, 0)),
        None if block.bias is None else jnp.sum(g, axis=0),
    )


def _sums(a: Gradients, b: Gradients) -> tuple[jax.Array, jax.Array | None]:
    """Adds up the gradients of kernel and bias."""
    bias = None if a.bias is None or b.bias is None else a.bias + b.bias
    return a.kernel + b.kernel, bias


def _empty_block(carry: Gradients, block: Layer, rows: Rows) -> Gradients:
    """Returns the sums to start a block with; those of features go on."""
    dtype = carry.features.dtype
    bias = None if block.bias is None else filled(block.bias.shape, 0, dtype, rows)
    return Gradients(carry.features, filled(block.kernel.shape, 0, dtype, rows), bias)


def _write_block(
    program: Program, carry: Gradients, inner: Gradients, block: Layer, span: Span
) -> Gradients:
    """Writes a block's sums into the gradients of kernel and bias."""
    kernel, bias = inner.kernel, carry.bias
    if block.inverse_norms is not None:
        # A longer class vector has the same cosines: no gradient lies along it.
        weights = block.kernel.astype(kernel.dtype)
        along = jnp.sum(weights * kernel, axis=0) * block.inverse_norms**2
        kernel -= weights * along[None]
    kernel = kernel.astype(carry.kernel.dtype)
    axis, kernel = (1, kernel) if program.layout == "dc" else (0, kernel.T)
    first = span.start * program.centers
    write = lax.dynamic_update_slice_in_dim
    if bias is not None and inner.bias is not None:
        bias = write(bias, inner.bias, span.start, 0)
    return Gradients(inner.features, write(carry.kernel, kernel, first, axis), bias)


def _filled_up(count: jax.Array) -> jax.Array:
    """Returns where the chunks of the first `count` rows end."""
    return -(-count // ROW_SIZES[-1]) * ROW_SIZES[-1]
