r"""Distances from the features to a prototype of each class, below 0 as logits."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.norms import inverse_norm, root
from as_softmax_jax.heads._cosine import cosines_of
from as_softmax_jax.heads._products import Operands, read, sum_dtype


def distance_logits(
    features: ArrayLike,
    kernel: ArrayLike,
    *,
    distance_scale: ArrayLike = 1.0,
    kernel_layout: str = "dc",
    axis_name: str | None = None,
    exact: bool = False,
) -> jax.Array:
    r"""Returns how near each class's prototype is, below 0 (DisMax).

    .. math::
      o_j = -\Bigl(D_j + \frac1C \sum_k D_k\Bigr), \qquad
      D_j = \frac{|d|}{\sqrt 2}
            \lVert \frac{x}{\lVert x \rVert} - \frac{w_j}{\lVert w_j \rVert}
            \rVert = |d| \sqrt{1 - \cos \theta_j}

    What `dismax_loss` takes for logits. The mean distance, the same for every class, is
    lost in a softmax; `as_softmax_jax.scores.max_mean_entropy_score` takes it. Features
    of length 0, and a class with weights of 0, are :math:`|d|` away from all, without a
    gradient; nor has a distance of 0 one.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C], the prototypes; start them from a normal
        distribution.
      distance_scale: d, a scalar that is trained with the network, at first 1.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      axis_name: inside `jax.shard_map`, the mesh axis over which classes are split, as
        many on each device; the mean is over all of them.
      exact: takes the difference of the vectors, an array [..., C, D], in place of a
        product. Of close vectors 1 - cos loses digits: in float32 a distance of 0.07 is
        2e-6 off, one of 0.0007 a third.

    Returns:
      The logits [..., C], float32 (float64 of float64 features).

    Raises:
      ValueError: the shapes do not fit, or the layout is none of the two.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import distance_logits
      >>> kernel = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> print(distance_logits(jnp.array([2.0, 0.0]), kernel))  # -(0, 1) - 1/2
      [-0.5 -1.5]

    References:
      Macêdo et al., `Distinction Maximization Loss
      <https://arxiv.org/abs/2205.05874>`_, 2022, after `the authors' code
      <https://github.com/dlmacedo/distinction-maximization-loss>`_.
    """
    x = read(features, kernel, kernel_layout)
    scale = checks.number(distance_scale, sum_dtype(x), "distance_scale")
    if scale.ndim:
        raise ValueError(f"`distance_scale` must be a scalar; got shape {scale.shape}.")
    distances = _between(x) if exact else root(1 - cosines_of(x))
    # |d|, whose derivative is 0 at 0, as that of `abs` need not be.
    distances *= scale * jax.lax.stop_gradient(jnp.sign(scale))
    mean = jnp.mean(distances, axis=-1, keepdims=True)
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    return -(distances + mean)


def _between(x: Operands) -> jax.Array:
    """Returns the distances by the vectors' difference, over the root of 2."""
    dtype = sum_dtype(x)
    features, columns = x.features.astype(dtype), x.kernel.astype(dtype).T
    of_features, of_columns = (inverse_norm(v, axis=-1) for v in (features, columns))
    features = features * of_features[..., None]
    columns = (columns * of_columns[:, None]).reshape(
        (1,) * (features.ndim - 1) + columns.shape
    )
    between = features[..., None, :] - columns
    square = jnp.sum(between * between, axis=-1) / 2
    of_columns = of_columns.reshape((1,) * (features.ndim - 1) + (-1,))
    there = (of_features[..., None] > 0) & (of_columns > 0)
    return root(jnp.where(there, square, 1))
