"""The [N, C] logits in blocks that stay in cache: loops over classes and over rows.

Rows come in numbers known only when the program runs (how many are active), while
shapes are fixed. So rows are cut greedily into chunks of a few sizes, and the loop
over each size runs as often as the count says: fewer than `ROW_SIZES[-1]` rows are
computed in vain.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.mesh import as_varying, varying_axes
from as_softmax_jax._core.norms import inverse_norm
from as_softmax_jax.heads._centers import nearest

# Sizes of chunks of rows, the largest first.
ROW_SIZES = (512, 64, 16)
# Classes in a block: [512, 1024] float32 logits are 2 MiB. With half as many, products
# cost two CPU cores a quarter of their speed.
CLASSES = 1024


class Span(NamedTuple):
    """The classes of one block."""

    index: Any  # the block's number, int32
    start: Any  # its first class, int32
    width: int  # how many classes

    def places_of(self, labels: jax.Array) -> jax.Array:
        """Returns where labels lie in the block, [R]; `width` for those outside."""
        places = labels - self.start
        inside = (places >= 0) & (places < self.width)
        return jnp.where(inside, places, self.width)


class Layer(NamedTuple):
    """An output layer, or some classes of it: logits are features @ kernel + bias."""

    kernel: jax.Array  # [D, C K]; [C K, D] in a layer of layout "cd"
    bias: jax.Array | None  # [C], in the compute dtype
    class_mask: jax.Array | None  # [1, C] or [N, C] bool, the valid classes
    # Of a block: [C K], 1 / |w| of each column where logits are cosines times a scale.
    inverse_norms: jax.Array | None = None

    def block(
        self, span: Span, layout: str, cosines: bool, centers: int = 1
    ) -> "Layer":
        """Returns the classes of a span, in layout "dc", of so many columns each."""

        def cut(array: jax.Array, axis: int, columns: int = 1) -> jax.Array:
            start, width = span.start * columns, span.width * columns
            return lax.dynamic_slice_in_dim(array, start, width, axis)

        axis = layout.index("c")
        kernel = cut(self.kernel, axis, centers)
        kernel = kernel if layout == "dc" else kernel.T
        wide = kernel.astype(compute_dtype(kernel.dtype))
        return Layer(
            kernel,
            None if self.bias is None else cut(self.bias, 0),
            None if self.class_mask is None else cut(self.class_mask, 1),
            inverse_norm(wide, axis=0) if cosines else None,
        )

    def logits(
        self, features: jax.Array, scale: jax.Array | None, centers: int = 1
    ) -> jax.Array:
        """Returns the logits of some rows, [R, C], in the compute dtype.

        Args:
          features: [R, D].
          scale: of cosines, [R]: what each row's products are multiplied by.
          centers: how many columns a class has; the largest logit is its own.
        """
        logits = self.products(features, scale)
        if centers > 1:
            logits, _ = nearest(logits, centers)
        return logits if self.bias is None else logits + self.bias[None]

    def products(self, features: jax.Array, scale: jax.Array | None) -> jax.Array:
        """Returns the logits of the columns without a bias; arguments as `logits`."""
        return dot(features, self.kernel, (1, 0)) * self.factors(scale)

    def factors(self, scale: jax.Array | None) -> jax.Array | float:
        """Returns what makes logits of products, [R, C K]: 1 where they are logits."""
        if scale is None or self.inverse_norms is None:
            return 1.0
        return scale[:, None] * self.inverse_norms[None]

    def take(self, rows: jax.Array) -> "Layer":
        """Returns the layer for other rows, where the class mask is of each row."""
        mask = self.class_mask
        if mask is None or mask.shape[0] == 1:
            return self
        return self._replace(class_mask=mask[rows])

    def mask_of(self, pick: Callable[[jax.Array], jax.Array]) -> jax.Array | None:
        """Returns the class mask of some rows; `pick` takes them out of N."""
        mask = self.class_mask
        return mask if mask is None or mask.shape[0] == 1 else pick(mask)


def dot(a: jax.Array, b: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """Multiplies matrices over one axis each; sums in float32, or in float64."""
    dtype = compute_dtype(a.dtype)
    contracted = ((axes[0],), (axes[1],))
    return lax.dot_general(a, b, (contracted, ((), ())), preferred_element_type=dtype)


def num_blocks(num_classes: int) -> int:
    """Returns how many blocks the classes are cut into."""
    return -(-num_classes // CLASSES)


def for_blocks(num_classes: int, body: Callable[[Span, Any], Any], carry: Any) -> Any:
    """Runs `body(span, carry)` over the blocks in order; the last may be ragged."""
    full, rest = divmod(num_classes, CLASSES)
    if full:
        carry = lax.fori_loop(
            np.int32(0),
            np.int32(full),
            lambda i, carry: body(Span(i, i * CLASSES, CLASSES), carry),
            carry,
        )
    last = Span(np.int32(full), np.int32(full * CLASSES), rest)
    return body(last, carry) if rest else carry


def for_rows(
    count: jax.Array | int,
    num_rows: int,
    body: Callable[[Any, int, Any], Any],
    carry: Any,
    sizes: tuple[int, ...] = ROW_SIZES,
) -> Any:
    """Runs `body(offset, size, carry)` over the first `count` rows, in chunks.

    Args:
      count: of rows. The last chunk may pass it by less than the smallest size.
      num_rows: of the arrays that the chunks are cut from, a multiple of that size.
      body: works on `size` rows from `offset` on.
      carry: what the loop hands on.
      sizes: of the chunks, the largest first, each a multiple of the next.
    """
    start: jax.Array | int = 0
    known = isinstance(num_rows, int)  # else symbolic, a multiple of every size
    for size in sizes:
        if known and size > num_rows:
            continue
        missing = size - 1 if size == sizes[-1] else 0
        trips = (count - start + missing) // size
        if isinstance(trips, int) and trips == 0:
            continue

        def step(i: Any, carry: Any, size: int = size, start: Any = start) -> Any:
            return body(start + i * size, size, carry)

        if known and num_rows < 2 * size:
            # One trip at most. A loop would do: but where a chunk is all rows, XLA
            # sees that trips do not differ, and computes one before asking for any.
            once = functools.partial(step, np.int32(0))
            carry = lax.cond(trips > 0, once, lambda carry: carry, carry)
        else:
            carry = lax.fori_loop(np.int32(0), jnp.int32(trips), step, carry)
        start = start + trips * size
    return carry


def put(matrix: jax.Array, places: jax.Array, value: jax.Array | float) -> jax.Array:
    """Writes a value into one place of each row [R, width]; outside, it is dropped."""
    rows = jnp.arange(matrix.shape[0], dtype=jnp.int32)
    return matrix.at[rows, places].set(value, mode="drop", unique_indices=True)


def filled(shape: tuple[int, ...], value: float, dtype: Any, like: Any) -> jax.Array:
    """Returns a constant array that varies over the mesh axes that `like` does."""
    return as_varying(jnp.full(shape, value, dtype), varying_axes(like))
