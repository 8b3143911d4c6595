"""What steps add up: sums and counts, divided once, at the end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Sums(NamedTuple):
    """What the valid examples of any number of batches add up to; `Sums()` is none."""

    loss: Any = 0.0  # shape=(), dtype=float32
    num_correct: Any = 0  # shape=(), dtype=int32
    num_settled: Any = 0  # shape=(), dtype=int32
    num_valid: Any = 0  # shape=(), dtype=int32
    # Examples with an active entry.
    num_active_rows: Any = 0  # shape=(), dtype=int32

    def __add__(self, other: "Sums") -> "Sums":  # type: ignore[override]
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))

    @classmethod
    def zero(cls) -> "Sums":
        """Returns the sums of no example, as arrays."""
        count = jnp.zeros((), jnp.int32)
        return cls(jnp.zeros((), jnp.float32), count, count, count, count)

    @classmethod
    def of(
        cls,
        losses: jax.Array,
        *,
        correct: jax.Array,
        settled: jax.Array,
        where: jax.Array,
    ) -> "Sums":
        """Returns the sums over the valid examples of a batch.

        Arrays are of one shape, [n] or one entry a token, [n, length].

        Args:
          losses: float of any shape, finite where valid.
          correct: bool, the prediction is the label.
          settled: bool, the gradient is exactly zero.
          where: bool, the valid examples, or tokens.
        """
        return cls(
            jnp.sum(losses, where=where),
            jnp.sum(correct & where, dtype=jnp.int32),
            jnp.sum(settled & where, dtype=jnp.int32),
            jnp.sum(where, dtype=jnp.int32),
            jnp.sum(active_rows(settled, where), dtype=jnp.int32),
        )

    def wide(self) -> "Sums":
        """Returns sums on the host that do not lose digits over many batches."""
        return Sums(*(np.float64(value) for value in self))

    def means(self) -> dict[str, float]:
        """Returns `loss`, `accuracy` and `settled_share`; NaN without an example."""
        n = float(self.num_valid) or float("nan")
        return {
            "loss": float(self.loss) / n,
            "accuracy": float(self.num_correct) / n,
            "settled_share": float(self.num_settled) / n,
        }


def active_rows(settled: jax.Array, where: jax.Array) -> jax.Array:
    """Returns which examples have an entry that is valid and not settled, [n]."""
    return jnp.any((where & ~settled).reshape(len(settled), -1), axis=1)
