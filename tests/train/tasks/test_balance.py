"""How often classes are drawn, and what examples weigh."""

import dataclasses

import numpy as np
import pytest

from train.config import DataConfig
from train.data.examples import Examples
from train.data.pipeline import training_rows
from train.data.records import Records
from train.errors import ConfigError, DataError
from train.loop import train_and_evaluate
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.tasks.balance import arrival_epochs, loss_weights, sampling_shares

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
LABELS = np.array([0] * 80 + [1] * 16 + [2] * 4)


def drawn(balance, **options):
    examples = Examples(np.arange(100), LABELS)
    shares = sampling_shares(balance, LABELS, 3)
    rows = training_rows(
        examples, batch_size=16, epochs=30, seed=0, shares=shares, **options
    )
    per_epoch = 7
    epochs = [
        np.concatenate([rows[k] for k in range(e * per_epoch, (e + 1) * per_epoch)])
        for e in range(30)
    ]
    assert all(len(epoch) == 100 for epoch in epochs)
    return epochs


@pytest.mark.parametrize(
    ("balance", "expected"),
    [("classes", [1 / 3, 1 / 3, 1 / 3]), ("sqrt", [0.5985, 0.2677, 0.1338])],
)
def test_classes_come_as_often_as_asked_for(balance, expected):
    epochs = drawn(balance)
    counts = np.bincount(LABELS[np.concatenate(epochs)])
    np.testing.assert_allclose(counts / counts.sum(), expected, atol=0.03)
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(drawn(balance)[3], epochs[3])


def test_without_balance_each_row_comes_once():
    assert all(sorted(epoch) == list(range(100)) for epoch in drawn(""))


@pytest.mark.parametrize(
    ("stages", "epochs", "first_epochs"),
    [
        (3, 3, (0, 1, 2)),
        (3, 6, (0, 2, 4)),
        (3, 7, (0, 3, 5)),  # floor(3 e / 7) is 0 0 0 1 1 2 2
        (2, 4, (0, 0, 2)),  # the first two classes are one part
        (1, 5, (0, 0, 0)),
    ],
)
def test_classes_arrive_part_by_part(stages, epochs, first_epochs):
    found = arrival_epochs(stages, np.array([2, 0, 1]), 3, epochs=epochs)
    assert tuple(found[[1, 2, 0]]) == first_epochs
    parts = [k * stages // 3 for k in range(3)]
    for epoch in range(epochs):
        there = [first <= epoch for first in first_epochs]
        assert there == [part <= epoch * stages // epochs for part in parts]


@pytest.mark.parametrize("balance", ["", "classes"])
def test_an_epoch_is_of_the_classes_that_have_come(balance):
    arrivals = arrival_epochs(3, LABELS, 3, epochs=30)
    epochs = drawn(balance, arrivals=arrivals)
    for epoch, rows in enumerate(epochs):
        assert set(LABELS[rows]) == set(range(min(epoch // 10, 2) + 1))
    if not balance:
        # Of the 80 that are there each comes once, and 20 of them again.
        counts = np.bincount(epochs[0], minlength=100)
        assert sorted(counts) == [0] * 20 + [1] * 60 + [2] * 20
        # Once all have come, an epoch is one as always.
        assert sorted(epochs[20]) == list(range(100))
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(drawn(balance, arrivals=arrivals)[13], epochs[13])


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("data", {"class_stages": 4}, "4 stages, 3 classes and 3 epochs"),
        ("training", {"epochs": 2}, "3 stages, 3 classes and 2 epochs"),
        ("training", {"mode": "random"}, "random training chooses among all examples"),
    ],
)
def test_stages_that_do_not_go_are_refused(
    feature_config, change, section, fields, message
):
    config = change(feature_config, "data", class_stages=3)
    config = change(config, "loss", name="softmax", delta=None)
    config = change(config, section, **fields)
    with pytest.raises(ConfigError, match=message):
        make_recipe(config, prepare(config))


def test_classes_that_have_not_come_are_not_pushed_down(
    feature_config, change, tmp_path, capsys
):
    """Which is what softmax does to them, and masked softmax does not."""
    config = change(feature_config, "data", class_stages=3)
    config = change(config, "training", epochs=18, evaluate_every=6)
    config = change(config, "optimizer", schedule="constant", weight_decay=0.0)
    lowest = {}
    for name in ("softmax", "masked_softmax"):
        config = change(config, "loss", name=name, delta=None)
        result = train_and_evaluate(config, tmp_path / name)
        assert "classes come in 3 stages, the first 1 from" in capsys.readouterr().out
        lowest[name] = result["records"][0]
        # All have come in the end.
        assert result["records"][-1]["validation_accuracy"] > 0.8
    # One class has come: nothing to learn for one loss, and much for the other.
    assert lowest["masked_softmax"]["train_loss"] == 0
    assert lowest["softmax"]["train_loss"] > 0


def weights(records=None, **fields):
    columns = {"weight": np.asarray(records)} if records is not None else {}
    table = Records("train", "table.csv", columns)
    return loss_weights(DataConfig(**fields), table, LABELS, 3)


def test_weights_of_classes_have_a_mean_of_one():
    assert weights() is None
    balanced = weights(class_weights="balanced")
    np.testing.assert_allclose(balanced.mean(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        [balanced[k == LABELS].sum() for k in range(3)], 100 / 3, rtol=1e-5
    )
    root = weights(class_weights="sqrt")
    np.testing.assert_allclose(root.mean(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(root[-1] / root[0], np.sqrt(20), rtol=1e-6)


def test_a_column_counts_as_it_is_and_times_its_class():
    column = np.arange(100.0)
    np.testing.assert_array_equal(weights(column, weight_column="weight"), column)
    both = weights(column, weight_column="weight", class_weights="balanced")
    np.testing.assert_allclose(
        both, column * weights(class_weights="balanced"), rtol=1e-6
    )
    text = [str(value) for value in column]
    np.testing.assert_array_equal(weights(text, weight_column="weight"), column)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("heavy", "table.csv: weight column `weight` has 'heavy' in row 3"),
        (-1.0, "has -1.0 in row 3; a weight is a finite number of 0 or more"),
        (np.nan, "has nan in row 3"),
        (np.inf, "has inf in row 3"),
        (None, "has None in row 3"),
    ],
)
def test_what_is_no_weight_is_refused(value, message):
    column = np.ones(100, object)
    column[2] = value
    with pytest.raises(DataError, match=message.replace("*", r"\*")):
        weights(column, weight_column="weight")


def test_weights_of_nothing_are_refused():
    with pytest.raises(DataError, match="is 0 in every row"):
        weights(np.zeros(100), weight_column="weight")


def test_a_weight_column_is_no_feature_and_weighs_training_alone(
    feature_config, feature_folder, change
):
    for split in ("train", "validation", "test"):
        file = feature_folder / f"{split}.csv"
        head, *rows = file.read_text().splitlines()
        lines = [f"{head},w", *(f"{row},{k % 3}" for k, row in enumerate(rows))]
        file.write_text("\n".join(lines) + "\n")
    without = prepare(change(feature_config, "data", weight_column=""))
    data = prepare(change(feature_config, "data", weight_column="w"))
    assert data.spec.shape[0] == without.spec.shape[0] - 1
    train = data.splits["train"]
    np.testing.assert_array_equal(train.weights, np.arange(len(train)) % 3)
    assert data.splits["validation"].weights is None
    other = dataclasses.replace(train, weights=train.weights + 1)
    assert other.digest() != train.digest()


@pytest.mark.parametrize(
    "fields",
    [
        {"balance": "classes"},
        pytest.param({"class_weights": "balanced"}, marks=pytest.mark.long),
    ],
)
def test_a_balanced_run_learns(feature_config, change, tmp_path, fields):
    config = change(feature_config, "data", **fields)
    config = change(config, "training", epochs=6)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["validation_accuracy"] > 0.8


def test_a_task_without_one_class_an_example_is_refused(feature_config):
    for key in ("balance", "class_weights"):
        data = dataclasses.replace(feature_config.data, **{key: "sqrt"})
        config = dataclasses.replace(feature_config, task="multi_label", data=data)
        with pytest.raises(ConfigError, match=f"`data.{key}`: an example of this task"):
            prepare(config)
