r"""A proposal over very many classes out of two short codes each (MIDX).

The class vectors are cut in halves, and each half is put down to one of K codes by
k-means. The proposal

.. math::
  Q(i \mid q) = \frac{e^{q_1 \cdot a_{k_1(i)} + q_2 \cdot b_{k_2(i)}}}
                     {\sum_{j \le C} e^{q_1 \cdot a_{k_1(j)} + q_2 \cdot b_{k_2(j)}}}

is close to the softmax of the layer, and a draw of it costs K^2 and not C: the first
code, the second one given the first, and a class of that cell, all alike.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax.heads._operands import LAYOUTS


class MultiIndex(NamedTuple):
    """The codes of C classes; a cell is a pair of codes, number k1 * K + k2."""

    codes1: jax.Array  # [K, D // 2], of the first half of the features
    codes2: jax.Array  # [K, D - D // 2], of the others
    id1: jax.Array  # [C] int32, of each class
    id2: jax.Array  # [C] int32
    order: jax.Array  # [C] int32, the classes by their cells
    start: jax.Array  # [K * K + 1] int32, where each cell begins in `order`


class SampledFromIndex(NamedTuple):
    """Draws of a proposal, with replacement."""

    classes: jax.Array  # [..., M] int32
    log_q: jax.Array  # [..., M], the log-probability of each


def build_multi_index(
    key: jax.Array,
    kernel: ArrayLike,
    *,
    num_codes: int = 16,
    num_iters: int = 100,
    kernel_layout: str = "dc",
) -> MultiIndex:
    """Builds the codes of an output layer's classes by k-means on halves of them.

    To be built anew as the layer moves, each epoch for example; it may be jitted.

    Args:
      key: of the classes that the codes start from.
      kernel: floating point [D, C], D at least 2.
      num_codes: K, of each half, at most C.
      num_iters: of k-means. A code that no class is near starts again from a class
        that is far from its own.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The index.

    Raises:
      TypeError: the kernel is not floating point, or a count no integer.
      ValueError: an argument has a wrong shape or value.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.heads import build_multi_index
      >>> kernel = jnp.array([[1.0, 1.0, -1.0, -1.0], [5.0, -5.0, 5.0, -5.0]])
      >>> index = build_multi_index(jax.random.key(0), kernel, num_codes=2)
      >>> print(index.id1[0] == index.id1[1], index.id1[0] == index.id1[2])
      True False

    References:
      Chen et al., `Learning Multi-Index Sampling for Softmax
      <https://arxiv.org/abs/2501.08563>`_, 2025, its product quantisation.
    """
    checks.one_of(kernel_layout, LAYOUTS, "kernel_layout")
    num_codes = checks.static_count(num_codes, "num_codes")
    num_iters = checks.static_count(num_iters, "num_iters")
    kernel = lax.stop_gradient(checks.floating_array(kernel, "kernel"))
    if kernel.ndim != 2 or kernel.shape[kernel_layout.index("d")] < 2:
        raise ValueError(
            f"`kernel` must be [D, C] with at least 2 features, for it is cut in two; "
            f"got {kernel.shape} in layout {kernel_layout!r}."
        )
    classes = kernel.T if kernel_layout == "dc" else kernel
    if num_codes > len(classes):
        raise ValueError(
            f"`num_codes` must be at most the {len(classes)} classes; got {num_codes}."
        )
    classes = classes.astype(compute_dtype(classes.dtype))
    half = classes.shape[1] // 2
    keys = jax.random.split(key)
    codes1, id1 = _k_means(keys[0], classes[:, :half], num_codes, num_iters)
    codes2, id2 = _k_means(keys[1], classes[:, half:], num_codes, num_iters)
    cells = id1 * num_codes + id2
    order = jnp.argsort(cells).astype(jnp.int32)
    counts = jnp.zeros(num_codes**2 + 1, jnp.int32).at[cells + 1].add(1)
    start = jnp.cumsum(counts).astype(jnp.int32)
    return MultiIndex(codes1, codes2, id1, id2, order, start)


def multi_index_log_q(
    queries: ArrayLike, index: MultiIndex, classes: ArrayLike
) -> jax.Array:
    """Returns the log-probabilities of classes by the proposal of an index.

    Args:
      queries: floating point [..., D], an example's features.
      index: of `build_multi_index`.
      classes: integers [...] or [..., M].

    Returns:
      log Q, of the shape of `classes`; float32, or float64 for float64 queries. No
      gradient flows through it.

    Raises:
      TypeError: `queries` are not floating point or `classes` no integers.
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.heads import build_multi_index, multi_index_log_q
      >>> kernel = jax.random.normal(jax.random.key(0), (4, 20))
      >>> index = build_multi_index(jax.random.key(1), kernel, num_codes=3)
      >>> log_q = multi_index_log_q(jnp.ones(4), index, jnp.arange(20))
      >>> print(jnp.allclose(jnp.sum(jnp.exp(log_q)), 1))
      True
    """
    queries = _queries(queries, index)
    classes = jnp.asarray(classes)
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise TypeError(f"`classes` must be integers; got dtype {classes.dtype}.")
    shape = queries.shape[:-1]
    if shape not in (classes.shape, classes.shape[:-1]):
        raise ValueError(
            f"`classes` must have the shape {shape} or {(*shape, 'M')}; got "
            f"{classes.shape}."
        )
    scores = _scores(queries, index)
    ids = classes if classes.ndim > len(shape) else classes[..., None]
    log_q = _log_q(scores, index.id1[ids], index.id2[ids])
    return log_q.reshape(classes.shape)


def sample_multi_index(
    key: jax.Array, queries: ArrayLike, index: MultiIndex, *, num_samples: int
) -> SampledFromIndex:
    """Draws classes for each query by the proposal of an index, with replacement.

    Args:
      key: of the step.
      queries: floating point [..., D], an example's features.
      index: of `build_multi_index`.
      num_samples: M, of each query.

    Returns:
      The classes [..., M] and their log-probabilities, which `sampled_softmax_loss`
      takes.

    Raises:
      TypeError: `queries` are not floating point, or the number no integer.
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.heads import (
      ...     build_multi_index, multi_index_log_q, sample_multi_index,
      ...     sampled_softmax_loss)
      >>> kernel = jax.random.normal(jax.random.key(0), (4, 1000))
      >>> index = build_multi_index(jax.random.key(1), kernel, num_codes=8)
      >>> x, t = jnp.ones((2, 4)), jnp.array([3, 700])
      >>> drawn = sample_multi_index(jax.random.key(2), x, index, num_samples=50)
      >>> loss = sampled_softmax_loss(
      ...     x, kernel, t, **drawn._asdict(),
      ...     label_log_q=multi_index_log_q(x, index, t))
      >>> print(drawn.classes.shape, loss.shape)
      (2, 50) (2,)
    """
    num_samples = checks.static_count(num_samples, "num_samples")
    scores = _scores(_queries(queries, index), index)
    num_codes = len(index.codes1)
    first, second, within = jax.random.split(key, 3)
    shape = (num_samples, *scores.first.shape[:-1])

    def draw(key: jax.Array, log_weights: jax.Array) -> jax.Array:
        """Draws along the last axis, M of each row or one of each of M rows."""
        return jax.random.categorical(key, log_weights, shape=shape)

    given_first = scores.second[..., None, :] + scores.log_counts
    id1 = draw(first, scores.first + jax.nn.logsumexp(given_first, axis=-1))
    rows = jnp.moveaxis(id1, 0, -1)[..., None]
    of_second = jnp.take_along_axis(given_first, rows, axis=-2)
    id2 = draw(second, jnp.moveaxis(of_second, -2, 0))
    cell = id1 * num_codes + id2
    start, end = index.start[cell], index.start[cell + 1]
    place = jax.random.randint(within, shape, start, end)
    id1, id2, place = (jnp.moveaxis(a, 0, -1) for a in (id1, id2, place))
    return SampledFromIndex(index.order[place], _log_q(scores, id1, id2))


class _Scores(NamedTuple):
    """How the codes score for each query."""

    first: jax.Array  # [..., K]
    second: jax.Array  # [..., K]
    log_counts: jax.Array  # [..., K, K], of the classes of each cell; -inf for none


def _scores(queries: jax.Array, index: MultiIndex) -> _Scores:
    half, num_codes = index.codes1.shape[1], len(index.codes1)
    counts = jnp.diff(index.start).reshape(num_codes, num_codes)
    counts = jnp.expand_dims(counts, tuple(range(queries.ndim - 1)))
    some = counts > 0
    log_counts = jnp.log(jnp.where(some, counts, 1).astype(queries.dtype))
    return _Scores(
        queries[..., :half] @ index.codes1.astype(queries.dtype).T,
        queries[..., half:] @ index.codes2.astype(queries.dtype).T,
        jnp.where(some, log_counts, -jnp.inf),
    )


def _log_q(scores: _Scores, id1: jax.Array, id2: jax.Array) -> jax.Array:
    """Returns log Q of classes by their codes, [..., M]."""
    cells = scores.first[..., :, None] + scores.second[..., None, :]
    total = jax.nn.logsumexp(cells + scores.log_counts, axis=(-2, -1))
    own = jnp.take_along_axis(scores.first, id1, axis=-1)
    own += jnp.take_along_axis(scores.second, id2, axis=-1)
    return own - total[..., None]


def _queries(queries: ArrayLike, index: MultiIndex) -> jax.Array:
    """Returns queries in the compute dtype, without a gradient."""
    queries = lax.stop_gradient(checks.floating_array(queries, "queries"))
    width = index.codes1.shape[1] + index.codes2.shape[1]
    if queries.shape[-1:] != (width,):
        raise ValueError(
            f"`queries` must be [..., {width}] for this index; got {queries.shape}."
        )
    return queries.astype(compute_dtype(queries.dtype))


def _k_means(
    key: jax.Array, vectors: jax.Array, num_codes: int, num_iters: int
) -> tuple[jax.Array, jax.Array]:
    """Returns codes [K, d], and the nearest one of each vector, int32 [C]."""

    def step(_: jax.Array, codes: jax.Array) -> jax.Array:
        nearest, distances = _nearest(vectors, codes)
        sums = jnp.zeros_like(codes).at[nearest].add(vectors)
        counts = jnp.zeros(num_codes, codes.dtype).at[nearest].add(1)
        means = sums / jnp.maximum(counts, 1)[:, None]
        # The k-th code without a vector starts again from the k-th farthest one.
        empty = counts == 0
        _, far = lax.top_k(distances, num_codes)
        again = vectors[far[jnp.cumsum(empty) - 1]]
        return jnp.where(empty[:, None], again, means)

    first = _far_apart(key, vectors, num_codes)
    codes = lax.fori_loop(0, num_iters, step, first)
    return codes, _nearest(vectors, codes)[0]


def _far_apart(key: jax.Array, vectors: jax.Array, num_codes: int) -> jax.Array:
    """Draws the codes to start from, [K, d], rather far from each other (k-means++).

    Arthur and Vassilvitskii, SODA 2007: each with a probability that grows with the
    square of its distance to those before.
    """
    keys = jax.random.split(key, num_codes)
    one = vectors[jax.random.randint(keys[0], (), 0, len(vectors))]
    codes = jnp.zeros((num_codes, vectors.shape[1]), vectors.dtype).at[0].set(one)
    far = jnp.sum((vectors - one[None]) ** 2, axis=1)

    def add(k: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        codes, far = carry
        one = vectors[jax.random.categorical(keys[k], jnp.log(far))]
        nearer = jnp.sum((vectors - one[None]) ** 2, axis=1)
        return codes.at[k].set(one), jnp.minimum(far, nearer)

    return lax.fori_loop(1, num_codes, add, (codes, far))[0]


def _nearest(vectors: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the nearest code of each vector, int32 [C], and its squared distance."""
    # |v|^2 is the same for all codes, and left out.
    squares = jnp.sum(codes * codes, axis=1)[None] - 2 * vectors @ codes.T
    nearest = jnp.argmin(squares, axis=1).astype(jnp.int32)
    distances = jnp.min(squares, axis=1) + jnp.sum(vectors * vectors, axis=1)
    return nearest, distances
