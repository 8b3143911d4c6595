"""Training on active examples alone: which rows, how many, and what is refused."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from as_softmax_jax import as_softmax_settled
from train.config import CompactConfig
from train.errors import ConfigError
from train.loop import initial_state, train_and_evaluate
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.compact import CompactFeed
from train.training.feed import PlainFeed
from train.training.feeds import make_feed
from train.training.queued import Looked
from train.training.steps import BatchInfo, filter_step, train_step

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
    """Returns a function: a compact feed in its second epoch, and the state.

    Random features decide the scores, so that rows are of both kinds.
    """

    def build(*, share=0.5, **fields):
        config = compact(feature_config, change, **EXACT | fields)
        data = prepare(config)
        recipe = make_recipe(config, data)
        feed = make_feed(recipe, data.splits["train"], seed=0)
        feed.state.epoch, feed.state.saved_share = 1, share
        feed.state.position = feed.state.decided_at = recipe.mini_steps_per_epoch
        return feed, initial_state(recipe, seed=0)

    return build


def rows_of(feed, item):
    """The numbers of the rows of a batch."""
    inputs = item.batch["inputs"][item.batch["where"]]
    return [
        int(np.flatnonzero((feed.examples.inputs == row).all(1))[0]) for row in inputs
    ]


def active_rows(feed, state):
    """The active rows by one pass over the whole split."""
    examples = feed.examples
    batch = {
        "inputs": examples.inputs,
        "labels": examples.labels,
        "where": np.ones(len(examples), bool),
    }
    step = jax.jit(filter_step, static_argnums=0)
    return set(
        np.flatnonzero(step(feed.recipe, state.params, batch, np.int32(0)).active)
    )


def test_an_epoch_is_its_active_rows_once_each(make):
    feed, state = make()
    items = list(feed.items(lambda: state))
    trained = [row for item in items for row in rows_of(feed, item)]
    waiting = feed.state.queue.tolist()
    active = active_rows(feed, state)
    assert 0 < len(active) < ROWS
    assert sorted(trained + waiting) == sorted(active)
    # Full batches, and each example counted once, when it was looked at.
    assert [item.batch["where"].sum() for item in items] == [16] * len(items)
    assert sum(item.num_seen for item in items) + feed.state.num_pending == ROWS
    assert feed.state.examples_seen == feed.state.examples_filtered == ROWS
    assert feed.state.examples_trained == len(trained)


def test_the_order_is_that_of_plain_training(make):
    feed, state = make()
    trained = [row for item in feed.items(lambda: state) for row in rows_of(feed, item)]
    plain = PlainFeed(feed.recipe, feed.examples, seed=0)
    order = np.concatenate([plain.rows[k] for k in range(6, 12)]).tolist()
    assert trained == sorted(trained, key=order.index)


def test_the_last_epoch_leaves_nothing_waiting(make):
    feed, state = make()
    feed.state.epoch, feed.state.position = 2, 12
    items = list(feed.items(lambda: state))
    trained = [row for item in items for row in rows_of(feed, item)]
    assert sorted(trained) == sorted(active_rows(feed, state))
    assert not len(feed.state.queue)
    assert items[-1].batch["where"].sum() == (len(trained) - 1) % 16 + 1


def test_looks_are_at_as_much_as_a_batch_takes(make, monkeypatch):
    feed, state = make()
    looks = []

    def look(self, state, rows, *, counted=True):
        looks.append(len(rows))
        return Looked(rows % 8 == 0, np.ones(len(rows), np.float32))

    monkeypatch.setattr(CompactFeed, "look", look)
    list(feed.items(lambda: state))
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
    feed, state = make(slack=0.0)
    rows = np.arange(ROWS)
    active, lead, _ = feed.look(state, rows)
    for slack in (0.02, 0.1):
        wider, _ = make(slack=slack)
        np.testing.assert_array_equal(
            wider.look(state, rows).active, active | (lead <= np.float32(0.1 + slack))
        )
        # What the pass says of settled examples does not depend on it.
        assert wider.state.looked_sums.num_settled == feed.state.looked_sums.num_settled
        assert active.sum() < wider.look(state, rows).active.sum() < ROWS


@pytest.fixture
def make_in_logits(make, feature_config, change):
    """`make`, of a loss with a margin in logits."""

    def build(margin, **fields):
        config = change(feature_config, "loss", delta=None, logit_margin=margin)
        config = compact(config, change, **{"break_even": 0.0} | fields)
        data = prepare(config)
        recipe = make_recipe(config, data)
        feed = make_feed(recipe, data.splits["train"], seed=0)
        return feed, initial_state(recipe, seed=0)

    return build


def test_without_a_slack_in_logits_the_unsettled_ones_are_active(make_in_logits):
    feed, state = make_in_logits(0.5)
    assert feed.recipe.slack == 0.0
    looked = feed.look(state, np.arange(ROWS))
    inputs, labels = feed.examples.inputs, feed.examples.labels
    logits = feed.recipe.network.logits(state.params, inputs, rngs=None)
    settled = as_softmax_settled(logits, labels, logit_margin=0.5)
    np.testing.assert_array_equal(looked.active, ~settled)
    assert 0 < looked.active.sum() < ROWS
    logits = np.array(logits)
    of_label = logits[np.arange(ROWS), labels]
    logits[np.arange(ROWS), labels] = -np.inf
    np.testing.assert_allclose(looked.lead, of_label - logits.max(-1), atol=1e-5)


def test_a_slack_in_logits_is_added_to_the_margin(make_in_logits):
    feed, state = make_in_logits(0.5, slack=1.0)
    looked = feed.look(state, np.arange(ROWS))
    np.testing.assert_array_equal(looked.active, looked.lead <= np.float32(1.5))
    assert ((looked.lead > 0.5) & looked.active).any()


def test_a_look_ahead_follows_the_margin(feature_config, change):
    config = change(
        feature_config, "loss", delta=None, logit_margin=0.0, margin_end_share=1.0
    )
    config = compact(config, change, break_even=0.0)
    data = prepare(config)
    recipe = make_recipe(config, data)
    feed = make_feed(recipe, data.splits["train"], seed=0)
    state = initial_state(recipe, seed=0)
    feed.state.examples_seen = ROWS
    rows = np.arange(ROWS)
    looked = feed.look(state, rows)
    # In the order of the data, 16 at a time, after one epoch of three.
    seen = ROWS + rows // 16 * 16
    margin = -np.log1p(-seen / (3 * ROWS))
    np.testing.assert_array_equal(looked.active, looked.lead <= margin)
    # What is not of the epoch, a sample for instance, is looked at as things stand.
    now = feed.look(state, rows, counted=False)
    np.testing.assert_array_equal(now.active, now.lead <= -np.log1p(-1 / 3))
    assert now.active.sum() < looked.active.sum() < ROWS


def test_the_slack_in_probability_is_what_it_was(make):
    feed, _ = make(slack=None)
    assert feed.recipe.slack == 0.3


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
    feed, state = make(share=share, break_even=0.4)
    assert not feed.state.compacts
    looks = []

    def look(state, rows, *, counted=True):
        looks.append(rows)
        assert not counted
        return Looked(np.arange(len(rows)) < num_active, np.zeros(len(rows)))

    feed.look, original = look, feed.look
    items = feed.items(lambda: state)
    if expected:  # The look that follows is not the sample's.
        with pytest.raises(AssertionError):
            next(items)
    else:
        next(items)
    feed.look = original
    assert feed.state.compacts is expected
    if share == 0.4:
        np.testing.assert_array_equal(looks[0], np.arange(ROWS))


def test_an_epoch_is_decided_once(make):
    feed, state = make(share=0.9, break_even=0.0)
    next(feed.items(lambda: state))
    kept = feed.state.saved()
    assert kept["compacts"]
    assert kept["decided_epoch"] == 1
    resumed, _ = make(share=0.9, break_even=1.0)
    resumed.state = resumed.state_type.restored(kept)
    next(resumed.items(lambda: state))
    assert resumed.state.compacts


def test_what_waits_is_trained_before_falling_back(make, monkeypatch):
    feed, state = make(share=0.9, break_even=0.9)
    monkeypatch.setattr(CompactFeed, "_pays", lambda *_: feed.state.epoch == 1)
    trained = [row for item in feed.items(lambda: state) for row in rows_of(feed, item)]
    assert sorted(trained) == sorted(active_rows(feed, state))
    feed.finish_epoch(None)
    assert feed.state.saved_share < 0.9


@pytest.mark.parametrize(("slack", "expected"), [(0.0, True), (0.5, False)])
def test_what_the_slack_takes_in_counts_for_the_break_even(make, slack, expected):
    feed, state = make()
    lead = feed.look(state, np.arange(ROWS), counted=False).lead
    settled, saved = (float(np.mean(lead > margin)) for margin in (0.1, 0.1 + 0.5))
    assert saved < settled - 0.05
    feed, state = make(share=1.0, slack=slack, break_even=settled - 0.02)
    next(feed.items(lambda: state))
    assert feed.state.compacts is expected


def test_what_a_compact_epoch_has_left_comes_first_in_a_plain_one(make):
    feed, state = make(share=0.0, break_even=1.0)
    feed.state.queue = np.array([3, 70, 5])
    items = feed.items(lambda: state)
    assert rows_of(feed, next(items)) == [3, 70, 5]
    assert not feed.state.compacts
    rest = [row for item in items for row in rows_of(feed, item)]
    assert sorted(rest) == list(range(ROWS))


def test_a_compact_run_learns_from_fewer_examples(feature_config, change, tmp_path):
    config = compact(feature_config, change, epochs=6, break_even=0.0, slack=0.1)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    last = result["records"][-1]
    assert result["validation_accuracy"] > 0.9
    assert last["examples_seen"] == 6 * ROWS
    assert last["examples_filtered"] == 5 * ROWS  # the first epoch is plain
    assert ROWS < last["examples_trained"] < 4 * ROWS
    assert last["learning_rate"] == 0.0
    assert 0 < last["settled_share"] < 1
    assert 0 <= last["stale_settled_share"] <= last["stale_share"] + 1


def test_a_mesh_finds_the_same_active_rows(make, feature_config, change):
    feed, state = make()
    config = compact(feature_config, change, **EXACT)
    data = prepare(config)
    recipe = make_recipe(change(config, "mesh", data=8), data)
    on_mesh = initial_state(recipe, seed=0)
    batch = {
        "inputs": data.splits["train"].inputs[:80],
        "labels": data.splits["train"].labels[:80],
        "where": np.arange(80) < 77,
    }
    step = jax.jit(filter_step, static_argnums=0)
    spread = step(recipe, on_mesh.params, put_batch(recipe.mesh, batch), np.int32(0))
    alone = step(feed.recipe, state.params, batch, np.int32(0))
    np.testing.assert_array_equal(spread.active, alone.active)
    np.testing.assert_allclose(spread.lead, alone.lead, atol=1e-6)


# Looking less often.


def look_with(active, lead):
    """A look that finds what it is told."""

    def look(self, state, rows, *, counted=True):
        return Looked(np.isin(rows, active), np.full(len(rows), lead, np.float32))

    return look


def seen_in(feed, state, epoch, monkeypatch, look):
    """The rows that are looked at in an epoch."""
    seen = []

    def watched(self, state, rows, *, counted=True):
        seen.extend(rows.tolist() if counted else [])
        return look(self, state, rows)

    monkeypatch.setattr(CompactFeed, "look", watched)
    feed.state.epoch, feed.state.position = epoch, 6 * epoch
    list(feed.items(lambda: state))
    return sorted(seen)


def test_rows_are_looked_at_when_their_lead_could_be_used_up(make, monkeypatch):
    feed, state = make(epochs=9, max_skipped_epochs=2, audit_share=0.0)
    active, everything = list(range(10)), list(range(ROWS))
    look = functools.partial(seen_in, feed, state, monkeypatch=monkeypatch)
    # Nothing is skipped before it is known how fast leads fall.
    assert look(epoch=1, look=look_with(active, 0.9)) == everything
    assert look(epoch=2, look=look_with(active, 0.7)) == everything
    assert feed.state.leads.fall == pytest.approx(0.2, abs=1e-6)
    # (0.7 - 0.1) / 0.2 is three epochs, and two are the most.
    assert look(epoch=3, look=look_with(active, 0.7)) == active
    assert look(epoch=4, look=look_with(active, 0.7)) == active
    # Now (0.45 - 0.1) / 0.2 is one.
    assert look(epoch=5, look=look_with(active, 0.45)) == everything
    assert look(epoch=6, look=look_with(active, 0.45)) == active
    assert look(epoch=7, look=look_with(active, 0.2)) == everything
    assert feed.state.audit.num_skipped == 3 * (ROWS - 10)
    # The last epoch looks at everything.
    assert look(epoch=8, look=look_with(active, 0.9)) == everything


def test_what_plain_steps_saw_tells_how_fast_leads_fall(make, monkeypatch):
    feed, state = make(epochs=9, max_skipped_epochs=2, audit_share=0.0)
    assert state.seen is None  # nothing is remembered for a feed alone
    seen = np.full(ROWS, 0.6, np.float32)
    seen[:4] = np.nan
    state = state._replace(seen={"lead": seen})
    seen_in(feed, state, 1, monkeypatch, look_with([], 0.5))
    assert feed.state.leads.fall == pytest.approx(0.1, abs=1e-6)


def test_steps_remember_the_least_lead_of_each_example(feature_config, change):
    config = compact(feature_config, change, max_skipped_epochs=1, break_even=1.0)
    data = prepare(config)
    recipe, train = make_recipe(config, data), data.splits["train"]
    state = initial_state(recipe, seed=0, labels=train.labels)
    assert np.isnan(state.seen["lead"]).all()
    feed = make_feed(recipe, train, seed=0)
    before = feed.look(state, np.arange(ROWS), counted=False).lead
    item = next(feed.items(lambda: state))
    info = BatchInfo(np.int32(16), np.bool_(True), np.bool_(False))
    state = train_step(recipe, state, put_batch(recipe.mesh, item.batch), info)
    seen = np.asarray(state.seen["lead"])
    there = ~np.isnan(seen)
    assert sorted(np.flatnonzero(there)) == sorted(item.rows)
    np.testing.assert_allclose(seen[there], before[there], atol=1e-5)


def test_an_audit_counts_what_was_wrongly_skipped_and_ends_it(make, monkeypatch):
    feed, state = make(epochs=9, max_skipped_epochs=1, audit_share=0.5)
    feed.state.leads.fall = 0.1
    seen_in(feed, state, 1, monkeypatch, look_with([], 1.0))
    assert feed.state.skips
    looked_at = seen_in(feed, state, 2, monkeypatch, look_with(range(41), 1.0))
    audit = feed.state.audit
    # Half of the first rows of the epoch are audited; they end the skipping.
    assert audit.num_skipped + len(looked_at) == ROWS
    assert audit.num_skipped_active > 0
    assert not feed.state.skips
    figures = feed.figures()
    assert figures["wrongly_skipped_share"] == pytest.approx(
        audit.num_skipped_active / audit.num_skipped_checked
    )
    assert seen_in(feed, state, 3, monkeypatch, look_with([], 1.0)) == list(range(ROWS))


def test_a_clean_audit_lets_rows_be_skipped(make, monkeypatch):
    feed, state = make(epochs=9, max_skipped_epochs=1, audit_share=0.5)
    feed.state.leads.fall = 0.1
    seen_in(feed, state, 1, monkeypatch, look_with([], 1.0))
    looked_at = seen_in(feed, state, 2, monkeypatch, look_with([], 1.0))
    audit = feed.state.audit
    assert audit.num_skipped_checked == len(looked_at)
    assert audit.num_skipped == ROWS - len(looked_at)
    assert 20 < len(looked_at) < 62
    assert feed.state.skips


# Looking further than the next batch, and sooner than the next epoch.


def test_a_window_is_looked_at_at_once(make, monkeypatch):
    feed, state = make(look_rows=40)
    looks = []

    def look(self, state, rows, *, counted=True):
        looks.append(len(rows))
        return Looked(rows % 2 == 0, np.ones(len(rows), np.float32))

    monkeypatch.setattr(CompactFeed, "look", look)
    items = list(feed.items(lambda: state))
    # After the sample, windows of three mini-batches.
    assert looks == [ROWS, 48, ROWS - 48]
    trained = [row for item in items for row in rows_of(feed, item)]
    waiting = feed.state.queue.tolist()
    assert sorted(trained + waiting) == list(range(0, ROWS, 2))
    # What the first batch has left of the first window waits for an update.
    window = np.concatenate([feed.rows[k] for k in (6, 7, 8)])
    assert feed.state.audit.num_stale == (window % 2 == 0).sum() - 16 > 0


@pytest.mark.parametrize(
    ("every", "settled", "looked_at"),
    [
        # Of 6 mini-batches; it is decided after each second one.
        (32, [True, True], ROWS - 32),
        (32, [False, True], ROWS - 64),
        (32, [False, False], 0),
        (0, [True, True], 0),
    ],
)
def test_an_epoch_becomes_compact_when_enough_is_settled(
    make, monkeypatch, every, settled, looked_at
):
    feed, state = make(share=0.0, break_even=0.5, decide_every=every)
    answers = iter(settled)
    monkeypatch.setattr(CompactFeed, "_sample_saves", lambda *_: next(answers))
    monkeypatch.setattr(CompactFeed, "look", look_with(range(0, ROWS, 4), 1.0))
    trained = list(feed.items(lambda: state))
    plain = [i for i in trained if i.num_seen == len(i.rows)]
    assert sum(i.num_seen for i in trained) + feed.state.num_pending == ROWS
    assert feed.state.examples_seen == ROWS
    assert feed.state.compacts == bool(looked_at)
    if looked_at:
        assert len(plain) * 16 == ROWS - looked_at
        feed.finish_epoch(state.sums.wide())
        assert feed.state.saved_share == pytest.approx(0.75, abs=0.06)
    else:
        assert [row for i in trained for row in i.rows] == [
            row for k in range(6, 12) for row in feed.rows[k]
        ]


def test_plain_steps_that_settle_little_ask_for_no_look(make, monkeypatch):
    feed, state = make(share=0.0, break_even=0.5, decide_every=32)
    state = state._replace(sums=state.sums._replace(num_active_rows=np.int32(20)))
    asked = []
    monkeypatch.setattr(CompactFeed, "_sample_saves", lambda *_: asked.append(1))
    list(feed.items(lambda: state))
    # 20 of the first 32 rows were active, and none of those that followed.
    assert feed.state.decided_at == 6 + 4
    assert len(asked) == 1


def test_a_run_becomes_compact_in_its_first_epoch(feature_config, change, tmp_path):
    config = compact(
        feature_config, change, epochs=4, break_even=0.05, slack=0.0, decide_every=16
    )
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    first, last = result["records"][0], result["records"][-1]
    assert 0 < first["examples_filtered"] < ROWS
    assert first["examples_seen"] == ROWS
    assert last["examples_trained"] < 4 * ROWS
    assert 0 < first["settled_share"] < 1
    seconds = sum(
        last[name] for name in ("plain_seconds", "look_seconds", "step_seconds")
    )
    assert 0 < seconds < result["seconds"]
    assert last["speed_ceiling"] > 0
    assert 0 <= last["padded_share"] < 1


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
        assert "or take as_softmax, entmax, real_am_softmax, sparsemax, " in message


def test_refuses_windows(feature_config, change):
    config = change(feature_config, "training", window="settled_ratio")
    assert "`training.window`: compact batches are full of chosen" in refusal(
        config, change
    )


def test_refuses_batches_that_do_not_divide_over_devices(feature_config, change):
    config = change(feature_config, "mesh", data=8)
    message = refusal(config, change, batch_size=12)
    assert "`compact.batch_size`: 12 does not divide over 8 devices" in message
