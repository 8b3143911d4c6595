r"""A density of ordered bins by its Fourier series: the Fourier head.

With :math:`a = x W + b` the coefficients, the first half real parts and the second
imaginary ones, the density is the square of a sum of waves, so it is nowhere negative:

.. math::
  p(u) \propto |A(u)|^2, \qquad A(u) = \sum_{k=0}^{K} a_k e^{i \pi k u}, \qquad
  u \in [-1, 1]

Its own series has the coefficients :math:`c_l = \sum_k a_{k + l} \bar a_k`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax.heads._products import product, read, sum_dtype


def fourier_logits(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike,
    *,
    num_classes: int,
    eps: float = 1e-5,
) -> jax.Array:
    r"""Returns logits of ordered bins that vary as smoothly as few waves do.

    .. math::
      o_j = \log \Bigl(\frac{|A(u_j)|^2}{\sum_k |A(u_k)|^2} + \epsilon \Bigr), \qquad
      A(u) = \sum_{k=0}^{K} a_k e^{i \pi k u}, \quad
      u_j = -1 + \frac{2 j + 1}{C}

    with :math:`a = x W + b`, for classes that are numbers in order: values of a time
    series, steps of a control. `fourier_penalty` keeps the density smooth. The series'
    normalising coefficient, which the paper divides by, is lost in the quotient and not
    computed. The logits are log-probabilities up to :math:`\epsilon`, which bounds them
    below. Begin with a hundredth of what a linear layer begins with.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, 2 (K + 1)], for the real parts, then the imaginary
        ones.
      bias: floating point [2 (K + 1)].
      num_classes: C, the number of bins.
      eps: epsilon, above 0.

    Returns:
      The logits [..., C], float32 (float64 of float64 features); log(eps) everywhere
      where all coefficients are 0, without a gradient.

    Raises:
      ValueError: the shapes do not fit, or `eps` is not above 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import fourier_logits
      >>> # 1 + e^(i pi u): most in the middle
      >>> kernel, bias = jnp.zeros((3, 4)), jnp.array([1.0, 1.0, 0.0, 0.0])
      >>> logits = fourier_logits(jnp.ones(3), kernel, bias, num_classes=4)
      >>> jnp.set_printoptions(precision=3)
      >>> print(jnp.exp(logits))
      [0.073 0.427 0.427 0.073]

    References:
      Gillman et al., `Fourier Head: Helping Large Language Models Learn Complex
      Probability Distributions <https://arxiv.org/abs/2410.22269>`_, ICLR 2025; eps as
      in `the authors' code <https://github.com/nate-gillman/fourier-head>`_.
    """
    num_classes = checks.integer(num_classes, "num_classes", at_least=1)
    eps = checks.positive_float(eps, "eps")
    real, imaginary = _coefficients(features, kernel, bias)
    # The quotient is of degree 0: no square overflows, and the gradient is the same.
    size = jnp.maximum(jnp.max(jnp.abs(real), -1), jnp.max(jnp.abs(imaginary), -1))
    size = jax.lax.stop_gradient(jnp.where(size > 0, size, 1))[..., None]
    waves = _waves(num_classes, real.shape[-1], real.dtype)
    re, im = _sums(real / size, imaginary / size, *waves)
    squares = re * re + im * im
    total = jnp.sum(squares, axis=-1, keepdims=True)
    return jnp.log(squares / jnp.where(total > 0, total, 1) + eps)


def fourier_penalty(
    features: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike,
    *,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How rough a density of `fourier_logits` is, one value an example.

    .. math::
      2 \sum_{l=1}^{K} 2 \pi^2 l^2 |c_l|^2 = 2 \int_{-1}^{1} \bigl(|A(u)|^2\bigr)'^2
      \, \frac{du}{2}

    Add its mean times 1e-6 to the loss. As in the authors' code it is of the
    coefficients before they are normalised, and so also of their size. It is computed
    as the integral, which 2K + 1 points give exactly.

    Args:
      features: floating point [..., D].
      kernel: floating point [D, 2 (K + 1)].
      bias: floating point [2 (K + 1)].
      where: boolean, broadcasts to the examples: those that count. None: all.

    Returns:
      The penalty [...], float32 (float64 of float64 features); 0 in rows left out.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax.heads import fourier_penalty
      >>> kernel, bias = jnp.zeros((3, 4)), jnp.array([1.0, 1.0, 0.0, 0.0])
      >>> jnp.set_printoptions(precision=2)
      >>> print(fourier_penalty(jnp.ones((1, 3)), kernel, bias))  # 4 pi^2
      [39.48]

    References:
      Gillman et al., `Fourier Head: Helping Large Language Models Learn Complex
      Probability Distributions <https://arxiv.org/abs/2410.22269>`_, ICLR 2025, after
      `the authors' code <https://github.com/nate-gillman/fourier-head>`_.
    """
    rows = jnp.shape(features)[:-1]
    there = checks.boolean_mask(
        where, rows, "features without their last axis", "where"
    )
    if there is not None:
        features = jnp.where(there[..., None], features, jnp.zeros_like(features))
    real, imaginary = _coefficients(features, kernel, bias)
    num_waves = real.shape[-1]
    waves = _waves(2 * num_waves - 1, num_waves, real.dtype)
    re, im = _sums(real, imaginary, *waves)
    times = jnp.asarray(np.pi * np.arange(num_waves), real.dtype)
    times = times.reshape((1,) * (real.ndim - 1) + (-1,))
    # The derivative of each wave is i pi k times it.
    re_slope, im_slope = _sums(-imaginary * times, real * times, *waves)
    slope = 2 * (re * re_slope + im * im_slope)
    penalty = 2 * jnp.mean(slope * slope, axis=-1)
    return penalty if there is None else jnp.where(there, penalty, 0)


def _coefficients(
    features: ArrayLike, kernel: ArrayLike, bias: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Returns the real and the imaginary parts, [..., K + 1]."""
    x = read(features, kernel, "dc")
    bias = checks.floating_array(bias, "bias")
    width = x.kernel.shape[1]
    if width % 2 or not width or bias.shape != (width,):
        raise ValueError(
            "`kernel` and `bias` must have 2 (K + 1) columns, the real parts and then "
            f"the imaginary ones; got {x.kernel.shape} and {bias.shape}."
        )
    sums = product(x)
    # A double bias would widen the sums.
    sums += bias.astype(sum_dtype(x)).reshape((1,) * (sums.ndim - 1) + (-1,))
    return sums[..., : width // 2], sums[..., width // 2 :]


def _waves(
    num_points: int, num_waves: int, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """Returns cosines and sines, [waves, points], at the middles of equal bins."""
    points = -1 + (2 * np.arange(num_points) + 1) / num_points
    angles = np.pi * np.outer(np.arange(num_waves), points)
    return jnp.asarray(np.cos(angles), dtype), jnp.asarray(np.sin(angles), dtype)


def _sums(
    real: jax.Array, imaginary: jax.Array, cosines: jax.Array, sines: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the real and the imaginary part of A at each point, [..., points]."""
    return real @ cosines - imaginary @ sines, real @ sines + imaginary @ cosines
