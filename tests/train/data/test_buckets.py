import itertools

import numpy as np
import pytest

from train.data import buckets
from train.data.buckets import BUCKETS, bucket, worthwhile_buckets
from train.data.examples import Sequences
from train.data.pipeline import fit_buckets

A_LENGTH = buckets._POSITIONS_A_LENGTH


def test_the_smallest_bucket_that_holds_a_length():
    assert [bucket(n, 100) for n in (1, 8, 9, 33, 97, 100, 101)] == [
        *(8, 8, 12, 40, 100, 100, 100)
    ]
    assert bucket(9, 100, (16, 48)) == 16
    assert bucket(49, 100, (16, 48)) == 100


def test_a_length_is_taken_that_saves_more_than_it_costs():
    lengths = np.array([8, 16])
    # 8 positions less for each sequence in batches of 8.
    for saved, expected in ((0.9, (16,)), (1.1, (8, 16))):
        positions = np.array([saved * A_LENGTH / 8, 100.0])
        assert worthwhile_buckets(lengths, positions, 16) == expected


def test_it_is_the_cheapest_of_all_choices():
    random = np.random.default_rng(0)
    longest, lengths = 40, random.integers(1, 41, 30)
    positions = random.uniform(0, 3e3, 30)

    def cost(chosen):
        widths = np.array([bucket(n, longest, chosen) for n in lengths])
        return (widths * positions).sum() + A_LENGTH * len(chosen)

    known = [b for b in BUCKETS if b < longest]
    choices = (
        (*some, longest)
        for k in range(len(known) + 1)
        for some in itertools.combinations(known, k)
    )
    found = worthwhile_buckets(lengths, positions, longest)
    assert cost(found) == pytest.approx(min(map(cost, choices)))
    assert len(found) > 1


def test_a_long_run_has_more_lengths_than_a_short_one():
    lengths = np.random.default_rng(0).integers(1, 33, 800)
    inputs = np.zeros((800, 32), np.int32)
    split = Sequences(inputs, np.zeros(800, np.int32), lengths)
    splits = {"train": split, "validation": split}
    some = [
        fit_buckets(splits, batch_size=8, epochs=n, group_by_length=True)["train"]
        for n in (1, 10, 1000)
    ]
    assert some[0].buckets == (32,)
    assert 1 < len(some[1].buckets) < len(some[2].buckets)
    assert some[2].buckets == tuple(b for b in BUCKETS if b <= 32)
