"""What the machine can do at best: products of matrices, and copies."""

import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp


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
    matrix = jnp.ones((size, size))
    product = _median(jax.jit(jnp.matmul), matrix, matrix)
    array = jnp.ones(megabytes * 2**18)
    copy = _median(_Copy(array), array)
    return Ceilings(2 * size**3 / product, 2 * array.nbytes / copy)


class _Copy:
    """Copies into the same memory each time: fresh pages cost more than a copy."""

    def __init__(self, array):
        add = jax.jit(lambda x, last: x + 1, donate_argnums=1, keep_unused=True)
        self.last = jnp.zeros_like(array)
        self.run = add.lower(array, self.last).compile()

    def __call__(self, array):
        """Returns the copy, which is gone with the next call."""
        self.last = self.run(array, self.last)
        return self.last


def _median(function, *arguments) -> float:
    times = []
    for _ in range(10):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
