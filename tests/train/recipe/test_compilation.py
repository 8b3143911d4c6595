"""Settings that are arguments of a compiled program, and so compile nothing anew."""

import itertools

import jax
import pytest

from train.loop import train_and_evaluate
from train.recipe.recipe import make_recipe
from train.tasks import prepare

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.mark.parametrize(
    "mode", ["plain", pytest.param("compact", marks=pytest.mark.long)]
)
def test_a_grid_compiles_once(mode, feature_config, change, compiled, tmp_path):
    config = change(feature_config, "training", mode=mode)
    config = change(config, "loss", logit_margin=1.0, logit_margin_warmup=0.3)
    # Compact from the second epoch on, so that each run takes every kind of step.
    config = change(config, "compact", break_even=0.0)
    rates, margins = (1e-3, 3e-3, 1e-2, 3e-2), (0.5, 1.0, 2.0)
    for number, (rate, margin) in enumerate(itertools.product(rates, margins)):
        point = change(config, "optimizer", learning_rate=rate)
        point = change(point, "loss", logit_margin=margin)
        train_and_evaluate(point, tmp_path / str(number), quiet=True)
        if number == 0:
            assert compiled
            compiled.clear()
    assert compiled == []


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("training", {"epochs": 2}),
        ("optimizer", {"weight_decay": 0.3}),
        ("optimizer", {"warmup": 0.5}),
        ("loss", {"logit_margin": 0.0}),
        ("loss", {"logit_margin": float("inf")}),
        ("compact", {"slack": 0.25}),
    ],
)
def test_a_number_makes_no_other_program(section, fields, feature_config, change):
    config = change(feature_config, "loss", logit_margin=1.0, delta=None)
    config = change(config, "compact", slack=0.5)
    data = prepare(config)
    recipe = make_recipe(config, data)
    other = make_recipe(change(config, section, **fields), data)
    assert other != recipe
    assert jax.tree.structure(other) == jax.tree.structure(recipe)
    leaves, structure = jax.tree.flatten(other)
    assert jax.tree.unflatten(structure, leaves) == other


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("optimizer", {"clip_norm": 0.0}),
        ("loss", {"logit_margin_warmup": 0.5}),
        ("loss", {"name": "softmax"}),
        ("model", {"width": 7}),
    ],
)
def test_what_is_another_program_is_told_apart(section, fields, feature_config, change):
    config = change(feature_config, "loss", logit_margin=1.0, delta=None)
    data = prepare(config)
    recipe = make_recipe(config, data)
    other = make_recipe(change(config, section, **fields), data)
    assert jax.tree.structure(other) != jax.tree.structure(recipe)
