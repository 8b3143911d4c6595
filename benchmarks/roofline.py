"""What the machine can do at best: products of matrices, and copies."""

from typing import NamedTuple

import jax.numpy as jnp
from timing import IntoUsedMemory, alternate


class Ceilings(NamedTuple):
    """Measured, not looked up."""

    operations: float  # a second, in a product of float32 matrices
    bandwidth: float  # bytes a second, read and written, in a copy

    def seconds(self, operations: float, num_bytes: float) -> float:
        """Returns the least time that so much work takes."""
        return max(operations / self.operations, num_bytes / self.bandwidth)

    def __str__(self) -> str:
        return (
            f"{self.operations / 1e9:.0f} GFLOP/s in a product of float32 matrices, "
            f"{self.bandwidth / 1e9:.1f} GB/s in a copy"
        )


def measure_ceilings(size: int = 4096, megabytes: int = 512) -> Ceilings:
    """Measures both: medians of nine, after one to warm up.

    Args:
      size: of the square matrices.
      megabytes: of the array that is copied.
    """
    matrix, array = jnp.ones((size, size)), jnp.ones(megabytes * 2**18)
    product = _median(jnp.matmul, matrix, matrix)
    copy = _median(lambda x: x + 1, array)
    return Ceilings(2 * size**3 / product, 2 * array.nbytes / copy)


def _median(function, *arguments) -> float:
    compiled = IntoUsedMemory(function, *arguments)
    return alternate({"it": compiled}, arguments, 0, least=9)["it"]
