r"""Means of each class's features, and a penalty on those that lie close: NBC."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.nan import nan_where
from as_softmax_jax._core.norms import inverse_norm


def class_means(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    where: ArrayLike | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""The mean of the features of each class in a batch.

    .. math:: m_k = \frac{1}{n_k} \sum_{i: t_i = k} x_i

    Shared arguments: `as_softmax_jax.regularizers`.

    Args:
      num_classes: C.

    Returns:
      ``(means, counts)``: [C, D], 0 for a class without examples, and n, [C]; both
      float32 (float64 of float64 features). An example with a label outside [0, C) has
      no part.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.regularizers import class_means
      >>> features = jnp.array([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
      >>> means, counts = class_means(features, jnp.array([1, 1, 0]), num_classes=3)
      >>> print(means, counts)
      [[5. 5.]
       [2. 1.]
       [0. 0.]] [1. 2. 0.]
    """
    rows, labels, _ = _read(features, labels, num_classes, where)
    return _means(rows, labels, num_classes, axis_name)


def nbc_penalty(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    tau: ArrayLike = 0.2,
    where: ArrayLike | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    r"""Penalty on classes whose mean features lie in one direction (NBC-Softmax).

    .. math::
      \frac{1}{C K} \sum_{k=1}^{K} \log \Bigl(1 + \sum_{l \ne k}
        e^{\tau \cos(m_k, m_l)} \Bigr)

    over the K classes in the batch, with the means m of their features. It is least
    where they are opposite. As in the authors' code tau multiplies, and the sum is over
    all C classes, in the batch or not; their 1e-10 inside the logarithm is left out.
    They weigh it by one half against the loss.

    A mean of 0 has a cosine of 0 with all. Memory is that of the logits.

    Shared arguments: `as_softmax_jax.regularizers`.

    Args:
      num_classes: C, of the task.
      tau: finite; a scalar.

    Returns:
      The penalty, a scalar, float32 (float64 of float64 features); 0 where the batch
      has one class or none.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.regularizers import nbc_penalty
      >>> features, labels = jnp.eye(2), jnp.array([0, 1])
      >>> penalty = nbc_penalty(features, labels, num_classes=2)
      >>> print(f"{penalty:.4f}")  # log(1 + e^0) / 2
      0.3466

    References:
      Kulatilleke et al., `NBC-Softmax: Darkweb Author fingerprinting and migration
      tracking <https://arxiv.org/abs/2212.08184>`_, 2022, after the authors' code.
    """
    rows, labels, bad = _read(features, labels, num_classes, where)
    tau = checks.number(tau, rows.dtype, "tau")
    means, counts = _means(rows, labels, num_classes, axis_name)
    directions = means * inverse_norm(means, axis=-1)[:, None]
    # Of each example's class with all others, and no array of classes by classes.
    there, own = labels < num_classes, jnp.minimum(labels, num_classes - 1)
    similar = jnp.where(there[:, None], directions[own], 0) @ directions.T
    other = jnp.arange(num_classes, dtype=own.dtype)[None] != own[:, None]
    others = jnp.where(other & (counts[None] > 0), jnp.exp(tau * similar), 0)
    share = jnp.where(there, 1 / jnp.maximum(counts[own], 1), 0)
    total = jnp.sum(share * jnp.log1p(jnp.sum(others, axis=-1)))
    num_bad = jnp.sum(bad)
    if axis_name is not None:
        total, num_bad = jax.lax.psum((total, num_bad), axis_name)
    present = jnp.sum(counts > 0).astype(rows.dtype)
    penalty = total / (jnp.maximum(present, 1) * num_classes)
    return nan_where(num_bad > 0, penalty)


def _read(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns features [n, D], labels [n], and which of these are bad.

    Rows left out have features of 0, and the label C, as bad ones have.
    """
    num_classes = checks.integer(num_classes, "num_classes", at_least=1)
    features = checks.floating_array(features, "features")
    rows = "features without their last axis"
    labels = checks.integer_array(labels, features.shape[:-1], rows, "labels")
    where = checks.boolean_mask(where, labels.shape, "labels", "where")
    there = jnp.ones(labels.shape, bool) if where is None else where
    # In their own type, so that none wraps around.
    inside = (labels >= 0) & (labels < num_classes)
    valid = there & inside
    flat = features.reshape(-1, features.shape[-1])
    flat = jnp.where(valid.reshape(-1, 1), flat, jnp.zeros((), flat.dtype))
    labels = jnp.where(valid, labels, num_classes).astype(jnp.int32).ravel()
    return flat.astype(compute_dtype(flat.dtype)), labels, (there & ~inside).ravel()


def _means(
    rows: jax.Array, labels: jax.Array, num_classes: int, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """Returns means [C, D] and counts [C], in the rows' dtype."""
    totals = jnp.zeros((num_classes, rows.shape[-1]), rows.dtype)
    totals = totals.at[labels].add(rows, mode="drop")
    counts = jnp.zeros(num_classes, rows.dtype).at[labels].add(1, mode="drop")
    if axis_name is not None:
        totals, counts = jax.lax.psum((totals, counts), axis_name)
    return totals / jnp.maximum(counts, 1)[:, None], counts
