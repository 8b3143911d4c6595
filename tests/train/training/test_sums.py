"""Sums and counts."""

import math

import jax.numpy as jnp

from train.training.sums import Sums, active_rows


def sums_of(losses, correct, settled, where):
    return Sums.of(
        jnp.array(losses),
        correct=jnp.array(correct),
        settled=jnp.array(settled),
        where=jnp.array(where),
    )


def test_rows_that_only_pad_count_for_nothing():
    sums = sums_of(
        [1.0, 2.0, math.nan],
        [True, False, True],
        [False, True, True],
        [True, True, False],
    )
    assert sums.means() == {"loss": 1.5, "accuracy": 0.5, "settled_share": 0.5}


def test_batches_of_different_sizes_are_no_mean_of_means():
    first = sums_of([1.0, 1.0, 1.0], [True] * 3, [False] * 3, [True] * 3)
    second = sums_of([5.0], [False], [True], [True])
    means = (first + second).means()
    assert means["loss"] == (1.0 + 1.0 + 1.0 + 5.0) / 4
    assert means["accuracy"] == 3 / 4
    assert means["settled_share"] == 1 / 4


def test_zero_adds_nothing_and_has_no_mean():
    one = sums_of([2.0], [True], [False], [True])
    assert (Sums.zero() + one).means() == one.means()
    assert all(math.isnan(mean) for mean in Sums.zero().means().values())


def test_a_row_is_active_when_one_of_its_tokens_is():
    settled = jnp.array([[True, False], [True, True], [False, False]])
    where = jnp.array([[True, True], [True, True], [True, False]])
    assert active_rows(settled, where).tolist() == [True, False, True]
    assert active_rows(settled, jnp.zeros((3, 2), bool)).tolist() == [False] * 3
    assert active_rows(settled[:, 1], where[:, 1]).tolist() == [True, False, False]


def test_active_rows_are_counted_once():
    sums = Sums.of(
        jnp.ones((2, 3)),
        correct=jnp.ones((2, 3), bool),
        settled=jnp.array([[False, False, True], [True, True, True]]),
        where=jnp.ones((2, 3), bool),
    )
    assert (sums.num_settled, sums.num_valid, sums.num_active_rows) == (4, 6, 1)
