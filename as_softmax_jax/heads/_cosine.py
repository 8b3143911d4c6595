r"""Cosines between features and the classes' weights, which margin losses take.

.. math:: c_j = \frac{x \cdot w_j}{\lVert x \rVert \, \lVert w_j \rVert}

The product is of the raw operands, and the inverse norms multiply its float32 sums:
half-precision operands stay what they are, where normalised vectors would be rounded
once more.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.norms import clipped_cosine, inverse_norm
from as_softmax_jax.heads._centers import nearest
from as_softmax_jax.heads._operands import LAYOUTS, count_classes
from as_softmax_jax.heads._products import Operands, product, read, sum_dtype


def cosine_logits(
    features: ArrayLike,
    kernel: ArrayLike,
    *,
    sub_centers: int = 1,
    kernel_layout: str = "dc",
) -> jax.Array:
    r"""Returns the cosine of the angle between features and each class's weights.

    .. math::
      c_j = \max_{k \le K}
            \frac{x \cdot w_{jk}}{\lVert x \rVert \, \lVert w_{jk} \rVert}

    What `margin_softmax_loss`, `arcface_loss` and their kin take for logits. A feature
    vector of length 0, and a class with weights of 0, have a cosine of 0 with all, and
    no gradient.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, C K]; the K centres of a class lie side by side.
      sub_centers: K, how many centres a class has; the nearest counts.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The cosines [..., C], float32 (float64 of float64 features), in [-1, 1].

    Raises:
      ValueError: the shapes do not fit, or the layout is none of the two.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import cosine_logits
      >>> kernel = jnp.array([[2.0, 0.0], [0.0, 5.0]])
      >>> jnp.set_printoptions(precision=4)
      >>> print(cosine_logits(jnp.array([3.0, 4.0]), kernel))
      [0.6 0.8]
      >>> print(cosine_logits(jnp.array([3.0, 4.0]), kernel, sub_centers=2))
      [0.8]

    References:
      Deng et al., `Sub-center ArcFace
      <https://doi.org/10.1007/978-3-030-58621-8_43>`_, ECCV 2020.
    """
    sub_centers = checks.integer(sub_centers, "sub_centers", at_least=1)
    x = read(features, kernel, kernel_layout)
    count_classes(x.kernel.shape[1], sub_centers)
    cosines = cosines_of(x)
    return cosines if sub_centers == 1 else nearest(cosines, sub_centers)[0]


def append_class(
    kernel: ArrayLike,
    features: ArrayLike,
    *,
    where: ArrayLike | None = None,
    kernel_layout: str = "dc",
) -> jax.Array:
    r"""Adds a class to a cosine layer out of some of its examples, without training.

    .. math::
      w_{C+1} = \frac{\bar x}{\lVert \bar x \rVert}, \qquad
      \bar x = \frac{1}{n} \sum_i \frac{x_i}{\lVert x_i \rVert}

    Args:
      kernel: floating point [D, C].
      features: floating point [n, D], of examples of the new class.
      where: boolean [n], the examples that count. None: all.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.

    Returns:
      The kernel with one more class, at the end. Examples that cancel out give a class
      with weights of 0, which no features are near.

    Raises:
      ValueError: the shapes do not fit, or the layout is none of the two.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import append_class
      >>> kernel = jnp.array([[1.0], [0.0]])
      >>> print(append_class(kernel, jnp.array([[0.0, 2.0], [0.0, 0.5]])))
      [[1. 0.]
       [0. 1.]]
    """
    checks.one_of(kernel_layout, LAYOUTS, "kernel_layout")
    kernel = checks.floating_array(kernel, "kernel")
    features = checks.floating_array(features, "features")
    width = kernel.shape[kernel_layout.index("d")]
    if features.ndim != 2 or features.shape[1] != width:
        raise ValueError(
            f"`features` must be [n, {width}] for this kernel; got {features.shape}."
        )
    where = checks.boolean_mask(where, features.shape[:1], "features' rows", "where")
    x = features.astype(compute_dtype(features.dtype))
    directions = x * inverse_norm(x, axis=-1)[:, None]
    if where is not None:
        directions = jnp.where(where[:, None], directions, 0)
    total = jnp.sum(directions, axis=0)
    weights = (total * inverse_norm(total, axis=0)).astype(kernel.dtype)
    axis = kernel_layout.index("c")
    return jnp.concatenate([kernel, jnp.expand_dims(weights, axis)], axis)


def cosines_of(x: Operands) -> jax.Array:
    """Returns the cosines of features and columns, [..., C]."""
    dtype = sum_dtype(x)
    of_features = inverse_norm(x.features.astype(dtype), axis=-1)
    of_columns = inverse_norm(x.kernel.astype(dtype), axis=0)
    of_columns = of_columns.reshape((1,) * (x.features.ndim - 1) + (-1,))
    return clipped_cosine(product(x) * of_features[..., None] * of_columns)
