r"""All logits of a trained layer for part of their price, with a bound (SVD-softmax).

With the kernel :math:`W = V B^\top`, V orthonormal and its directions in the order of
their share in W, and :math:`h = x V`,

.. math::
  o_j = \underbrace{h_{<w} \cdot B_{j, <w}}_{\text{preview}}
        + h_{\ge w} \cdot B_{j, \ge w} + b_j, \qquad
  |h_{\ge w} \cdot B_{j, \ge w}| \le \lVert h_{\ge w} \rVert\,
                                     \lVert B_{j, \ge w} \rVert .

The preview costs w / D of the layer. The classes with the best ones are finished, and
the bound says where no other class can be better.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax.heads._operands import LAYOUTS


class LowRankKernel(NamedTuple):
    """A kernel [D, C] in the basis of its own directions, the strongest first."""

    basis: jax.Array  # [D, D] V
    preview: jax.Array  # [C, w], of each class
    rest: jax.Array  # [C, D - w]
    norms: jax.Array  # [C], the length of each class's vector
    rest_norms: jax.Array  # [C], of its rest


class LowRankLogits(NamedTuple):
    """Logits of all classes, finished for the best of them."""

    logits: jax.Array  # [..., C]
    bound: jax.Array  # [..., C], how far the preview of each may be from its logit
    certain: jax.Array  # [...] bool: no other class can have the largest logit


def low_rank_kernel(
    kernel: ArrayLike, *, width: int, kernel_layout: str = "dc"
) -> LowRankKernel:
    """Brings a trained layer's kernel to the form that `low_rank_logits` takes.

    Once, after training: it takes D^2 C multiplications.

    Args:
      kernel: floating point [D, C].
      width: w, how many directions make the preview, at most D; D / 8 serves as a
        start.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The kernel in the basis of its directions.

    Raises:
      TypeError: the kernel is not floating point, or the width no integer.
      ValueError: an argument has a wrong shape or value.

    References:
      Shim et al., `SVD-Softmax: Fast Softmax Approximation on Large Vocabulary Neural
      Networks <https://papers.nips.cc/paper/2017/hash/
      4e2a6330465c8ffcaa696a5a16639176-Abstract.html>`_, NeurIPS 2017.
    """
    checks.one_of(kernel_layout, LAYOUTS, "kernel_layout")
    width = checks.static_count(width, "width")
    kernel = lax.stop_gradient(checks.floating_array(kernel, "kernel"))
    if kernel.ndim != 2:
        raise ValueError(f"`kernel` must be [D, C]; got shape {kernel.shape}.")
    classes = kernel.T if kernel_layout == "dc" else kernel
    if width > classes.shape[1]:
        raise ValueError(
            f"`width` must be at most the {classes.shape[1]} features; got {width}."
        )
    classes = classes.astype(compute_dtype(classes.dtype))
    # The right singular vectors of [C, D], without the left ones, which are as large.
    squares = jnp.matmul(classes.T, classes, precision=lax.Precision.HIGHEST)
    basis = jnp.linalg.eigh(squares)[1][:, ::-1]
    turned = jnp.matmul(classes, basis, precision=lax.Precision.HIGHEST)
    preview, rest = turned[:, :width], turned[:, width:]
    norms = jnp.linalg.norm(turned, axis=1)
    return LowRankKernel(basis, preview, rest, norms, jnp.linalg.norm(rest, axis=1))


def low_rank_logits(
    features: ArrayLike,
    low_rank: LowRankKernel,
    *,
    top_k: int,
    bias: ArrayLike | None = None,
) -> LowRankLogits:
    """Returns the logits of all classes, exact for those with the best previews.

    For prediction: no gradient flows. Of equal previews those of the first classes are
    finished. With as many as there are classes, or with a width of all features, every
    logit is exact.

    Args:
      features: floating point [..., D].
      low_rank: of `low_rank_kernel`.
      top_k: how many classes are finished, of each row.
      bias: floating point [C]; None: no bias.

    Returns:
      Logits, bounds and whether the first class is certain; float32, or float64 for
      float64 operands. A bound has room for rounding.

    Raises:
      TypeError: an argument has a wrong dtype.
      ValueError: an argument has a wrong shape or value.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from as_softmax_jax.heads import low_rank_kernel, low_rank_logits
      >>> shares = 0.3 ** jnp.arange(8.0)[:, None]  # of the directions in the kernel
      >>> kernel = shares * jax.random.normal(jax.random.key(0), (8, 1000))
      >>> x = jnp.ones(8)
      >>> found = low_rank_logits(x, low_rank_kernel(kernel, width=4), top_k=10)
      >>> print(found.certain, jnp.argmax(found.logits) == jnp.argmax(x @ kernel))
      True True

    References:
      Shim et al., `SVD-Softmax`, NeurIPS 2017; the bound is that of Cauchy and Schwarz.
    """
    top_k = checks.static_count(top_k, "top_k")
    features = lax.stop_gradient(checks.floating_array(features, "features"))
    num_classes, width = low_rank.preview.shape
    if features.shape[-1:] != low_rank.basis.shape[:1]:
        raise ValueError(
            f"`features` must be [..., {low_rank.basis.shape[0]}] for this kernel; got "
            f"{features.shape}."
        )
    if top_k > num_classes:
        raise ValueError(
            f"`top_k` must be at most the {num_classes} classes; got {top_k}."
        )
    dtype = jnp.result_type(compute_dtype(features.dtype), low_rank.basis.dtype)
    low_rank = jax.tree.map(lambda a: a.astype(dtype), low_rank)
    turned = features.astype(dtype) @ low_rank.basis
    preview = turned[..., :width] @ low_rank.preview.T
    if bias is not None:
        preview += _bias(bias, num_classes, dtype, preview.ndim)
    best, classes = lax.top_k(preview, top_k)
    rest = turned[..., width:]
    best += jnp.einsum("...kd,...d->...k", low_rank.rest[classes], rest)
    logits = jnp.put_along_axis(preview, classes, best, axis=-1, inplace=False)
    lengths = (rest, low_rank.rest_norms), (turned, low_rank.norms)
    bound, most = (_products(*pair) for pair in lengths)
    bound += features.shape[-1] * jnp.finfo(dtype).eps * most
    at_most = jnp.put_along_axis(
        preview + bound, classes, jnp.full((), -jnp.inf, dtype), axis=-1, inplace=False
    )
    certain = jnp.max(best, axis=-1) >= jnp.max(at_most, axis=-1)
    return LowRankLogits(logits, bound, certain)


def _products(vectors: jax.Array, norms: jax.Array) -> jax.Array:
    """Returns |v| times each norm, [..., C]."""
    lengths = jnp.linalg.norm(vectors, axis=-1)[..., None]
    return lengths * jnp.expand_dims(norms, tuple(range(lengths.ndim - 1)))


def _bias(bias: ArrayLike, num_classes: int, dtype: jnp.dtype, ndim: int) -> jax.Array:
    """Returns the bias as [..., C]."""
    bias = checks.floating_array(bias, "bias")
    if bias.shape != (num_classes,):
        raise ValueError(
            f"`bias` must have the shape ({num_classes},), a number a class; got "
            f"{bias.shape}."
        )
    return bias.astype(dtype).reshape((1,) * (ndim - 1) + (-1,))
