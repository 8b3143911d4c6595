"""Batches whose loss or gradient is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.loop import initial_state, train_and_evaluate
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.bad_steps import BadSteps, BadStepWatch, DivergedError
from train.training.feeds import make_feed
from train.training.steps import BatchInfo, train_step

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.mark.parametrize("window", ["none", "settled_ratio"])
def test_a_bad_batch_leaves_everything_as_it_was(
    feature_config, change, quick_jit, window
):
    config = change(feature_config, "training", window=window)
    config = change(config, "optimizer", ema_decay=0.5)
    data = prepare(config)
    recipe = make_recipe(config, data)
    state = initial_state(recipe, seed=0)
    feed = make_feed(recipe, data.splits["train"], seed=0)
    step = quick_jit(train_step, static_argnums=0)
    good, bad, *_ = feed.items(lambda: None)

    def take(state, item, *, spoil=False):
        batch = dict(item.batch)
        if spoil:
            batch["inputs"] = batch["inputs"].copy()
            batch["inputs"][0, 0] = np.nan
        info = BatchInfo(np.int32(item.num_seen), np.bool_(False), np.bool_(False))
        return step(recipe, state, put_batch(recipe.mesh, batch), info)

    before = take(state, good)
    after = take(before, bad, spoil=True)
    for field in ("params", "average", "sums", "gradient_step"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(after, field), getattr(before, field)
        )
    assert [int(after.bad.total), int(after.bad.in_a_row)] == [1, 1]
    assert int(after.bad.latest[0]) == 1
    again = take(after, bad)
    assert [int(again.bad.total), int(again.bad.in_a_row)] == [1, 0]
    assert np.isfinite(again.sums.loss)


def test_examples_of_bad_batches_are_named(capsys):
    watch = BadStepWatch(3, mini_step=10, total=0)
    bad = BadSteps.none()
    for number in range(10, 15):
        watch.remember(np.arange(100 * number, 100 * number + 20))
        bad = bad.counted(jnp.bool_(number not in (11, 13)), jnp.int32(number))
    watch.look(bad, "nothing was saved")
    told = capsys.readouterr().err
    assert "2 mini-step(s) left out" in told
    assert "11 (rows 1100, 1101, " in told
    assert "13 (rows 1300, 1301, " in told
    assert "1120" not in told
    watch.look(bad, "nothing was saved")
    assert not capsys.readouterr().err


def test_only_bad_batches_in_a_row_end_a_run():
    bad = BadSteps.none()
    for number in range(20):
        bad = bad.counted(jnp.bool_(number % 3 == 0), jnp.int32(number))
    BadStepWatch(3, mini_step=0, total=0).look(bad, "")
    bad = bad.counted(jnp.bool_(False), jnp.int32(20))
    bad = bad.counted(jnp.bool_(False), jnp.int32(21))
    with pytest.raises(
        DivergedError, match=r"3 mini-steps in a row.*the last good is x"
    ):
        BadStepWatch(3, mini_step=0, total=0).look(bad, "the last good is x")
    BadStepWatch(0, mini_step=0, total=0).look(bad, "")


def test_a_run_that_diverges_ends_with_its_last_checkpoint_named(
    feature_config, change, tmp_path
):
    config = change(feature_config, "optimizer", name="sgd", learning_rate=1e30)
    config = change(config, "optimizer", clip_norm=0.0)
    config = change(config, "training", max_bad_steps=4)
    with pytest.raises(DivergedError, match="no checkpoint was saved before"):
        train_and_evaluate(config, tmp_path / "run", quiet=True)
