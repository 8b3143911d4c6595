"""The recipe: what of the configuration becomes a schedule."""

import math

import numpy as np
import pytest

from train.errors import ConfigError
from train.recipe.recipe import make_recipe
from train.tasks import prepare

TOTAL = 3 * 82  # epochs times examples


@pytest.fixture
def make(feature_config, change):
    """Returns a function: the recipe of a loss with some fields."""

    def make(**fields):
        config = change(feature_config, "loss", **{"delta": None} | fields)
        return make_recipe(config, prepare(config))

    return make


def test_delta_falls_from_one_over_its_share_of_training(make):
    recipe = make(delta=0.2, delta_warmup=0.5)
    course = recipe.course
    assert (course.margin, course.softmax) == ("delta", 1.0)
    assert (course.warmup, course.cooldown, course.total) == (TOTAL / 2, None, TOTAL)
    assert float(recipe.keywords_at(0)["delta"]) == 1.0
    halfway = recipe.keywords_at(course.warmup / 2)
    assert float(halfway["delta"]) == pytest.approx((1 + 0.2) / 2)
    for seen in (course.warmup, TOTAL):
        assert float(recipe.keywords_at(seen)["delta"]) == pytest.approx(0.2)


def test_a_margin_in_logits_comes_from_infinity_and_goes_back(make):
    recipe = make(logit_margin=2.0, logit_margin_warmup=0.5, margin_end_share=0.25)
    course = recipe.course
    assert (course.warmup, course.cooldown) == (TOTAL / 2, round(TOTAL / 4))
    seen = (0, TOTAL / 4, TOTAL / 2, TOTAL - course.cooldown, TOTAL)
    found = [float(recipe.keywords_at(k)["logit_margin"]) for k in seen]
    # e^-m moves evenly: half of it is reached log 2 above the margin.
    expected = [math.inf, 2.0 + math.log(2), 2.0, 2.0, math.inf]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert recipe.margin_at(0) == {"logit_margin": math.inf}
    # Evaluation is under one margin throughout.
    assert recipe.objective.final_keywords == {"logit_margin": 2.0}


def test_only_its_own_warm_up_moves_a_margin(make):
    recipe = make(logit_margin=2.0, delta_warmup=0.5)
    assert float(recipe.keywords_at(0)["logit_margin"]) == 2.0


def test_delta_goes_back_to_one(make):
    recipe = make(delta=0.2, margin_end_share=1.0)
    found = [float(recipe.keywords_at(k)["delta"]) for k in (0, TOTAL / 2, TOTAL)]
    np.testing.assert_allclose(found, [0.2, 0.6, 1.0], rtol=1e-6)


def test_two_odd_halves_of_training_fit_into_it(feature_config, change):
    config = change(feature_config, "data", train_examples=81)
    config = change(config, "loss", delta_warmup=0.5, margin_end_share=0.5)
    course = make_recipe(config, prepare(config)).course
    assert course.warmup + course.cooldown == course.total == 3 * 81
    assert course.warmup == round(3 * 81 / 2)


def test_refuses_a_course_that_is_longer_than_training(make):
    with pytest.raises(ConfigError) as refusal:
        make(logit_margin_warmup=0.6, margin_end_share=0.5)
    assert "`loss.logit_margin_warmup` and `loss.margin_end_share`: 0.6 and 0.5" in str(
        refusal.value
    )
    make(delta=0.1, logit_margin_warmup=0.6, margin_end_share=0.5)


def test_without_a_course_a_margin_is_what_it_is(make):
    assert float(make(delta=0.1).keywords_at(0)["delta"]) == pytest.approx(0.1)


def test_a_loss_without_a_margin_has_no_course(make):
    recipe = make(name="softmax", delta_warmup=0.5, margin_end_share=0.6)
    assert recipe.course is None
    assert recipe.keywords_at(0) == recipe.margin_at(0) == {}


def test_recipes_with_equal_margins_are_equal(make):
    fields = {"logit_margin": 1.0, "class_margins": {"class-1": 3.0}}
    assert hash(make(**fields)) == hash(make(**fields))
    assert make(**fields) == make(**fields) != make(logit_margin=1.0)
