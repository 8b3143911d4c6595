r"""The gradient rule of AS-Softmax by a kernel, whatever the device.

The forward pass forms the gradient already; the backward pass scales it by the row's
cotangent. That is one read and one write of [N, C], and one of each to scale, against
three reads and two writes of a forward pass that stores probabilities.

A kernel visits a row once. With logits o, label t, margin delta, all in float32, it
computes

.. math::
  m = \max_i o_i, \quad e_i = e^{o_i - m}, \quad p_t = e_t / \textstyle\sum_i e_i,
  \quad g = \log(1 - \delta / p_t)

  k_i = e_i \, [\, o_i - o_t \ge g \,], \quad s = \textstyle\sum_i k_i, \quad
  \ell = \log s - (o_t - m), \quad \partial \ell / \partial o_i = k_i / s - [i = t]

with g = -inf where p_t <= delta. A margin in logits, m, is g = -m: then neither p_t
nor the sum of all :math:`e_i` is needed. In a settled row k is 0 but at the label,
which is the maximum: s = 1, the loss is exactly 0 and so is the gradient. A NaN is kept
and makes its row NaN, and so does a NaN margin by its gap.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from as_softmax_jax._core.margin import Margin

Kernel = Callable[..., list[jax.Array]]
"""From logits, labels, margin, where and whether the gradient is wanted: the loss of
each row [N] float32, and the gradient [N, C] if so."""


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def loss(
    kernel: Kernel,
    logits: jax.Array,
    labels: jax.Array,
    margin: Margin,
    where: jax.Array,
) -> jax.Array:
    """Returns the loss of each row.

    Args:
      kernel: what computes it on the device.
      logits: [N, C] float32, bfloat16 or float16; as many classes as the kernel takes.
      labels: [N] int32 in [0, C).
      margin: [N] float32, NaN for a row whose loss is NaN.
      where: [N] bool, rows that count.

    Returns:
      [N] float32.
    """
    return kernel(logits, labels, margin, where, with_gradient=False)[0]


def _forward(
    kernel: Kernel,
    logits: jax.Array,
    labels: jax.Array,
    margin: Margin,
    where: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    value, gradient = kernel(logits, labels, margin, where, with_gradient=True)
    return value, (gradient, where & ~jnp.isnan(value), where)


def _backward(
    kernel: Kernel, saved: tuple[jax.Array, ...], cotangent: jax.Array
) -> tuple[jax.Array, None, None, None]:
    del kernel
    gradient, good, where = saved
    # A row that is left out has a gradient of 0, whatever its cotangent, and a bad row
    # where its cotangent is 0.
    scale = jnp.where(where, cotangent, 0.0)[:, None]
    scaled = gradient.astype(jnp.float32) * scale
    scaled = jnp.where(good[:, None] | (scale != 0), scaled, 0.0)
    return scaled.astype(gradient.dtype), None, None, None


loss.defvjp(_forward, _backward)
