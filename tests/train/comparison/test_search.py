"""The search: equal trials for every loss, the cells they make, and the choice."""

import dataclasses
import math

import pytest

from as_softmax_jax.losses import LOSSES
from train.comparison.search import (
    Contender,
    best_trial,
    chosen_cell,
    make_trials,
    parse_contenders,
    trial_cell,
)
from train.config import Config, DataConfig, LossConfig
from train.errors import ConfigError
from train.targets.metric import Metric

SOFTMAX = Contender("softmax", None)
LOGITS = Contender("as_softmax", "logit_margin")
DELTA = Contender("as_softmax", "delta")
CONFIG = Config(loss=LossConfig(name="as_softmax", delta=0.1))


def trials(contender, count=6, config=CONFIG):
    return make_trials(config, contender.row(LOSSES), count)


def parsed(text, target="labels"):
    return parse_contenders(text, target, LOSSES, where="digits")


def test_contenders_are_losses_with_a_margin():
    assert parsed("softmax, as_softmax,as_softmax:delta") == [SOFTMAX, LOGITS, DELTA]
    assert [c.label(LOSSES) for c in (SOFTMAX, LOGITS, DELTA)] == [
        "softmax",
        "as_softmax",
        "as_softmax:delta",
    ]
    # Of several labels a loss's sibling stands for it.
    assert parsed("as_softmax:delta", "multi_hot") == [
        Contender("multi_label_as_softmax", "delta")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("softmax,softmax", "--losses: softmax comes twice"),
        ("as_softmax,as_softmax:logit_margin", "as_softmax:logit_margin comes twice"),
        ("as_softmax:dleta", "as_softmax has no margin 'dleta'; did you mean `delta`"),
        ("softmax:delta", "softmax has no margin 'delta'; it has none"),
        ("sofmax", "no 'sofmax'; did you mean `softmax`"),
        ("softmax,,focal", "an empty name"),
    ],
)
def test_wrong_contenders_are_refused(text, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        parsed(text)


def test_the_first_trial_is_the_configuration_as_it_is():
    first = trials(DELTA)[0]
    assert first == (0, 1e-3, 10, "delta", 0.1)
    assert trials(LOGITS)[0].value == 2.0  # not given: the table's
    assert trials(SOFTMAX)[0] == (0, 1e-3, 10, None, None)
    smoothing = dataclasses.replace(
        CONFIG, loss=LossConfig(name="label_smoothing", options={"smoothing": 0.3})
    )
    row = LOSSES["label_smoothing"]
    assert make_trials(smoothing, row, 1)[0].value == 0.3


def test_every_loss_has_the_same_rates_and_epochs():
    found = [trials(contender) for contender in (SOFTMAX, LOGITS, DELTA)]
    assert len({tuple(t[1:3] for t in of_one) for of_one in found}) == 1
    rates = [t.learning_rate for t in found[0]]
    assert len(set(rates)) == 6
    assert 1e-3 / 4 <= min(rates) < 0.7e-3 < 1.4e-3 < max(rates) <= 4e-3
    assert {t.epochs for t in found[0]} == {5, 10, 15}
    values = {t.value for t in found[1]}
    assert values == {5.0, 3.0, 2.0, 1.0}


def test_a_trial_s_cell_holds_the_test_split_back():
    trial = trials(LOGITS)[2]
    cell = trial_cell("digits", CONFIG, LOGITS, trial, LOSSES)
    assert cell.config.data.held_back
    assert cell.config.seed == 0
    assert cell.config.loss.logit_margin == trial.value
    assert cell.config.loss.delta is None
    assert cell.config.optimizer.learning_rate == trial.learning_rate
    assert cell.config.training.epochs == trial.epochs
    assert cell.name == (
        "digits-as_softmax-search_2-learning_rate=0.002-epochs=5-logit_margin=2-seed_0"
    )
    of_delta = trial_cell("digits", CONFIG, DELTA, trials(DELTA)[2], LOSSES)
    assert of_delta.config.loss.logit_margin is None
    assert of_delta.name.startswith("digits-as_softmax_delta-search_2-")
    softmax = trial_cell("digits", CONFIG, SOFTMAX, trials(SOFTMAX)[2], LOSSES)
    assert softmax.config.loss == LossConfig(name="softmax")


def test_fresh_seeds_look_at_the_test_split_and_folds_go_with_them():
    trial = trials(LOGITS)[1]
    cell = chosen_cell("digits", CONFIG, LOGITS, trial, 3, LOSSES)
    assert not cell.config.data.held_back
    assert cell.config.seed == 3
    assert cell.label == "as_softmax"
    assert cell.name == (
        f"digits-as_softmax-chosen-learning_rate={trial.learning_rate:g}-"
        f"epochs={trial.epochs}-logit_margin={trial.value:g}-seed_3"
    )
    folded = dataclasses.replace(CONFIG, data=DataConfig(folds=4))
    folds = [
        chosen_cell("digits", folded, LOGITS, trial, seed, LOSSES).config.data.fold
        for seed in range(1, 5)
    ]
    assert folds == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("values", "larger", "expected"),
    [
        ([0.5, 0.9, 0.9], True, 1),
        ([3.0, 1.0, 2.0], False, 1),
        ([math.nan, None, 0.1], True, 2),
        ([None, None, None], True, 0),
    ],
)
def test_validation_chooses_and_the_first_of_equals_stays(values, larger, expected):
    metric = Metric("score", "score", larger_is_better=larger)
    results = [{"validation_score": value} for value in values]
    of = trials(SOFTMAX, 3)
    assert best_trial(of, results, metric) == of[expected]
