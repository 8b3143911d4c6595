"""Every loss of the table trains by its name, on a task that it is made for."""

import dataclasses

import jax
import numpy as np
import pytest

from as_softmax_jax.losses import LOSSES
from train.loop import _train_step, initial_state
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.steps import BatchInfo

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.fixture
def config_of(feature_config, change, tmp_path):
    """Returns a function: a row of the table -> a small configuration of its task."""

    def config_of(row):
        config = change(feature_config, "loss", name=row.name, delta=None)
        config = change(config, "optimizer", warmup=0.0)  # The first step moves.
        if row.input == "thresholds":
            order = ("class-0", "class-1", "class-2")
            config = dataclasses.replace(config, task="ordinal_features")
            return change(config, "data", class_order=order)
        if row.target != "multi_hot":
            return config
        # More classes than any loss takes of them by default.
        lines = [
            f'{{"text": "word{k}", "label": ["{k}", "{(k + 1) % 24}"]}}'
            for k in range(24)
        ]
        for split in ("train", "validation"):
            (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
        config = change(
            config,
            "data",
            path=str(tmp_path),
            train="train.jsonl",
            validation="validation.jsonl",
            test="",
            vocabulary_size=64,
            max_length=8,
        )
        config = change(config, "model", heads=2)
        return dataclasses.replace(config, task="multi_label")

    return config_of


# Those with inputs of their own, or another output layer; the others are alike.
SPECIAL = [n for n, row in LOSSES.items() if row.extras or row.input == "thresholds"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * (name not in SPECIAL))
        for name in LOSSES
    ],
)
def test_trains_two_steps(config_of, name):
    config = config_of(LOSSES[name])
    data = prepare(config)
    recipe, train = make_recipe(config, data), data.splits["train"]
    state = initial_state(recipe, seed=0, labels=train.labels)
    items = make_feed(recipe, train, seed=0).items(lambda: state)
    before = jax.tree.map(np.array, state.params)
    for _ in range(2):
        item = next(items)
        info = BatchInfo(np.int32(item.num_seen), np.bool_(True), np.bool_(item.last))
        state = _train_step(recipe, state, put_batch(recipe.mesh, item.batch), info)
        assert np.isfinite(state.sums.loss)
        assert state.sums.num_valid == len(item.rows)
    assert state.gradient_step == 2
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, state.params)
    assert all(jax.tree.leaves(changed))


@pytest.mark.parametrize("ranks", [True, False])
def test_a_loss_that_only_ranks_classes_is_judged_by_rank(config_of, ranks):
    """More on all logits changes nothing for it, so 0 is no threshold."""
    rows = [row for row in LOSSES.values() if row.target == "multi_hot"]
    row = next(row for row in rows if row.shift_invariant == ranks)
    config = config_of(row)
    recipe = make_recipe(config, prepare(config))
    assert recipe.metric == ("precision_at_1" if ranks else "micro_f1")
