"""The recipe: what of the configuration becomes a schedule."""

import pytest

from train.recipe.recipe import make_recipe
from train.tasks import prepare


def test_delta_falls_from_one_over_its_share_of_training(feature_config, change):
    config = change(feature_config, "loss", delta=0.2, delta_warmup=0.5)
    recipe = make_recipe(config, prepare(config))
    (warmup,) = recipe.warmups
    assert warmup == ("delta", 1.0, 0.2, 3 * 82 / 2)
    halfway = warmup.examples / 2
    assert float(recipe.keywords_at(0)["delta"]) == 1.0
    assert float(recipe.keywords_at(halfway)["delta"]) == pytest.approx((1 + 0.2) / 2)
    assert float(recipe.keywords_at(warmup.examples)["delta"]) == pytest.approx(0.2)


def test_without_a_warmup_delta_is_what_it_is(feature_config):
    recipe = make_recipe(feature_config, prepare(feature_config))
    assert float(recipe.keywords_at(0)["delta"]) == pytest.approx(0.1)


def test_a_loss_without_a_margin_has_no_warmup(feature_config, change):
    config = change(feature_config, "loss", name="softmax", delta_warmup=0.5)
    recipe = make_recipe(config, prepare(config))
    assert recipe.warmups == ()
    assert recipe.keywords_at(0) == {}
