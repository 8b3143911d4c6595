"""Numeric features: which columns they are, and how they are scaled."""

import numpy as np
import pytest

from train.config import Config, DataConfig
from train.data.records import Records
from train.tasks.features import FeatureCodec


def records(**columns):
    label = np.array(["a"] * len(next(iter(columns.values()))), object)
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return Records("train", "train.csv", arrays | {"label": label})


def fitted(table, **data):
    return FeatureCodec.fit(Config(task="features", data=DataConfig(**data)), table)


def test_columns_are_standardised_by_training():
    codec = fitted(records(x=[1.0, 3.0], y=[5, 9]))
    other = records(x=[2.0, 5.0], y=[7, 7])
    np.testing.assert_allclose(codec.encode(other).inputs, [[0, 0], [3, 0]])


@pytest.mark.parametrize("value", [0.1, 1e-30, 0.0, -7.3])
def test_a_constant_column_is_not_divided_by_its_rounding(value):
    codec = fitted(records(x=np.full(101, value)))
    assert codec.deviation == 1.0
    moved = codec.encode(records(x=[value, value + 0.1])).inputs
    np.testing.assert_allclose(moved[:, 0], [0.0, 0.1], atol=abs(value) * 1e-15)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__"])
def test_a_column_that_numbers_the_rows_is_no_feature(name, capsys):
    table = records(**{name: [0, 1], "x": [1.0, 2.0]})
    assert fitted(table).columns == ("x",)
    assert "which numbers the rows, is no feature" in capsys.readouterr().err
    assert fitted(table, feature_columns=(name, "x")).columns == (name, "x")
