r"""The passes of `linear_as_softmax_loss` over the blocks of logits.

Notation: features x, kernel W, logits o = xW + b of a row, label t; one margin, delta
between probabilities or m between logits.

1. `classify_rows`: every logit once, by an online log-sum-exp. It leaves a few numbers
   a row and, for each block of classes, its strongest logit there but the label's.
   From these follow p_t, the gap g that a class may lie below the label, and the kind
   of the row: *hard* (p_t <= delta, every class is kept), *settled* (no class but the
   label) or *partial*.
   A margin in logits needs the label's logit alone, which comes first, by a product
   of its own: then g is known, this pass sums over the kept classes at once, and a
   block's answer is whether it keeps any.
2. `kept_sum`: with a margin in probability, the sum over the kept classes of partial
   rows. A row takes part only in blocks whose strongest logit is within its gap:
   mostly one or two.
3. `gradients`: by the active rows alone; a partial one again only where it keeps a
   class or has its label. With :math:`G_{ni} = c_n (\tilde p_{ni} - [i = t_n])`, c the
   cotangent,

   .. math:: \partial x = G W^\top, \quad \partial W = x^\top G, \quad
      \partial b_i = \sum_n G_{ni} .

A row that is left out has a gap of +inf, as a settled one. A bad row (a label out of
range, a NaN logit) has a gap of NaN: it passes for hard, and makes NaN of what it adds
to.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from as_softmax_jax import kernels
from as_softmax_jax._core.log_sum_exp import finite_shift, nonzero
from as_softmax_jax._core.margin import Margin
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax.heads._blocks import (
    CLASSES,
    ROW_SIZES,
    Layer,
    Span,
    dot,
    filled,
    for_blocks,
    for_rows,
    num_blocks,
    put,
)
from as_softmax_jax.kernels._linear import Bound, OnlineSums

Pick = Callable[[jax.Array], jax.Array]
"""Takes some rows out of an array of N."""

# Of the first pass.
KERNELS = kernels.Kernels("linear")
# Chunks of rows that are gathered for one block of classes.
_GATHERED = (128, 16)


class Rows(NamedTuple):
    """What the layer is applied to; the first `num_valid` rows count."""

    features: jax.Array  # [N, D], N a multiple of the smallest chunk
    labels: jax.Array  # [N] int32, from this device's first class on
    margin: Margin  # [N]; NaN where it or the label is out of range
    num_valid: jax.Array | int

    def take(self, order: jax.Array) -> "Rows":
        """Returns the rows in another order."""
        margin = jax.tree.map(lambda values: values[order], self.margin)
        return Rows(self.features[order], self.labels[order], margin, self.num_valid)


class Statistics(NamedTuple):
    """What a row's loss and gradient follow from."""

    label_logit: jax.Array  # [N] o_t
    shift: jax.Array  # [N] the largest logit, or 0 where all are -inf
    total: jax.Array  # [N] sum of e^{o - shift} over the kept classes
    gap: jax.Array  # [N] g: -inf in hard rows, +inf in settled ones, NaN in bad ones
    label_lead: jax.Array  # [N] o_t less the strongest other logit
    keeps: jax.Array  # [N, blocks] bool: a class there, but the label, is kept


class Program(NamedTuple):
    """What shapes the program."""

    layout: str  # of the kernel, "dc" or "cd"
    num_classes: int  # on this device
    axis_name: str | None  # the mesh axis over which classes are split
    first_pass: str  # "xla", or one of `KERNELS`


def classify_rows(program: Program, layer: Layer, rows: Rows) -> Statistics:
    """Passes over every logit once.

    With a margin in probability, `total` is of all classes, whatever the kind.
    """
    bound = None
    if rows.margin.in_logits:
        label_logit, rounding = _label_logits(program, layer, rows)
        gap = rows.margin.gap_in_logits(label_logit) - rounding
        bound = Bound(label_logit, gap)
    if program.first_pass in KERNELS:
        sums, block_best = KERNELS[program.first_pass].online_log_sum_exp(
            rows.features,
            *layer,
            rows.labels,
            bound,
            layout=program.layout,
            classes=CLASSES,
        )
    else:
        sums, block_best = _online_log_sum_exp(program, layer, rows, bound)
    if program.axis_name is not None:
        sums = _joined(sums, program.axis_name, bound)
    return _classified(rows, sums, block_best, bound)


def _label_logits(
    program: Program, layer: Layer, rows: Rows
) -> tuple[jax.Array, jax.Array]:
    """Returns o_t of each row, [N], by a product of its own, and how it may be rounded.

    A block sums the same terms in another order. What that leaves undecided is kept, so
    that a class with the label's own kernel is, at a margin of 0.
    """
    inside = (rows.labels >= 0) & (rows.labels < program.num_classes)
    labels = jnp.clip(rows.labels, 0, program.num_classes - 1)
    dtype = rows.margin.value.dtype
    columns = (
        layer.kernel[:, labels].T if program.layout == "dc" else layer.kernel[labels]
    )
    terms = rows.features.astype(dtype) * columns.astype(dtype)
    logits, sizes = jnp.sum(terms, axis=1), jnp.sum(jnp.abs(terms), axis=1)
    if layer.bias is not None:
        logits, sizes = logits + layer.bias[labels], sizes + jnp.abs(layer.bias[labels])
    found = logits, 4 * jnp.finfo(dtype).eps * sizes
    if program.axis_name is None:
        return found
    # The label lies on one device.
    of_this = jax.tree.map(lambda values: jnp.where(inside, values, 0), found)
    return lax.psum(of_this, program.axis_name)


def _joined(sums: OnlineSums, axis_name: str, bound: Bound | None) -> OnlineSums:
    """Returns the sums over all devices of an axis, each with its own classes."""
    strongest = lax.pmax(sums.strongest, axis_name)
    part = sums.total * jnp.exp(finite_shift(sums.strongest) - finite_shift(strongest))
    total = lax.psum(part, axis_name)
    if bound is not None:
        return OnlineSums(strongest, total, bound.label_logit)
    # The label lies on one device; the others have 0.
    return OnlineSums(strongest, total, lax.psum(sums.label_logit, axis_name))


def _online_log_sum_exp(
    program: Program, layer: Layer, rows: Rows, bound: Bound | None
) -> tuple[OnlineSums, jax.Array]:
    """Passes over the logits of this device's classes.

    Returns:
      The sums, over the classes within `bound`, and the strongest logit but the
      label's of each block, [N, blocks].
    """
    layout, num_classes = program.layout, program.num_classes
    num_rows, dtype = rows.labels.shape[0], rows.margin.value.dtype

    def add_block(span: Span, carry: Any) -> tuple[OnlineSums, jax.Array]:
        block = layer.block(span, layout)

        def chunk(offset: Any, size: int, carry: Any) -> tuple[OnlineSums, jax.Array]:
            (sums, block_best), pick = carry, _slice(offset, size)
            places = span.places_of(pick(rows.labels))
            logits = block.logits(pick(rows.features))
            before, own = jax.tree.map(pick, (sums, bound))
            new, best = _add_logits(before, logits, places, block.mask_of(pick), own)
            sums = jax.tree.map(
                lambda whole, part: _write(whole, part, offset), sums, new
            )
            corner = [jnp.asarray(i, jnp.int32) for i in (offset, span.index)]
            return sums, lax.dynamic_update_slice(block_best, best[:, None], corner)

        return for_rows(rows.num_valid, num_rows, chunk, carry)

    low = filled((num_rows,), -jnp.inf, dtype, rows)
    zero = filled((num_rows,), 0, dtype, rows)
    start = OnlineSums(low, zero, zero if bound is None else bound.label_logit)
    blocks = filled((num_rows, num_blocks(num_classes)), -jnp.inf, dtype, rows)
    return for_blocks(num_classes, add_block, (start, blocks))


def _add_logits(
    sums: OnlineSums,
    logits: jax.Array,
    places: jax.Array,
    class_mask: jax.Array | None,
    bound: Bound | None,
) -> tuple[OnlineSums, jax.Array]:
    """Returns R rows with a block's logits [R, width] added, and its strongest ones."""
    label_logit = sums.label_logit
    if bound is None:
        last = logits.shape[1] - 1
        there = jnp.minimum(places, last)[:, None]
        at_label = jnp.take_along_axis(logits, there, axis=1)
        label_logit = jnp.where(places <= last, at_label[:, 0], label_logit)
    rivals = rivals_of(logits, places, class_mask)
    block_best = jnp.max(rivals, axis=1)
    strongest = jnp.maximum(sums.strongest, block_best)
    shift = finite_shift(strongest)
    # A NaN or +inf logit shows in this sum. (XLA's max on CPU passes over NaN.)
    exps = jnp.exp(rivals - shift[:, None])
    if bound is not None:
        exps = jnp.where(bound.drops(rivals), jnp.zeros((), exps.dtype), exps)
    total = jnp.sum(exps, axis=1)
    total += sums.total * jnp.exp(sums.strongest - shift)
    return OnlineSums(strongest, total, label_logit), block_best


def _classified(
    rows: Rows, sums: OnlineSums, block_best: jax.Array, bound: Bound | None
) -> Statistics:
    """Tells the kinds of rows apart."""
    label_logit, strongest = sums.label_logit, sums.strongest
    shift = finite_shift(jnp.maximum(strongest, label_logit))
    at_label = jnp.exp(label_logit - shift)
    total = sums.total * jnp.exp(finite_shift(strongest) - shift) + at_label
    label_prob = at_label / nonzero(total)
    gap = rows.margin.gap_in_probs(label_prob) if bound is None else bound.gap
    # Without any rival the label settles its row, whatever the margin.
    settled = (strongest - label_logit < gap) | (strongest == -jnp.inf)
    gap = jnp.where(settled & (label_logit > -jnp.inf), jnp.inf, gap)
    gap = nan_where(jnp.isnan(label_prob) | jnp.isnan(rows.margin.value), gap)
    valid = jnp.arange(gap.shape[0], dtype=jnp.int32) < rows.num_valid
    gap = jnp.where(valid, gap, jnp.inf)
    keeps = block_best - finite_shift(label_logit)[:, None] >= gap[:, None]
    # Without a label's logit or a rival's there is no lead to speak of.
    nothing = (label_logit == -jnp.inf) & (strongest == -jnp.inf)
    lead = jnp.where(nothing, 0, label_logit) - strongest
    return Statistics(label_logit, shift, total, gap, lead, keeps)


def kept_sum(program: Program, layer: Layer, rows: Rows, s: Statistics) -> Statistics:
    """Returns the statistics with `total` of the kept classes in partial rows."""
    if rows.margin.in_logits:
        return s
    layout, axis_name = program.layout, program.axis_name
    partial = jnp.isfinite(s.gap)

    def add_block(span: Span, total: jax.Array) -> jax.Array:
        chosen, count = _indices(partial & s.keeps[:, span.index])

        def chunks(total: jax.Array) -> jax.Array:
            block, places = layer.block(span, layout), span.places_of(rows.labels)

            def chunk(offset: Any, size: int, total: jax.Array) -> jax.Array:
                index, real = _chunk_of(chosen, count, offset, size)
                exps = _kept_exps(block, rows, s, places, _take(index))
                sums = jnp.where(real, jnp.sum(exps, axis=1), 0)
                return total.at[index].add(sums)

            return for_rows(count, chosen.shape[0], chunk, total, _GATHERED)

        return lax.cond(count > 0, chunks, lambda total: total, total)

    none = filled(s.total.shape, 0, s.total.dtype, rows)
    rivals = for_blocks(program.num_classes, add_block, none)
    rivals = rivals if axis_name is None else lax.psum(rivals, axis_name)
    kept = jnp.exp(s.label_logit - s.shift) + rivals
    return s._replace(total=jnp.where(partial, kept, s.total))


def losses(s: Statistics) -> jax.Array:
    """Returns the loss of each row: log of the kept sum, less the label's logit."""
    loss = jnp.log(nonzero(s.total)) - (s.label_logit - s.shift)
    loss = nan_where(jnp.isnan(s.gap), loss)
    return jnp.where(s.gap == jnp.inf, jnp.zeros((), loss.dtype), loss)


class Gradients(NamedTuple):
    """Of features, kernel and bias."""

    features: jax.Array  # [N, D]
    kernel: jax.Array  # in the layer's layout
    bias: jax.Array | None  # [C]


class _Slopes(NamedTuple):
    """What scales the gradient of each row; 0 where it has none."""

    kept: jax.Array  # [N] c / total
    label: jax.Array  # [N] c


def gradients(
    program: Program, layer: Layer, rows: Rows, s: Statistics, cotangent: jax.Array
) -> Gradients:
    """Returns the gradients of the losses, weighted by a cotangent [N].

    Where classes are split, that of the features is this device's part of a sum.
    """
    layout = program.layout
    rows, s = _without_dead(rows, s, cotangent)
    # Hard rows first: each block takes all of them, and a slice beats a gather.
    hard, active = ~(s.gap > -jnp.inf), ~(s.gap == jnp.inf)
    if rows.margin.in_logits:
        hard |= jnp.all(s.keeps, axis=1)
    order = jnp.argsort(jnp.where(hard, 0, jnp.where(active, 1, 2)))
    cotangent = jnp.where(active, cotangent, 0)[order]
    s = jax.tree.map(lambda array: array[order], s)
    layer, rows = layer.take(order), rows.take(order)
    kept = nan_where(jnp.isnan(s.gap), cotangent / nonzero(s.total))
    slopes = _Slopes(kept, cotangent)
    num_hard = jnp.sum(hard, dtype=jnp.int32)
    # The last chunk of hard rows may hold others; these are done with it.
    rest = jnp.arange(order.shape[0], dtype=jnp.int32) >= _filled_up(num_hard)
    partial = jnp.isfinite(s.gap) & rest

    def add_block(span: Span, carry: Gradients) -> Gradients:
        places = span.places_of(rows.labels)
        needed = partial & (s.keeps[:, span.index] | (places < span.width))
        chosen, count = _indices(needed)

        def chunks(carry: Gradients) -> Gradients:
            block = layer.block(span, layout)
            term = functools.partial(_term, block, rows, s, slopes, places)

            def sliced(offset: Any, size: int, carry: Gradients) -> Gradients:
                pick = _slice(offset, size)
                new = term(pick, True)
                d_features = pick(carry.features) + new.features
                d_features = _write(carry.features, d_features, offset)
                return Gradients(d_features, *_sums(carry, new))

            def gathered(offset: Any, size: int, carry: Gradients) -> Gradients:
                index, real = _chunk_of(chosen, count, offset, size)
                new = term(_take(index), real)
                d_features = carry.features.at[index].add(new.features)
                return Gradients(d_features, *_sums(carry, new))

            inner = _empty_block(carry, block, rows)
            inner = for_rows(num_hard, order.shape[0], sliced, inner)
            inner = for_rows(count, order.shape[0], gathered, inner, _GATHERED)
            return _write_block(carry, inner, span, layout)

        return lax.cond(num_hard + count > 0, chunks, lambda carry: carry, carry)

    dtype = s.total.dtype
    start = Gradients(
        filled(rows.features.shape, 0, dtype, rows),
        filled(layer.kernel.shape, 0, layer.kernel.dtype, rows),
        None if layer.bias is None else filled(layer.bias.shape, 0, dtype, rows),
    )
    found = for_blocks(program.num_classes, add_block, start)
    return found._replace(features=found.features[jnp.argsort(order)])


def _without_dead(
    rows: Rows, s: Statistics, cotangent: jax.Array
) -> tuple[Rows, Statistics]:
    """Makes settled and harmless the bad rows that have no part in what is asked."""
    dead = jnp.isnan(s.gap) & (cotangent == 0)

    def neutral(array: jax.Array, value: float) -> jax.Array:
        return jnp.where(dead, jnp.full((), value, array.dtype), array)

    clean = Statistics(
        label_logit=neutral(s.label_logit, 0),
        shift=neutral(s.shift, 0),
        total=neutral(s.total, 1),
        gap=neutral(s.gap, np.inf),
        label_lead=s.label_lead,
        keeps=s.keeps & ~dead[:, None],
    )
    zero = jnp.zeros((), rows.features.dtype)
    features = jnp.where(dead[:, None], zero, rows.features)
    return rows._replace(features=features), clean


def _term(
    block: Layer,
    rows: Rows,
    s: Statistics,
    slopes: _Slopes,
    places: jax.Array,
    pick: Pick,
    real: jax.Array | bool,
) -> Gradients:
    """Returns what some rows give in a block, each row's features apart."""
    exps = _kept_exps(block, rows, s, places, pick)
    kept = jnp.where(real, pick(slopes.kept), 0)
    at_label = jnp.exp(pick(s.label_logit) - pick(s.shift)) * kept
    at_label -= jnp.where(real, pick(slopes.label), 0)
    g = put(exps * kept[:, None], pick(places), at_label)
    rounded = g.astype(block.kernel.dtype)
    # Two CPU cores multiply by a transposed copy a sixth faster than along the rows of
    # both; the barrier keeps XLA from folding the copy into the product.
    transposed = lax.optimization_barrier(pick(rows.features).T)
    return Gradients(
        dot(rounded, block.kernel, (1, 1)),
        dot(transposed, rounded, (1, 0)),
        None if block.bias is None else jnp.sum(g, axis=0),
    )


def _kept_exps(
    block: Layer, rows: Rows, s: Statistics, places: jax.Array, pick: Pick
) -> jax.Array:
    """Returns z e^{o - shift} of some rows in a block, 0 at the label: [R, width].

    A bad row keeps every class, because NaN compares as False.
    """
    logits = block.logits(pick(rows.features))
    rivals = rivals_of(logits, pick(places), block.mask_of(pick))
    bound = Bound(pick(s.label_logit), pick(s.gap))
    exps = jnp.exp(rivals - pick(s.shift)[:, None])
    return jnp.where(bound.drops(rivals), jnp.zeros((), exps.dtype), exps)


def rivals_of(
    logits: jax.Array, places: jax.Array, class_mask: jax.Array | None
) -> jax.Array:
    """Returns logits with -inf for each row's label and for what is masked."""
    if class_mask is not None:
        logits = jnp.where(class_mask, logits, -jnp.inf)
    return put(logits, places, -jnp.inf)


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
    carry: Gradients, inner: Gradients, span: Span, layout: str
) -> Gradients:
    """Writes a block's sums into the gradients of kernel and bias."""
    kernel = inner.kernel.astype(carry.kernel.dtype)
    axis, kernel = (1, kernel) if layout == "dc" else (0, kernel.T)
    write = lax.dynamic_update_slice_in_dim
    bias = carry.bias
    if bias is not None and inner.bias is not None:
        bias = write(bias, inner.bias, span.start, 0)
    return Gradients(
        inner.features, write(carry.kernel, kernel, span.start, axis), bias
    )


def _indices(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the chosen rows, the first one repeated behind them, and their number."""
    size, first = chosen.shape[0], jnp.argmax(chosen)
    (indices,) = jnp.nonzero(chosen, size=size, fill_value=first)
    return indices.astype(jnp.int32), jnp.sum(chosen, dtype=jnp.int32)


def _chunk_of(
    chosen: jax.Array, count: jax.Array, offset: Any, size: int
) -> tuple[jax.Array, jax.Array]:
    """Returns a chunk of the chosen rows, and which of it are not repeated."""
    index = lax.dynamic_slice_in_dim(chosen, offset, size)
    return index, offset + jnp.arange(size, dtype=jnp.int32) < count


def _take(index: jax.Array) -> Pick:
    return lambda array: array[index]


def _slice(offset: Any, size: int) -> Pick:
    return lambda array: lax.dynamic_slice_in_dim(array, offset, size)


def _write(array: jax.Array, values: jax.Array, offset: Any) -> jax.Array:
    return lax.dynamic_update_slice_in_dim(array, values, offset, 0)


def _filled_up(count: jax.Array) -> jax.Array:
    """Returns where the chunks of the first `count` rows end."""
    return -(-count // ROW_SIZES[-1]) * ROW_SIZES[-1]
