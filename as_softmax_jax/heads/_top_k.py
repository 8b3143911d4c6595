"""The best classes of an output layer and their probabilities, without its logits."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.log_sum_exp import LogSumExp, finite_shift
from as_softmax_jax.heads._blocks import Layer, Span, filled, for_blocks
from as_softmax_jax.heads._operands import LAYOUTS, mask_for_all_rows, operands_of


class TopClasses(NamedTuple):
    """The best classes of each row, the best first."""

    logits: jax.Array  # [..., k]
    classes: jax.Array  # [..., k] int32
    log_sum_exp: jax.Array  # [...], of the logits of all classes

    def probs(self) -> jax.Array:
        """Returns the probability of each, [..., k]."""
        return jnp.exp(self.logits - self.log_sum_exp[..., None])


def linear_top_k(
    features: ArrayLike,
    kernel: ArrayLike,
    *,
    k: int,
    bias: ArrayLike | None = None,
    class_mask: ArrayLike | None = None,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
) -> TopClasses:
    r"""Returns the k largest logits of an output layer, and what makes them probable.

    .. math::
      p_j = e^{o_j - L}, \qquad L = \log \sum_i e^{o_i}, \qquad o = x W + b

    For prediction among many classes: one pass over blocks of logits keeps the best k
    and an online log-sum-exp. No gradient flows.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C], or [C, D].
      k: how many, at most C; with `axis_name`, at most a device's part of it.
      bias: floating point [C]; None: no bias.
      class_mask: boolean [C], the valid classes. Where these are fewer than k, the
        rest of a row is -1, with logits of -inf.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      axis_name: inside `jax.shard_map`, the mesh axis over which the classes are
        split: kernel, bias and mask are this device's part, and the classes that come
        back count over all of them. k numbers and classes a row cross the wire.

    Returns:
      The best classes, of equal ones the first; float32, or float64 for float64
      operands.

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import linear_top_k
      >>> x, w = jnp.eye(1, 2), jnp.log(jnp.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]))
      >>> best = linear_top_k(x, w, k=2)
      >>> jnp.set_printoptions(precision=4)
      >>> print(best.classes, best.probs())
      [[1 2]] [[0.5 0.3]]

    References:
      Milakov and Gimelshein, `Online normalizer calculation for softmax
      <https://arxiv.org/abs/1805.02867>`_, 2018, algorithm 4.
    """
    checks.one_of(kernel_layout, LAYOUTS, "kernel_layout")
    k = checks.static_count(k, "k")
    operands = operands_of(features, kernel, bias, kernel_layout)
    features, kernel, bias = lax.stop_gradient(operands)
    num_classes = kernel.shape[kernel_layout.index("c")]
    if k > num_classes:
        raise ValueError(f"`k` must be at most the {num_classes} classes; got {k}.")
    mask = None
    if class_mask is not None:
        mask = mask_for_all_rows(class_mask, num_classes)[None]
    shape = features.shape[:-1]
    features = features.reshape(-1, features.shape[-1])
    first: jax.Array | int = 0
    if axis_name is not None:
        first = lax.axis_index(axis_name) * num_classes
    found = _best(Layer(kernel, bias, mask), kernel_layout, features, k, first)
    if axis_name is not None:
        found = _best_of_all(found, axis_name)
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), found)


def _best(
    layer: Layer, layout: str, features: jax.Array, k: int, first: jax.Array | int
) -> TopClasses:
    """Returns the best of a device's classes, of rows [N, D]."""
    num_classes = layer.kernel.shape[layout.index("c")]
    dtype = compute_dtype(features.dtype)
    if layer.bias is not None:
        layer = layer._replace(bias=layer.bias.astype(dtype))

    def add_block(span: Span, carry: Any) -> Any:
        state, best, classes = carry
        block = layer.block(span, layout, False)
        logits = block.logits(features, None)
        if block.class_mask is not None:
            logits = jnp.where(block.class_mask, logits, -jnp.inf)
        here = first + span.start + jnp.arange(span.width, dtype=jnp.int32)
        every = jnp.concatenate([best, logits], axis=1)
        best, places = lax.top_k(every, k)
        here = jnp.broadcast_to(here, logits.shape)
        ids = jnp.concatenate([classes, here], axis=1)
        return state.update(logits), best, jnp.take_along_axis(ids, places, axis=1)

    num_rows, like = len(features), (features, layer, jnp.asarray(first))
    low = filled((num_rows,), -jnp.inf, dtype, like)
    start = (
        LogSumExp(low, filled((num_rows,), 0, dtype, like)),
        filled((num_rows, k), -jnp.inf, dtype, like),
        filled((num_rows, k), -1, jnp.int32, like),
    )
    state, best, classes = for_blocks(num_classes, add_block, start)
    return TopClasses(best, classes, state.value())


def _best_of_all(own: TopClasses, axis_name: str) -> TopClasses:
    """Returns the best of what the devices of an axis have found, on each of them."""
    part, parts = lax.axis_index(axis_name), lax.axis_size(axis_name)

    def gathered(values: jax.Array) -> jax.Array:
        # Each in its own place of zeros: the sum is known to be the same everywhere.
        whole = jnp.zeros((parts, *values.shape), values.dtype).at[part].set(values)
        whole = lax.psum(whole, axis_name)
        return jnp.moveaxis(whole, 0, 1).reshape(len(values), -1)

    best, places = lax.top_k(gathered(own.logits), own.logits.shape[1])
    classes = jnp.take_along_axis(gathered(own.classes), places, axis=1)
    total = own.log_sum_exp
    one = LogSumExp(total, jnp.exp(total - finite_shift(total)))  # 0 where -inf
    return TopClasses(best, classes, one.over(axis_name).value())
