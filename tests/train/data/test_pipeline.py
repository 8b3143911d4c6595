"""Batches: same seed same order, nothing dropped, padding masked, resumable."""

import itertools

import jax
import numpy as np
import pytest

from train.data.examples import NO_TOKEN, Examples, Sequences, bucket
from train.data.pipeline import (
    batches_per_epoch,
    evaluation_batches,
    training_batches,
    training_rows,
)


def examples(n):
    """Examples whose input and label are their own number."""
    return Examples(
        np.arange(n, dtype=np.float32)[:, None], np.arange(n, dtype=np.int32)
    )


def batches_of(examples, *, batch_size, epochs, seed, start=0):
    rows = training_rows(examples, batch_size=batch_size, epochs=epochs, seed=seed)
    return training_batches(examples, rows[start:], batch_size=batch_size)


def numbers(batches):
    return [batch["labels"][batch["where"]].tolist() for batch in batches]


@pytest.mark.parametrize("n", [3, 4, 5, 8, 9])
def test_every_example_comes_once_an_epoch(n):
    batches = list(batches_of(examples(n), batch_size=4, epochs=3, seed=0))
    per_epoch = batches_per_epoch(examples(n), 4)
    assert len(batches) == 3 * per_epoch
    for epoch in range(3):
        seen = numbers(batches[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(itertools.chain(*seen)) == list(range(n))


def test_a_partial_batch_is_padded_and_masked():
    batches = list(evaluation_batches(examples(6), batch_size=4))
    assert [batch["where"].tolist() for batch in batches] == [
        [True, True, True, True],
        [True, True, False, False],
    ]
    assert all(batch["inputs"].shape == (4, 1) for batch in batches)


def test_evaluation_keeps_the_order_of_the_split():
    assert numbers(evaluation_batches(examples(6), batch_size=4)) == [
        [0, 1, 2, 3],
        [4, 5],
    ]


def test_one_seed_gives_one_order_and_epochs_differ():
    def order(seed):
        return numbers(batches_of(examples(40), batch_size=8, epochs=2, seed=seed))

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert order(0)[:5] != order(0)[5:]


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_a_position_goes_on_in_the_middle(start):
    whole = numbers(batches_of(examples(10), batch_size=4, epochs=2, seed=0))
    rest = batches_of(examples(10), batch_size=4, epochs=2, seed=0, start=start)
    assert numbers(rest) == whole[start:]


def test_each_process_reads_its_part_of_the_global_batch(monkeypatch):
    whole = numbers(batches_of(examples(10), batch_size=4, epochs=1, seed=0))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    parts = []
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(numbers(batches_of(examples(10), batch_size=4, epochs=1, seed=0)))
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def sequences(lengths):
    """Sequences whose every token is their own length; tags are their tokens."""
    tokens = np.full((len(lengths), 40), NO_TOKEN, np.int32)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = length
    return Sequences(tokens, tokens.copy(), np.array(lengths), tagged=True)


def test_sequences_are_cut_to_the_bucket_of_their_batch():
    batches = evaluation_batches(sequences([3, 17, 40, 9, 16, 1]), batch_size=2)
    # By length: 1 and 3, 9 and 16, 17 and 40.
    shapes = [batch["inputs"].shape for batch in batches]
    assert shapes == [(2, 8), (2, 16), (2, 40)]
    for batch in batches:
        np.testing.assert_array_equal(batch["inputs"], batch["labels"])
        assert (batch["inputs"] == NO_TOKEN).sum() == 2 * batch["inputs"].shape[
            1
        ] - sum(batch["inputs"][:, 0])


@pytest.mark.parametrize("n", [3, 4, 9, 403])
def test_grouped_batches_hold_every_example_once(n):
    lengths = np.random.default_rng(0).integers(1, 41, n)
    arguments = {"batch_size": 4, "epochs": 3, "group_by_length": True}
    rows = training_rows(sequences(lengths), seed=0, **arguments)
    per_epoch = batches_per_epoch(sequences(lengths), 4)
    assert len(rows) == 3 * per_epoch
    epochs = [list(rows[k * per_epoch : (k + 1) * per_epoch]) for k in range(3)]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(n))
        # Only the last batch is partial, as a feed counts examples.
        assert [len(batch) for batch in epoch[:-1]] == [4] * (per_epoch - 1)
    again = training_rows(sequences(lengths), seed=0, **arguments)
    other = training_rows(sequences(lengths), seed=1, **arguments)
    flat = [list(itertools.chain(*order)) for order in (rows, again, other)]
    assert flat[0] == flat[1]
    if n > 4:
        assert flat[0] != flat[2]
        assert [*map(list, epochs[0])] != [*map(list, epochs[1])]


def test_grouped_batches_have_less_padding():
    lengths = np.random.default_rng(0).integers(1, 41, 400)
    examples, padded = sequences(lengths), []
    for grouped in (False, True):
        rows = training_rows(
            examples, batch_size=8, epochs=1, seed=0, group_by_length=grouped
        )
        batches = training_batches(examples, rows, batch_size=8)
        longest = [batch["inputs"].shape[1] for batch in batches]
        padded.append(np.mean(longest))
        # Sorted batches come in random order.
        assert longest != sorted(longest)
    assert padded[1] < 0.7 * padded[0]


def test_multi_hot_labels_are_not_cut():
    longer = sequences([3, 4])
    held = Sequences(longer.inputs, np.ones((2, 40), bool), longer.lengths)
    (batch,) = evaluation_batches(held, batch_size=2)
    assert batch["inputs"].shape == (2, 8)
    assert batch["labels"].shape == (2, 40)


@pytest.mark.parametrize(
    ("length", "longest", "expected"),
    [
        (1, 512, 8),
        (8, 512, 8),
        (9, 512, 12),
        (16, 512, 16),
        (17, 512, 20),
        (17, 18, 18),
        (600, 600, 600),
    ],
)
def test_a_bucket_holds_its_longest(length, longest, expected):
    assert bucket(length, longest) == expected


def test_every_process_cuts_to_the_longest_of_the_global_batch(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    held, widths = sequences([1, 2, 30, 40]), []
    for index in range(2):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        (batch,) = evaluation_batches(held, batch_size=4)
        widths.append(batch["inputs"].shape)
    assert widths == [(2, 40), (2, 40)]
