"""Paired differences: on equal seeds alone, and with an interval that means it."""

import numpy as np
import pytest

from train.comparison.bootstrap import paired_difference, sign_flip_p


def test_seeds_of_both_are_paired():
    scores = {2: 0.7, 0: 0.9, 1: 0.8, 7: 0.0}
    baseline = {0: 0.5, 1: 0.7, 2: 0.6, 9: 1.0}
    difference = paired_difference(scores, baseline)
    assert difference.mean == pytest.approx((0.4 + 0.1 + 0.1) / 3)


@pytest.mark.parametrize("gains", [(0.1, 0.4), (0.1, 0.2, 0.4)])
def test_the_interval_of_very_few_pairs_is_their_range(gains):
    difference = paired_difference(dict(enumerate(gains)), dict.fromkeys(range(3), 0.0))
    assert difference[1:3] == pytest.approx((min(gains), max(gains)))


def test_the_interval_of_many_pairs_is_that_of_the_normal_distribution():
    gains = np.random.default_rng(0).normal(0.3, 1.0, 400)
    difference = paired_difference(
        dict(enumerate(gains)), dict.fromkeys(range(400), 0.0)
    )
    half = 1.96 * gains.std() / np.sqrt(400)
    assert difference.low == pytest.approx(gains.mean() - half, abs=0.01)
    assert difference.high == pytest.approx(gains.mean() + half, abs=0.01)


def test_equal_gains_leave_no_doubt():
    difference = paired_difference({0: 0.75, 1: 0.75}, {0: 0.5, 1: 0.5})
    assert difference == (0.25, 0.25, 0.25, 0.5)


def test_bca_moves_the_interval_of_skewed_gains():
    gains = dict(enumerate(np.random.default_rng(0).exponential(1.0, 20)))
    zero = dict.fromkeys(range(20), 0.0)
    plain = paired_difference(gains, zero)
    corrected = paired_difference(gains, zero, interval="BCa")
    assert corrected.mean == plain.mean
    assert corrected.low > plain.low
    assert corrected.high > plain.high
    equal = paired_difference(dict.fromkeys(range(5), 0.1), zero, interval="BCa")
    assert (equal.low, equal.high) == (0.1, 0.1)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),
        ([-1.0, -2.0, -3.0, -4.0, -5.0], 2 / 32),
        # Of (+-1, +-2, +-3) only those of 6 are as far as 6; of 4 there are 4 more.
        ([-1.0, 2.0, 3.0], 4 / 8),
        ([0.1, -0.1], 1.0),
        ([0.0, 0.0, 0.0], 1.0),
    ],
)
def test_p_is_the_share_of_signs_that_are_as_far_from_nothing(gains, expected):
    assert sign_flip_p(np.array(gains)) == pytest.approx(expected)


def test_p_of_many_pairs_is_that_of_a_sample():
    gains = np.random.default_rng(0).normal(0.5, 1.0, 30)
    p = sign_flip_p(gains)
    assert p == sign_flip_p(gains)
    assert 0.0001 <= p < 0.05
    assert sign_flip_p(gains - gains.mean()) > 0.9


def test_equal_scores_make_equal_intervals_in_any_order():
    scores = {seed: float(np.sin(seed)) for seed in range(6)}
    turned = dict(reversed(scores.items()))
    zero = dict.fromkeys(range(6), 0.0)
    assert paired_difference(scores, zero) == paired_difference(turned, zero)


@pytest.mark.parametrize("baseline", [{}, {1: 0.5}, {3: 0.5, 4: 0.6}])
def test_fewer_than_two_pairs_say_nothing(baseline):
    assert paired_difference({0: 0.1, 1: 0.2}, baseline) is None
