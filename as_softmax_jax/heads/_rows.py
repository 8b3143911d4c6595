r"""Rows, what the passes find out of each, and how its loss and gradient follow.

With R the sum over the kept rivals (the classes but the label) and z the label's logit,

.. math::
  u = \log R - z, \qquad \ell = \mathrm{softplus}(u), \qquad
  \frac{\partial \ell}{\partial z} = -\sigma(u), \qquad
  \frac{\partial \ell}{\partial o_i} = \sigma(u) \frac{e^{o_i}}{R} .

No term is a difference of close numbers, so a loss of 1e-14 stays one; and a margin
that lowers z alone changes nothing else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from as_softmax_jax._core.cosine_margin import CosineMargin
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.log_odds import softplus
from as_softmax_jax._core.log_sum_exp import nonzero
from as_softmax_jax._core.margin import Margin
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax._core.norms import inverse_norm
from as_softmax_jax.heads._blocks import Layer, Span, put
from as_softmax_jax.kernels._linear import Bound

Pick = Callable[[jax.Array], jax.Array]
"""Takes some rows out of an array of N."""


class Program(NamedTuple):
    """What shapes the program."""

    layout: str  # of the kernel, "dc" or "cd"
    num_classes: int  # on this device
    axis_name: str | None = None  # the mesh axis over which classes are split
    first_pass: str = "xla"  # or one of `_passes.KERNELS`
    cosines: bool = False  # logits are cosines times each row's scale
    # A rival of a larger cosine has a logit of 0 and no gradient.
    cosine_threshold: float | None = None
    # The backward pass skips a row's blocks where no probability is off by as much.
    filter_eps: float | None = None
    centers: int = 1  # K, the columns of a class, of which the nearest counts

    def block(self, layer: Layer, span: Span) -> Layer:
        """Returns the classes of a span."""
        return layer.block(span, self.layout, self.cosines, self.centers)


class Rows(NamedTuple):
    """What the layer is applied to; the first `num_valid` rows count."""

    features: jax.Array  # [N, D], N a multiple of the smallest chunk
    labels: jax.Array  # [N] int32, from this device's first class on
    margin: Margin  # [N]; NaN where it or the label is out of range
    num_valid: jax.Array | int
    cosine_margin: CosineMargin | None = None  # [N], where logits are cosines
    scale: jax.Array | None = None  # [N] s / |x|, likewise

    def with_scale(self) -> "Rows":
        """Returns the rows with what makes logits of their products."""
        if self.cosine_margin is None:
            return self
        wide = self.features.astype(compute_dtype(self.features.dtype))
        scale = self.cosine_margin.scale * inverse_norm(wide, axis=1)
        return self._replace(scale=scale)

    def take(self, order: jax.Array) -> "Rows":
        """Returns the rows in another order."""

        def picked(tree: Any) -> Any:
            return jax.tree.map(lambda values: values[order], tree)

        return self._replace(
            features=picked(self.features),
            labels=picked(self.labels),
            margin=picked(self.margin),
            cosine_margin=picked(self.cosine_margin),
            scale=picked(self.scale),
        )

    def logits(self, block: Layer, pick: Pick, centers: int) -> jax.Array:
        """Returns the logits of some rows, [R, width]."""
        scale = None if self.scale is None else pick(self.scale)
        return block.logits(pick(self.features), scale, centers)

    def lowered(self, logits: jax.Array) -> jax.Array:
        """Returns the label's logits [N] with the margins of its cosine."""
        margin = self.cosine_margin
        return logits if margin is None else margin.lowered(logits)


class Statistics(NamedTuple):
    """What a row's loss and gradient follow from."""

    own_logit: jax.Array  # [N] o_t
    label_logit: jax.Array  # [N] z: o_t, or what margins of its cosine make of it
    shift: jax.Array  # [N] the strongest rival's logit, or 0 where all are -inf
    rivals: jax.Array  # [N] sum of e^{o - shift} over the kept rivals
    gap: jax.Array  # [N] g: -inf in hard rows, +inf in settled ones, NaN in bad ones
    label_lead: jax.Array  # [N] z less the strongest rival's logit
    correct: jax.Array  # [N] bool: o_t is no less than that
    keeps: jax.Array  # [N, blocks] bool: a rival there is kept

    def odds_against(self) -> jax.Array:
        """Returns u [N], the log-odds of the kept rivals against the label."""
        odds = jnp.log(nonzero(self.rivals)) - (self.label_logit - self.shift)
        odds = jnp.where(self.rivals == 0, -jnp.inf, odds)
        return jnp.where(self.label_logit == -jnp.inf, jnp.inf, odds)

    def losses(self) -> jax.Array:
        """Returns the loss of each row."""
        loss = nan_where(jnp.isnan(self.gap), softplus(self.odds_against()))
        return jnp.where(self.gap == jnp.inf, jnp.zeros((), loss.dtype), loss)


class Rivals(NamedTuple):
    """The logits of some rows in a block, -inf at the label and where masked."""

    logits: jax.Array  # [R, width]
    fixed: jax.Array | None  # [R, width] bool: 0 by the threshold, without a gradient


def rivals_of(
    program: Program, block: Layer, rows: Rows, places: jax.Array, pick: Pick
) -> tuple[Rivals, jax.Array]:
    """Returns the rivals of some rows in a block, and all logits as they are.

    Args:
      program: what shapes it.
      block: the classes.
      rows: of N.
      places: of their labels in the block, [N].
      pick: which of them.
    """
    logits = rows.logits(block, pick, program.centers)
    rivals, fixed = logits, None
    if program.cosine_threshold is not None and rows.cosine_margin is not None:
        ceiling = pick(rows.cosine_margin.scale) * program.cosine_threshold
        fixed = logits > ceiling[:, None]
        rivals = jnp.where(fixed, jnp.zeros((), logits.dtype), logits)
    class_mask = block.mask_of(pick)
    if class_mask is not None:
        rivals = jnp.where(class_mask, rivals, -jnp.inf)
    return Rivals(put(rivals, pick(places), -jnp.inf), fixed), logits


def kept_exps(
    program: Program,
    block: Layer,
    rows: Rows,
    s: Statistics,
    places: jax.Array,
    pick: Pick,
) -> tuple[jax.Array, jax.Array | None]:
    """Returns z e^{o - shift} of some rows in a block, 0 at the label: [R, width].

    A bad row keeps every class, because NaN compares as False. Beside it: where the
    threshold has fixed a logit.
    """
    (rivals, fixed), _ = rivals_of(program, block, rows, places, pick)
    bound = Bound(pick(s.label_logit), pick(s.gap))
    exps = jnp.exp(rivals - pick(s.shift)[:, None])
    return jnp.where(bound.drops(rivals), jnp.zeros((), exps.dtype), exps), fixed


def indices_of(chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the chosen rows, the first one repeated behind them, and their number."""
    size, first = chosen.shape[0], jnp.argmax(chosen)
    (indices,) = jnp.nonzero(chosen, size=size, fill_value=first)
    return indices.astype(jnp.int32), jnp.sum(chosen, dtype=jnp.int32)


def chunk_of(
    chosen: jax.Array, count: jax.Array, offset: Any, size: int
) -> tuple[jax.Array, jax.Array]:
    """Returns a chunk of the chosen rows, and which of it are not repeated."""
    index = lax.dynamic_slice_in_dim(chosen, offset, size)
    return index, offset + jnp.arange(size, dtype=jnp.int32) < count


def taking(index: jax.Array) -> Pick:
    """Returns what takes rows by their numbers."""
    return lambda array: array[index]


def slicing(offset: Any, size: int) -> Pick:
    """Returns what takes rows that lie side by side."""
    return lambda array: lax.dynamic_slice_in_dim(array, offset, size)


def written(array: jax.Array, values: jax.Array, offset: Any) -> jax.Array:
    """Returns an array with other values in the rows from `offset` on."""
    return lax.dynamic_update_slice_in_dim(array, values, offset, 0)
