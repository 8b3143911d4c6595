"""The product of features and kernel, as every head without blocks reads it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.dtypes import compute_dtype

LAYOUTS = ("dc", "cd")


class Operands(NamedTuple):
    """What a head multiplies."""

    features: jax.Array  # [..., D], its own dtype
    kernel: jax.Array  # [D, C], its own dtype


def read(
    features: ArrayLike, kernel: ArrayLike, kernel_layout: str, name: str = "kernel"
) -> Operands:
    """Returns features [..., D] and kernel [D, C]; refuses what does not fit.

    Args:
      features: floating point.
      kernel: floating point.
      kernel_layout: ``"dc"`` or ``"cd"``, the order of the kernel's axes.
      name: of the kernel, for messages.
    """
    checks.one_of(kernel_layout, LAYOUTS, "kernel_layout")
    features = checks.floating_array(features, "features")
    kernel = checks.floating_array(kernel, name)
    kernel = kernel if kernel_layout == "dc" else kernel.T
    if kernel.ndim != 2 or features.shape[-1:] != kernel.shape[:1]:
        raise ValueError(
            f"`{name}` must be [D, C] for features [..., D]; got {kernel.shape} in "
            f"layout 'dc' for features {features.shape}."
        )
    return Operands(features, kernel)


def product(x: Operands) -> jax.Array:
    """Returns features times kernel, [..., C], float32 or float64, summed in it."""
    dtype = sum_dtype(x)
    products = jnp.matmul(x.features, x.kernel, preferred_element_type=dtype)
    return products.astype(dtype)


def sum_dtype(x: Operands) -> jnp.dtype:
    """Returns the dtype of the sums: float32, or float64 of float64 operands."""
    found: jnp.dtype = compute_dtype(jnp.result_type(x.features.dtype, x.kernel.dtype))
    return found
