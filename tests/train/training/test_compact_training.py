"""Training on active examples alone: which rows, how many, and what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from train.config import CompactConfig
from train.errors import ConfigError
from train.loop import initial_state, train_and_evaluate
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.compact import CompactFeed, Looked, make_feed
from train.training.feed import PlainFeed
from train.training.steps import filter_step

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
EXACT = {"break_even": 0.0, "slack": 0.0, "min_batch_size": 0}
ROWS = 82  # of the training split, in six mini-batches of 16


def compact(config, change, *, epochs=3, **fields):
    config = change(config, "training", mode="compact", epochs=epochs)
    return dataclasses.replace(config, compact=CompactConfig(**fields))


@pytest.fixture
def make(feature_config, change):
    """Returns a function: a compact feed in its second epoch, and the parameters.

    Random features decide the scores, so that rows are of both kinds.
    """

    def build(*, share=0.5, **fields):
        config = compact(feature_config, change, **EXACT | fields)
        data = prepare(config)
        recipe = make_recipe(config, data)
        feed = make_feed(recipe, data.splits["train"], seed=0)
        feed.epoch, feed.saved_share = 1, share
        feed.position = recipe.mini_steps_per_epoch
        return feed, initial_state(recipe, seed=0).params

    return build


def rows_of(feed, item):
    """The numbers of the rows of a batch."""
    inputs = item.batch["inputs"][item.batch["where"]]
    return [
        int(np.flatnonzero((feed.examples.inputs == row).all(1))[0]) for row in inputs
    ]


def active_rows(feed, params):
    """The active rows by one pass over the whole split."""
    examples = feed.examples
    batch = {
        "inputs": examples.inputs,
        "labels": examples.labels,
        "where": np.ones(len(examples), bool),
    }
    step = jax.jit(filter_step, static_argnums=0)
    return set(np.flatnonzero(step(feed.recipe, params, batch, np.int32(0)).active))


def test_an_epoch_is_its_active_rows_once_each(make):
    feed, params = make()
    items = list(feed.items(lambda: params))
    trained = [row for item in items for row in rows_of(feed, item)]
    waiting = feed.queue.tolist()
    active = active_rows(feed, params)
    assert 0 < len(active) < ROWS
    assert sorted(trained + waiting) == sorted(active)
    # Full batches, and each example counted once, when it was looked at.
    assert [item.batch["where"].sum() for item in items] == [16] * len(items)
    assert sum(item.num_seen for item in items) + feed.num_pending == ROWS
    assert feed.examples_seen == feed.examples_filtered == ROWS
    assert feed.examples_trained == len(trained)


def test_the_order_is_that_of_plain_training(make):
    feed, params = make()
    trained = [
        row for item in feed.items(lambda: params) for row in rows_of(feed, item)
    ]
    plain = PlainFeed(feed.recipe, feed.examples, seed=0)
    order = np.concatenate([plain.rows[k] for k in range(6, 12)]).tolist()
    assert trained == sorted(trained, key=order.index)


def test_the_last_epoch_leaves_nothing_waiting(make):
    feed, params = make()
    feed.epoch, feed.position = 2, 12
    items = list(feed.items(lambda: params))
    trained = [row for item in items for row in rows_of(feed, item)]
    assert sorted(trained) == sorted(active_rows(feed, params))
    assert not len(feed.queue)
    assert items[-1].batch["where"].sum() == (len(trained) - 1) % 16 + 1


def test_looks_are_at_as_much_as_a_batch_takes(make, monkeypatch):
    feed, params = make()
    looks = []

    def look(self, params, rows, *, counted=True):
        looks.append(len(rows))
        return Looked(rows % 8 == 0, np.ones(len(rows), np.float32))

    monkeypatch.setattr(CompactFeed, "look", look)
    list(feed.items(lambda: params))
    assert looks[0] == ROWS  # the sample that decides on the epoch
    # One mini-batch at first; an eighth is active, so the next look is at many.
    assert looks[1] == 16
    assert looks[2] > 16
    assert sum(looks) == 2 * ROWS


@pytest.mark.parametrize(
    ("share", "least", "expected"),
    [
        *[(0.0, 2, 16), (0.49, 2, 16), (0.5, 2, 8), (0.9, 2, 2), (0.9, 4, 4)],
        *[(0.9, 0, 16), (0.9, 16, 16), (0.9, 32, 16)],
    ],
)
def test_batches_shrink_only_when_asked_to(make, share, least, expected):
    feed, _ = make(share=share, min_batch_size=least)
    assert feed.batch_size == expected


def test_slack_takes_in_what_is_barely_settled(make):
    feed, params = make(slack=0.0)
    rows = np.arange(ROWS)
    active, lead = feed.look(params, rows)
    for slack in (0.02, 0.1):
        wider, _ = make(slack=slack)
        np.testing.assert_array_equal(
            wider.look(params, rows).active, active | (lead <= np.float32(0.1 + slack))
        )
        # What the pass says of settled examples does not depend on it.
        assert wider.looked_sums.num_settled == feed.looked_sums.num_settled
        assert active.sum() < wider.look(params, rows).active.sum() < ROWS


def test_below_the_break_even_training_is_plain(feature_config, change, tmp_path):
    config = change(feature_config, "model", dropout=0.2)
    plain = train_and_evaluate(config, tmp_path / "plain", quiet=True)
    never = compact(config, change, break_even=1.0)
    fallen_back = train_and_evaluate(never, tmp_path / "compact", quiet=True)
    for a, b in zip(plain["records"], fallen_back["records"], strict=True):
        assert {k: b[k] for k in a if k != "seconds"} == {
            k: a[k] for k in a if k != "seconds"
        }


@pytest.mark.parametrize(
    ("share", "num_active", "expected"),
    [(0.39, 0, False), (0.4, 49, True), (0.4, 50, False)],
)
def test_the_last_epoch_and_a_sample_decide(make, share, num_active, expected):
    feed, params = make(share=share, break_even=0.4)
    assert not feed.compacts
    looks = []

    def look(params, rows, *, counted=True):
        looks.append(rows)
        assert not counted
        return Looked(np.arange(len(rows)) < num_active, np.zeros(len(rows)))

    feed.look, original = look, feed.look
    items = feed.items(lambda: params)
    if expected:  # The look that follows is not the sample's.
        with pytest.raises(AssertionError):
            next(items)
    else:
        next(items)
    feed.look = original
    assert feed.compacts is expected
    if share == 0.4:
        np.testing.assert_array_equal(looks[0], np.arange(ROWS))


def test_an_epoch_is_decided_once(make):
    feed, params = make(share=0.9, break_even=0.0)
    next(feed.items(lambda: params))
    kept = feed.get_state()
    assert kept["compacts"]
    assert kept["decided_epoch"] == 1
    resumed, _ = make(share=0.9, break_even=1.0)
    resumed.set_state(kept)
    next(resumed.items(lambda: params))
    assert resumed.compacts


def test_what_waits_is_trained_before_falling_back(make, monkeypatch):
    feed, params = make(share=0.9, break_even=0.9)
    monkeypatch.setattr(CompactFeed, "_pays", lambda *_: feed.epoch == 1)
    trained = [
        row for item in feed.items(lambda: params) for row in rows_of(feed, item)
    ]
    assert sorted(trained) == sorted(active_rows(feed, params))
    feed.finish_epoch(None)
    assert feed.saved_share < 0.9


@pytest.mark.parametrize(("slack", "expected"), [(0.0, True), (0.5, False)])
def test_what_the_slack_takes_in_counts_for_the_break_even(make, slack, expected):
    feed, params = make()
    lead = feed.look(params, np.arange(ROWS), counted=False).lead
    settled, saved = (float(np.mean(lead > margin)) for margin in (0.1, 0.1 + 0.5))
    assert saved < settled - 0.05
    feed, params = make(share=1.0, slack=slack, break_even=settled - 0.02)
    next(feed.items(lambda: params))
    assert feed.compacts is expected


def test_what_a_compact_epoch_has_left_comes_first_in_a_plain_one(make):
    feed, params = make(share=0.0, break_even=1.0)
    feed.queue = np.array([3, 70, 5])
    items = feed.items(lambda: params)
    assert rows_of(feed, next(items)) == [3, 70, 5]
    assert not feed.compacts
    rest = [row for item in items for row in rows_of(feed, item)]
    assert sorted(rest) == list(range(ROWS))


def test_a_compact_run_learns_from_fewer_examples(feature_config, change, tmp_path):
    config = compact(feature_config, change, epochs=6, break_even=0.0, slack=0.1)
    result = train_and_evaluate(config, tmp_path, quiet=True)
    last = result["records"][-1]
    assert result["validation_accuracy"] > 0.9
    assert last["examples_seen"] == 6 * ROWS
    assert last["examples_filtered"] == 5 * ROWS  # the first epoch is plain
    assert ROWS < last["examples_trained"] < 4 * ROWS
    assert last["learning_rate"] == 0.0
    assert 0 < last["settled_share"] < 1
    assert 0 <= last["stale_settled_share"] <= last["stale_share"] + 1


def test_a_mesh_finds_the_same_active_rows(make, feature_config, change):
    feed, params = make()
    config = compact(feature_config, change, **EXACT)
    data = prepare(config)
    recipe = make_recipe(change(config, "mesh", data=8), data)
    on_mesh = initial_state(recipe, seed=0).params
    batch = {
        "inputs": data.splits["train"].inputs[:80],
        "labels": data.splits["train"].labels[:80],
        "where": np.arange(80) < 77,
    }
    step = jax.jit(filter_step, static_argnums=0)
    spread = step(recipe, on_mesh, put_batch(recipe.mesh, batch), np.int32(0))
    alone = step(feed.recipe, params, batch, np.int32(0))
    np.testing.assert_array_equal(spread.active, alone.active)
    np.testing.assert_allclose(spread.lead, alone.lead, atol=1e-6)


# Looking less often.


def look_with(active, lead):
    """A look that finds what it is told."""

    def look(self, params, rows, *, counted=True):
        return Looked(np.isin(rows, active), np.full(len(rows), lead, np.float32))

    return look


def seen_in(feed, params, epoch, monkeypatch, look):
    """The rows that are looked at in an epoch."""
    seen = []

    def watched(self, params, rows, *, counted=True):
        seen.extend(rows.tolist() if counted else [])
        return look(self, params, rows)

    monkeypatch.setattr(CompactFeed, "look", watched)
    feed.epoch, feed.position = epoch, 6 * epoch
    list(feed.items(lambda: params))
    return sorted(seen)


def test_clearly_settled_rows_are_skipped_for_longer(make, monkeypatch):
    feed, params = make(epochs=9, max_skipped_epochs=2, audit_share=0.0)
    active = list(range(10))
    look = functools.partial(seen_in, feed, params, monkeypatch=monkeypatch)
    sure = look_with(active, 0.6)
    everything = list(range(ROWS))
    assert look(epoch=1, look=sure) == everything
    # round(0.6 x 1) = 1 epoch, then round(0.6 x 2) = 1, then min(round(0.6 x 4), 2).
    assert look(epoch=2, look=sure) == active
    assert look(epoch=3, look=sure) == everything
    assert look(epoch=4, look=sure) == active
    assert look(epoch=5, look=sure) == everything
    assert look(epoch=6, look=sure) == look(epoch=7, look=sure) == active
    assert feed.audit.num_skipped == 4 * (ROWS - 10)
    # The last epoch looks at everything.
    assert look(epoch=8, look=sure) == everything


def test_rows_that_are_barely_settled_are_not_skipped(make, monkeypatch):
    feed, params = make(epochs=9, max_skipped_epochs=3, audit_share=0.0)
    barely = look_with([], 0.2)
    for epoch in (1, 2):
        looked_at = seen_in(feed, params, epoch, monkeypatch, barely)
        assert looked_at == list(range(ROWS))


def test_an_audit_counts_what_was_wrongly_skipped(make, monkeypatch):
    feed, params = make(epochs=9, max_skipped_epochs=1, audit_share=0.5)
    seen_in(feed, params, 1, monkeypatch, look_with([], 1.0))
    looked_at = seen_in(feed, params, 2, monkeypatch, look_with(range(41), 1.0))
    audit = feed.audit
    assert audit.num_skipped_checked == len(looked_at)
    assert audit.num_skipped == ROWS - len(looked_at)
    assert audit.num_skipped_active == sum(row < 41 for row in looked_at)
    assert 20 < len(looked_at) < 62
    figures = feed.figures()
    assert figures["wrongly_skipped_share"] == pytest.approx(
        audit.num_skipped_active / len(looked_at)
    )


# Refusals.


def refusal(feature_config, change, **fields):
    config = compact(feature_config, change, **fields)
    with pytest.raises(ConfigError) as raised:
        make_recipe(config, prepare(config))
    return str(raised.value)


def test_refuses_a_loss_without_exact_zeros(feature_config, change):
    for name in ("softmax", "focal"):
        config = change(feature_config, "loss", name=name)
        message = refusal(config, change)
        assert f"`training.mode`: {name} never has a loss of exactly 0" in message
        assert "or take as_softmax, entmax, sparsemax" in message


def test_refuses_windows(feature_config, change):
    config = change(feature_config, "training", window="settled_ratio")
    assert "`training.window`: compact batches are full" in refusal(config, change)


def test_refuses_batches_that_do_not_divide_over_devices(feature_config, change):
    config = change(feature_config, "mesh", data=8)
    message = refusal(config, change, batch_size=12)
    assert "`compact.batch_size`: 12 does not divide over 8 devices" in message
