"""How much one loss gains on another over equal seeds, and how sure that is."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

_FEWEST_PAIRS = 2
_RESAMPLES = 9999
# Fixed, so that equal runs make equal tables.
_SEED = 0


class Difference(NamedTuple):
    """The mean of paired differences with its 95 % interval."""

    mean: float
    low: float
    high: float


def paired_difference(
    scores: Mapping[int, float], baseline: Mapping[int, float]
) -> Difference | None:
    """Returns how far `scores` lie above `baseline` on the seeds that both have.

    Runs of one seed share their initial parameters and the order of their examples, so
    that differences seed by seed spread less than the scores do. The interval is the
    percentile bootstrap over seeds; of two or three seeds it is just the range of
    their differences.

    Args:
      scores: the score of each seed.
      baseline: the same of what it is compared to.

    Returns:
      The difference, or None for fewer than two pairs.
    """
    gains = np.array(
        [scores[seed] - baseline[seed] for seed in scores.keys() & baseline]
    )
    if len(gains) < _FEWEST_PAIRS:
        return None
    interval = stats.bootstrap(
        # In an order of their own: sets have none.
        (np.sort(gains),),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Difference(float(gains.mean()), float(interval.low), float(interval.high))
