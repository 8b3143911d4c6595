"""How much one loss gains on another over equal seeds, and how sure that is."""

import itertools
import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

Interval = Literal["percentile", "BCa"]

_FEWEST_PAIRS = 2
_RESAMPLES = 9999
# Fixed, so that equal runs make equal tables.
_SEED = 0
# Up to so many pairs all signs are gone through.
_MOST_SIGNS = 14


class Difference(NamedTuple):
    """The mean of paired differences with its 95 % interval."""

    mean: float
    low: float
    high: float
    p: float = math.nan  # of a mean as far from 0, were the signs of each chance


def paired_difference(
    scores: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    interval: Interval = "percentile",
) -> Difference | None:
    """Returns how far `scores` lie above `baseline` on the seeds that both have.

    Runs of one seed share their initial parameters and the order of their examples, so
    that differences seed by seed spread less than the scores do. The interval is the
    bootstrap over seeds; of two or three seeds it is just the range of their
    differences. The p is two-sided, by flipping signs: of n pairs at least 2 / 2**n.

    Args:
      scores: the score of each seed.
      baseline: the same of what it is compared to.
      interval: how it is had of the resamples; BCa corrects for bias and skewness
        (Efron, 1987).

    Returns:
      The difference, or None for fewer than two pairs.
    """
    # In an order of their own: sets have none.
    gains = np.sort(
        [scores[seed] - baseline[seed] for seed in scores.keys() & baseline]
    )
    if len(gains) < _FEWEST_PAIRS:
        return None
    low, high = _interval(gains, interval)
    return Difference(float(gains.mean()), low, high, sign_flip_p(gains))


def _interval(gains: np.ndarray, method: Interval) -> tuple[float, float]:
    """Returns the ends of the 95 % interval of the mean."""
    if gains[0] == gains[-1]:  # BCa is undefined where nothing varies.
        return float(gains[0]), float(gains[0])
    found = stats.bootstrap(
        (gains,),
        np.mean,
        n_resamples=_RESAMPLES,
        method=method,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)


def sign_flip_p(gains: np.ndarray) -> float:
    """Returns the share of sign patterns whose mean is as far from 0 as that of gains.

    Of all patterns where there are few pairs, else of a sample that has the one at
    hand.
    """
    count = len(gains)
    if count <= _MOST_SIGNS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    else:
        generator = np.random.default_rng(_SEED)
        signs = generator.choice((-1.0, 1.0), size=(_RESAMPLES, count))
        signs = np.concatenate([np.ones((1, count)), signs])
    sums = np.abs(signs @ gains)
    # Equal patterns differ by rounding.
    limit = abs(math.fsum(gains)) * (1 - 1e-9)
    return float(np.mean(sums >= limit))
