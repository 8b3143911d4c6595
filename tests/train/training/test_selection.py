"""Rivals of compact training: what they choose, and how they weigh it."""

import dataclasses

import jax
import numpy as np
import pytest

from train.config import SelectionConfig
from train.errors import ConfigError
from train.loop import initial_state, train_and_evaluate
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.steps import BatchInfo, train_step

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
ROWS = 82  # of the training split, in six mini-batches of 16
RIVALS = ("random", "selective_backprop", "infobatch")


@pytest.fixture
def configured(feature_config, change):
    """Returns a function: a configuration of a mode."""

    def build(mode, *, epochs=4, loss="softmax", **fields):
        config = change(feature_config, "training", mode=mode, epochs=epochs)
        config = change(config, "loss", name=loss, delta=None)
        return dataclasses.replace(config, selection=SelectionConfig(**fields))

    return build


@pytest.fixture
def make(configured):
    """Returns a function: a feed before its first batch, and the state."""

    def build(mode, **fields):
        config = configured(mode, **fields)
        data = prepare(config)
        recipe, train = make_recipe(config, data), data.splits["train"]
        feed = make_feed(recipe, train, seed=0)
        return feed, initial_state(recipe, seed=0, labels=train.labels)

    return build


def rows_in(items):
    return [int(row) for item in items for row in item.rows]


@pytest.mark.parametrize("mode", RIVALS)
def test_batches_stand_for_the_whole_epoch(make, mode):
    feed, state = make(mode)
    items = list(feed.items(lambda: state))
    rows = rows_in(items)
    assert len(set(rows)) == len(rows) <= ROWS
    assert sum(item.num_seen for item in items) + feed.state.num_pending == ROWS
    assert feed.state.examples_seen == ROWS
    assert feed.state.examples_trained == len(rows)


def test_random_rows_are_a_share_that_changes_with_the_epoch(make):
    feed, state = make("random", share=0.5)
    chosen = []
    for _ in range(2):
        chosen.append(rows_in(feed.items(lambda: state)) + feed.state.queue.tolist())
        feed.state.queue = feed.state.queue[:0]
        feed.finish_epoch(state.sums)
    assert all(25 < len(rows) < 57 for rows in chosen)
    assert set(chosen[0]) != set(chosen[1])
    assert feed.state.examples_filtered == 0
    again, state = make("random", share=0.5)
    assert rows_in(again.items(lambda: state)) == chosen[0][: len(chosen[0]) // 16 * 16]


def test_selective_backprop_takes_the_biggest_losers_most_often(make):
    feed, state = make("selective_backprop", share=0.25)
    every = np.arange(ROWS)
    losses = feed.look(state, every, counted=False).loss
    taken = np.zeros(ROWS)
    for position in range(300):
        feed.state.position = position
        taken[feed.choose(lambda: state, every)] += 1
    assert np.corrcoef(np.argsort(np.argsort(losses)), taken)[0, 1] > 0.8
    assert taken.mean() / 300 == pytest.approx(0.25, abs=0.03)
    assert taken[np.argmax(losses)] == 300


def test_selective_backprop_looks_again_after_so_many_epochs(make):
    feed, state = make("selective_backprop", look_every=2)
    looked_at = []
    for _ in range(4):
        list(feed.items(lambda: state))
        looked_at.append(feed.state.examples_filtered)
        feed.finish_epoch(state.sums)
    assert looked_at == [ROWS, ROWS, 2 * ROWS, 2 * ROWS]


def test_infobatch_leaves_out_a_share_of_the_easy_ones_and_weighs_the_rest(make):
    feed, state = make("infobatch", epochs=8, pruned_share=0.5, whole_share=0.25)
    assert (feed._plan(lambda: state) == 1).all()  # nothing is known yet
    loss = np.arange(ROWS, dtype=np.float32)
    loss[0] = np.nan  # never trained
    state = state._replace(seen={"loss": loss})
    weights = feed._plan(lambda: state)
    easy = loss < loss[1:].mean()
    assert set(weights[easy]) == {0.0, 2.0}
    assert (weights[~easy] == 1).all()
    assert 0.25 < (weights[easy] == 0).mean() < 0.75
    items = list(feed.items(lambda: state))
    for item in items:
        where = item.batch["where"]
        expected = weights[item.rows]
        np.testing.assert_array_equal(item.batch["weights"][where], expected)
    feed.state.epoch = 6  # the last quarter is whole
    assert (feed._plan(lambda: state) == 1).all()


def test_an_epoch_of_infobatch_is_planned_once(make):
    feed, state = make("infobatch", epochs=8)
    state = state._replace(seen={"loss": np.arange(ROWS, dtype=np.float32)})
    next(feed.items(lambda: state))
    kept = feed.state.saved()
    resumed, _ = make("infobatch", epochs=8)
    resumed.state = resumed.state_type.restored(kept)
    other = state._replace(seen={"loss": -np.arange(ROWS, dtype=np.float32)})
    next(resumed.items(lambda: other))
    np.testing.assert_array_equal(resumed.state.weights, feed.state.weights)


def test_weights_weigh_the_gradient_and_losses_are_remembered(make):
    feed, state = make("infobatch")
    item = next(feed.items(lambda: state))
    info = BatchInfo(np.int32(16), np.bool_(True), np.bool_(False))
    batch = put_batch(feed.recipe.mesh, item.batch)
    plain = {k: v for k, v in batch.items() if k != "weights"}
    ones = train_step(feed.recipe, state, batch, info)
    alone = train_step(feed.recipe, state, plain, info)
    jax.tree.map(np.testing.assert_array_equal, ones.params, alone.params)
    seen = np.asarray(ones.seen["loss"])
    assert sorted(np.flatnonzero(~np.isnan(seen))) == sorted(item.rows)
    np.testing.assert_allclose(np.nansum(seen), float(ones.sums.loss), rtol=1e-5)
    # A weight of 0 is as if the row were not there but for the count.
    half = np.where(np.arange(16) < 8, 2.0, 0.0).astype(np.float32)
    first = train_step(feed.recipe, state, batch | {"weights": half}, info)
    where = np.arange(16) < 8
    rest = train_step(feed.recipe, state, plain | {"where": where}, info)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        first.params,
        rest.params,
    )


@pytest.mark.parametrize("mode", RIVALS)
@pytest.mark.parametrize(
    "loss", ["softmax", pytest.param("as_softmax", marks=pytest.mark.long)]
)
def test_a_run_learns(configured, tmp_path, mode, loss):
    config = configured(mode, epochs=8, loss=loss, share=0.6)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    last = result["records"][-1]
    assert result["validation_accuracy"] > 0.8
    assert last["examples_seen"] == 8 * ROWS
    assert last["examples_trained"] < 8 * ROWS
    assert last["learning_rate"] == 0.0


def test_refuses_windows(configured, change):
    config = change(configured("random"), "training", window="settled_ratio")
    with pytest.raises(ConfigError, match="random batches are full of chosen examples"):
        make_recipe(config, prepare(config))
