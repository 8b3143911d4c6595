"""The moving average of the parameters, which is evaluated in their place."""

import jax
import numpy as np
import pytest

from train.evaluation.evaluation import evaluate
from train.loop import initial_state, train_and_evaluate
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.steps import BatchInfo, train_step
from train.workdir.checkpoints import read_checkpoint

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
DECAY = 0.7


def mix(decay, old, new):
    """The moving average by its formula."""
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)


@pytest.mark.parametrize("window", ["none", "settled_ratio"])
def test_it_moves_when_the_parameters_do(feature_config, change, quick_jit, window):
    config = change(feature_config, "optimizer", ema_decay=DECAY)
    config = change(config, "training", window=window, window_scale=3.0, epochs=4)
    data = prepare(config)
    recipe = make_recipe(config, data)
    state = initial_state(recipe, seed=0)
    feed = make_feed(recipe, data.splits["train"], seed=0)
    step = quick_jit(train_step, static_argnums=0)
    average, moved = jax.device_get(state.params), []
    for item in feed.items(lambda: None):
        before = int(state.gradient_step)
        info = BatchInfo(np.int32(item.num_seen), np.bool_(False), np.bool_(item.last))
        state = step(recipe, state, put_batch(recipe.mesh, item.batch), info)
        number = int(state.gradient_step)
        moved.append(number > before)
        if moved[-1]:
            decay = min(DECAY, number / (number + 9))
            average = mix(decay, average, jax.device_get(state.params))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            jax.device_get(state.average),
            average,
        )
    assert all(moved) == (window == "none")
    assert any(moved)


def test_it_is_what_is_evaluated_and_kept(feature_config, change, tmp_path):
    config = change(feature_config, "optimizer", ema_decay=DECAY)
    plain = train_and_evaluate(feature_config, tmp_path / "plain", quiet=True)
    result = train_and_evaluate(config, tmp_path / "average", quiet=True)
    # Training itself is the same.
    losses = [[r["train_loss"] for r in run["records"]] for run in (plain, result)]
    assert losses[0] == losses[1]
    assert plain["validation_loss"] != result["validation_loss"]
    data = prepare(config)
    recipe = make_recipe(config, data)
    like = initial_state(recipe, seed=0).params
    _, params = read_checkpoint(tmp_path / "average", like)
    kept = evaluate(recipe.scorer, params, data.splits["validation"], batch_size=16)
    best = min(r["validation_loss"] for r in result["records"])
    assert kept.means["loss"] == pytest.approx(result["validation_loss"])
    assert result["validation_loss"] >= best


def test_there_is_none_unless_asked_for(feature_config):
    recipe = make_recipe(feature_config, prepare(feature_config))
    state = initial_state(recipe, seed=0)
    assert state.average is None
    assert state.evaluated is state.params
