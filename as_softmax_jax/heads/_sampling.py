r"""A share of the classes at a time: Partial FC (An et al., arXiv 2203.15565).

Of C classes, S are drawn anew for each step: those of the batch's labels, and others at
random. The layer, its gradient and its optimizer's state are cut down to them,

.. math::
  \mathcal{S} = \{t_n\} \cup \text{random others}, \qquad
  \ell_n = \mathrm{loss}(x_n W_{\mathcal{S}} + b_{\mathcal{S}}, t_n),

so that a step costs S / C of a whole one, and nothing of the classes left out moves.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks


class SampledClasses(NamedTuple):
    """The classes of one step."""

    classes: jax.Array  # shape=(num_sampled,), dtype=int32, ascending, none twice
    labels: jax.Array  # places in `classes`, [...], dtype=int32; -1 for a bad label


def sample_classes(
    key: jax.Array,
    labels: ArrayLike,
    *,
    num_classes: int,
    num_sampled: int,
    where: ArrayLike | None = None,
    axis_name: str | None = None,
) -> SampledClasses:
    """Draws classes for one step: all labels' own, and others at random.

    With ``kernel[:, classes]``, ``bias[classes]`` and the labels that come back, any
    loss of labels is the loss among the drawn classes. Fewer rivals make a label's
    probability larger, so more is settled than with all classes; train with a share
    for speed, and evaluate with all.

    Args:
      key: of this step.
      labels: integers [...] in [0, num_classes).
      num_classes: C; with `axis_name`, of this device's part.
      num_sampled: how many are drawn, at least the number of labels or all classes:
        each label's class is among them.
      where: boolean [...], the labels that count; others need no class.
      axis_name: inside `jax.shard_map`, the mesh axis over which the classes are
        split. Labels count over all classes and are the same along the axis; each
        device draws of its own part, `classes` counts within it, and the labels that
        come back over all that are drawn. The key must be the same along the axis.

    Returns:
      The classes in ascending order, and the labels' places among them.

    Raises:
      TypeError: labels or counts are no integers.
      ValueError: `num_sampled` is above `num_classes`, or below the number of labels.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.heads import sample_classes
      >>> labels = jnp.array([7, 2, 7])
      >>> drawn = sample_classes(
      ...     jax.random.key(0), labels, num_classes=100, num_sampled=5
      ... )
      >>> print(drawn.classes.shape, drawn.classes[drawn.labels])
      (5,) [7 2 7]

    References:
      An et al., `Killing Two Birds with One Stone: Efficient and Robust Training of
      Face Recognition CNNs by Partial FC <https://arxiv.org/abs/2203.15565>`_, CVPR
      2022.
    """
    num_classes = checks.static_count(num_classes, "num_classes")
    num_sampled = checks.static_count(num_sampled, "num_sampled")
    num_labels = math.prod(jnp.shape(labels))
    if isinstance(num_labels, int) or num_sampled < num_classes:
        _check_count(num_sampled, num_classes, num_labels)
    first, of_all = jnp.int32(0), num_classes
    if axis_name is not None:
        part = jax.lax.axis_index(axis_name)
        first, of_all = part * num_classes, num_classes * jax.lax.axis_size(axis_name)
        key = jax.random.fold_in(key, part)
    labels = checks.integer_labels(labels, jnp.shape(labels), of_all)
    own = labels - first
    here = (labels >= 0) & (own >= 0) & (own < num_classes)
    where = checks.boolean_mask(where, labels.shape, "labels", "where")
    checks.not_spread(labels, "labels")
    needed = here if where is None else here & where
    # One past the end is dropped: a label of another device, or of none.
    places = jnp.where(needed, own, num_classes).reshape(-1)
    ranks = jax.random.uniform(key, (num_classes,)).at[places].set(2.0, mode="drop")
    classes = jnp.sort(jax.lax.top_k(ranks, num_sampled)[1]).astype(jnp.int32)
    found = jnp.searchsorted(classes, own).astype(jnp.int32)
    if axis_name is not None:
        found = jnp.where(needed, part * num_sampled + found + 1, 0)
        return SampledClasses(classes, jax.lax.psum(found, axis_name) - 1)
    return SampledClasses(classes, jnp.where(needed, found, -1))


def _check_count(num_sampled: int, num_classes: int, num_labels: int) -> None:
    """Refuses a number of classes that cannot hold all labels, or is not there."""
    if not isinstance(num_labels, int):
        raise ValueError(
            f"`num_sampled` must be all {num_classes} classes where the number of "
            f"labels is symbolic, {num_labels}; got {num_sampled}."
        )
    least = min(num_labels, num_classes)
    if not least <= num_sampled <= num_classes:
        raise ValueError(
            f"`num_sampled` must be in [{least}, {num_classes}], for {num_labels} "
            f"labels of {num_classes} classes; got {num_sampled}."
        )
