"""Folds of the training examples, and the test split held back."""

import dataclasses

import numpy as np
import pytest

from train import data
from train.config import DataConfig
from train.data.records import Records
from train.errors import ConfigError, DataError


@pytest.fixture
def read(monkeypatch):
    """Returns a function: splits of 60 rows with labels of three sizes."""
    labels = np.array(["a"] * 30 + ["b"] * 24 + ["c"] * 5 + ["d"])
    asked = []

    def source(config):
        asked.append(config)
        columns = {"x": np.arange(60), "label": labels}
        found = {"train": Records("train", "table", columns)}
        if config.validation:
            found["validation"] = Records("validation", "table", columns)
        found["test"] = Records("test", "table", columns)
        return found

    monkeypatch.setitem(data.SOURCES, "files", source)

    def call(**fields):
        config = DataConfig(source="files", **fields)
        return data.read(config, one_label=True), asked

    return call


def test_each_row_is_tested_once_and_labels_are_spread(read):
    tested = []
    for fold in range(5):
        splits, asked = read(folds=5, fold=fold, test="test")
        assert asked[-1].validation == asked[-1].test == ""
        rows = {name: set(r.columns["x"].tolist()) for name, r in splits.items()}
        assert set.union(*rows.values()) == set(range(60))
        assert sum(map(len, rows.values())) == 60
        counts = {
            name: [int((r.columns["label"] == k).sum()) for k in "abcd"]
            for name, r in splits.items()
        }
        assert counts["test"][:3] in ([6, 5, 1], [6, 4, 1])
        assert counts["validation"][:3] in ([6, 5, 1], [6, 4, 1])
        # The only row of its label stays where it can be learned.
        assert counts["train"][3] == 1
        assert splits["test"].split == "test"
        tested += rows["test"]
    assert len(tested) == len(set(tested)) == 59


def test_the_next_fold_validates(read):
    first, _ = read(folds=3, fold=0)
    second, _ = read(folds=3, fold=1)
    validated = set(first["validation"].columns["x"])
    assert validated == set(second["test"].columns["x"])


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"folds": 2}, ConfigError, "`data.folds`: of 2 one is the test split"),
        ({"folds": 3, "fold": 3}, ConfigError, "`data.fold`: no fold 3 of 3"),
        (
            {"folds": 61, "fold": 60},
            DataError,
            "`data.folds`=61 of 60 examples leaves none",
        ),
    ],
)
def test_folds_that_cannot_be_are_refused(read, fields, error, message):
    with pytest.raises(error, match=message):
        read(**fields)


def test_a_split_that_is_held_back_is_not_there(read):
    splits, _ = read(held_back=True)
    assert sorted(splits) == ["train", "validation"]
    splits, _ = read(held_back=True, folds=3)
    assert sorted(splits) == ["train", "validation"]
    whole, _ = read(folds=3)
    assert len(whole["train"]) == len(splits["train"])
    assert dataclasses.replace(DataConfig(), held_back=True) != DataConfig()
