r"""The passes of an output layer with its loss over the blocks of logits.

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
3. `gradients`, in `_gradients`: by the active rows alone; a partial one again only
   where it keeps a class or has its label. With
   :math:`G_{ni} = c_n (\tilde p_{ni} - [i = t_n])`, c the cotangent,

   .. math:: \partial x = G W^\top, \quad \partial W = x^\top G, \quad
      \partial b_i = \sum_n G_{ni} .

A row that is left out has a gap of +inf, as a settled one. A bad row (a label out of
range, a NaN logit) has a gap of NaN: it passes for hard, and makes NaN of what it adds
to.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from as_softmax_jax import kernels
from as_softmax_jax._core.log_sum_exp import LogSumExp, finite_shift, nonzero
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax._core.norms import inverse_norm
from as_softmax_jax.heads._blocks import (
    CLASSES,
    Layer,
    Span,
    filled,
    for_blocks,
    for_rows,
    num_blocks,
)
from as_softmax_jax.heads._centers import columns_of, nearest
from as_softmax_jax.heads._rows import (
    Program,
    Rows,
    Statistics,
    chunk_of,
    indices_of,
    kept_exps,
    rivals_of,
    slicing,
    taking,
    written,
)
from as_softmax_jax.kernels._linear import Bound, OnlineSums

# Of the first pass.
KERNELS = kernels.Kernels("linear")
# Chunks of rows that are gathered for one block of classes.
GATHERED = (128, 16)


def classify_rows(program: Program, layer: Layer, rows: Rows) -> Statistics:
    """Passes over every logit once.

    With a margin in probability, `rivals` is of all classes, whatever the kind.
    """
    own_logit = bound = None
    if rows.margin.in_logits:
        own_logit, rounding = _label_logits(program, layer, rows)
        label_logit = rows.lowered(own_logit)
        gap = rows.margin.gap_in_logits(label_logit) - rounding
        bound = Bound(label_logit, gap)
    if program.first_pass in KERNELS:
        sums, block_best = KERNELS[program.first_pass].online_log_sum_exp(
            rows.features,
            *layer[:3],
            rows.labels,
            bound,
            layout=program.layout,
            classes=CLASSES,
        )
    else:
        sums, block_best = _online_log_sum_exp(program, layer, rows, bound)
    if program.axis_name is not None:
        sums = _joined(sums, program.axis_name, bound)
    if own_logit is None:
        own_logit = sums.label_logit
        sums = sums._replace(label_logit=rows.lowered(own_logit))
    found = _classified(rows, sums, block_best, bound, own_logit)
    if program.filter_eps is not None:
        found = _without_small(found, block_best, program.filter_eps)
    return found


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
    at = columns_of(labels, program.centers)  # [N, K]
    if program.layout == "dc":
        columns = jnp.moveaxis(layer.kernel[:, at], 0, -1)
    else:
        columns = layer.kernel[at]
    columns = columns.astype(dtype)
    terms = rows.features.astype(dtype)[:, None] * columns
    if rows.scale is not None:
        factors = rows.scale[:, None] * inverse_norm(columns, axis=-1)
        terms *= factors[..., None]
    logits, best = nearest(jnp.sum(terms, axis=-1), program.centers)
    sizes = jnp.take_along_axis(jnp.sum(jnp.abs(terms), axis=-1), best, axis=-1)
    logits, sizes = logits[:, 0], sizes[:, 0]
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
    rivals = LogSumExp(sums.strongest, sums.total).over(axis_name)
    if bound is not None:
        return OnlineSums(*rivals, bound.label_logit)
    # The label lies on one device; the others have 0.
    return OnlineSums(*rivals, lax.psum(sums.label_logit, axis_name))


def _online_log_sum_exp(
    program: Program, layer: Layer, rows: Rows, bound: Bound | None
) -> tuple[OnlineSums, jax.Array]:
    """Passes over the logits of this device's classes.

    Returns:
      The sums, over the classes within `bound`, and the strongest logit but the
      label's of each block, [N, blocks].
    """
    num_classes = program.num_classes
    num_rows, dtype = rows.labels.shape[0], rows.margin.value.dtype

    def add_block(span: Span, carry: Any) -> tuple[OnlineSums, jax.Array]:
        block, places = program.block(layer, span), span.places_of(rows.labels)

        def chunk(offset: Any, size: int, carry: Any) -> tuple[OnlineSums, jax.Array]:
            (sums, block_best), pick = carry, slicing(offset, size)
            rivals, logits = rivals_of(program, block, rows, places, pick)
            before, own = jax.tree.map(pick, (sums, bound))
            if own is None:
                before = _with_label(before, logits, pick(places))
            new, best = _add_rivals(before, rivals.logits, own)
            sums = jax.tree.map(
                lambda whole, part: written(whole, part, offset), sums, new
            )
            corner = [jnp.asarray(i, jnp.int32) for i in (offset, span.index)]
            return sums, lax.dynamic_update_slice(block_best, best[:, None], corner)

        return for_rows(rows.num_valid, num_rows, chunk, carry)

    low = filled((num_rows,), -jnp.inf, dtype, rows)
    zero = filled((num_rows,), 0, dtype, rows)
    start = OnlineSums(low, zero, zero if bound is None else bound.label_logit)
    blocks = filled((num_rows, num_blocks(num_classes)), -jnp.inf, dtype, rows)
    return for_blocks(num_classes, add_block, (start, blocks))


def _with_label(sums: OnlineSums, logits: jax.Array, places: jax.Array) -> OnlineSums:
    """Returns R rows with the label's logit, where it lies in a block [R, width]."""
    last = logits.shape[1] - 1
    there = jnp.minimum(places, last)[:, None]
    at_label = jnp.take_along_axis(logits, there, axis=1)[:, 0]
    label_logit = jnp.where(places <= last, at_label, sums.label_logit)
    return sums._replace(label_logit=label_logit)


def _add_rivals(
    sums: OnlineSums, rivals: jax.Array, bound: Bound | None
) -> tuple[OnlineSums, jax.Array]:
    """Returns R rows with a block's rivals [R, width] added, and its strongest ones."""
    counted = None if bound is None else ~bound.drops(rivals)
    found = LogSumExp(sums.strongest, sums.total).update(rivals, counted)
    return OnlineSums(*found, sums.label_logit), jnp.max(rivals, axis=1)


def _classified(
    rows: Rows,
    sums: OnlineSums,
    block_best: jax.Array,
    bound: Bound | None,
    own_logit: jax.Array,
) -> Statistics:
    """Tells the kinds of rows apart."""
    label_logit, strongest = sums.label_logit, sums.strongest
    found = Statistics(
        own_logit=own_logit,
        label_logit=label_logit,
        shift=finite_shift(strongest),
        rivals=sums.total,
        gap=label_logit,  # of no kind yet
        label_lead=label_logit,
        correct=own_logit >= strongest,
        keeps=block_best > -jnp.inf,
    )
    odds = found.odds_against()
    label_prob = jax.nn.sigmoid(-odds)
    gap = rows.margin.gap_in_probs(label_prob) if bound is None else bound.gap
    # Without any rival the label settles its row, whatever the margin.
    settled = (strongest - label_logit < gap) | (strongest == -jnp.inf)
    gap = jnp.where(settled & (label_logit > -jnp.inf), jnp.inf, gap)
    bad = jnp.isnan(odds) | jnp.isnan(rows.margin.value) | (label_logit == jnp.inf)
    gap = nan_where(bad, gap)
    valid = jnp.arange(gap.shape[0], dtype=jnp.int32) < rows.num_valid
    gap = jnp.where(valid, gap, jnp.inf)
    keeps = block_best - finite_shift(label_logit)[:, None] >= gap[:, None]
    # Without a label's logit or a rival's there is no lead to speak of.
    nothing = (label_logit == -jnp.inf) & (strongest == -jnp.inf)
    lead = jnp.where(nothing, 0, label_logit) - strongest
    return found._replace(gap=gap, label_lead=lead, keeps=keeps)


def _without_small(s: Statistics, block_best: jax.Array, eps: float) -> Statistics:
    """Returns the statistics without blocks whose every probability is below `eps`."""
    total = s.rivals + jnp.exp(s.label_logit - s.shift)
    best = jnp.exp(block_best - s.shift[:, None]) / nonzero(total)[:, None]
    return s._replace(keeps=s.keeps & (best >= eps))


def kept_sum(program: Program, layer: Layer, rows: Rows, s: Statistics) -> Statistics:
    """Returns the statistics with `rivals` of the kept classes in partial rows."""
    if rows.margin.in_logits:
        return s
    partial = jnp.isfinite(s.gap)

    def add_block(span: Span, total: jax.Array) -> jax.Array:
        chosen, count = indices_of(partial & s.keeps[:, span.index])

        def chunks(total: jax.Array) -> jax.Array:
            block, places = program.block(layer, span), span.places_of(rows.labels)

            def chunk(offset: Any, size: int, total: jax.Array) -> jax.Array:
                index, real = chunk_of(chosen, count, offset, size)
                pick = taking(index)
                exps, _ = kept_exps(program, block, rows, s, places, pick)
                sums = jnp.where(real, jnp.sum(exps, axis=1), 0)
                return total.at[index].add(sums)

            return for_rows(count, chosen.shape[0], chunk, total, GATHERED)

        return lax.cond(count > 0, chunks, lambda total: total, total)

    none = filled(s.rivals.shape, 0, s.rivals.dtype, rows)
    kept = for_blocks(program.num_classes, add_block, none)
    if program.axis_name is not None:
        kept = lax.psum(kept, program.axis_name)
    return s._replace(rivals=jnp.where(partial, kept, s.rivals))
