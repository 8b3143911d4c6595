"""The lengths that batches of sequences are cut to: few, since each is compiled."""

from collections.abc import Sequence

import numpy as np

BUCKETS = (
    *(8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96),
    *(128, 160, 192, 256, 320, 384, 512),
)
# So many positions of a batch cost a run what compiling one more length does: seconds.
# On a CPU with a small network; a larger one is slower in both.
_POSITIONS_A_LENGTH = 50_000


def bucket(length: int, longest: int, buckets: Sequence[int] = BUCKETS) -> int:
    """Returns the smallest bucket that holds `length`, `longest` at most."""
    return min(next((b for b in buckets if b >= length), longest), longest)


def worthwhile_buckets(
    lengths: np.ndarray, positions: np.ndarray, longest: int
) -> tuple[int, ...]:
    """Returns those buckets that save more than they cost to compile.

    Args:
      lengths: of the longest sequence of each kind of batch, [n].
      positions: sequences in such batches over the whole run, [n]: each becomes as
        long as the bucket of its batch.
      longest: the length that holds all.
    """
    known = [b for b in BUCKETS if b < longest] + [longest]
    held = np.array([positions[lengths <= b].sum() for b in [0, *known]])
    # cheapest[j]: what all batches up to the j-th length cost at least, and how.
    cheapest: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for j, length in enumerate(known, start=1):
        costs = (
            (
                cost + (held[j] - held[i]) * length + _POSITIONS_A_LENGTH,
                (*taken, length),
            )
            for i, (cost, taken) in enumerate(cheapest)
        )
        cheapest.append(min(costs))
    return cheapest[-1][1]
