"""Numeric features: which columns they are, and how they are scaled."""

import numpy as np
import pytest

from train.config import Config, DataConfig
from train.data.records import Records, object_column
from train.errors import DataError
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


def test_numbers_too_small_to_square_are_scaled():
    codec = fitted(records(x=[1e-200, 3e-200], y=[5e-324, 0.0]))
    inputs = codec.encode(records(x=[1e-200, 3e-200], y=[5e-324, 0.0])).inputs
    np.testing.assert_allclose(inputs[:, 0], [-1.0, 1.0])
    assert np.isfinite(inputs).all()


@pytest.mark.parametrize("value", [1e300, -1e300, 1.7e308, 3.5e38, 1e30])
def test_refuses_what_float32_cannot_hold(value):
    codec = fitted(records(x=[1.0, 3.0]))
    with pytest.raises(DataError) as refusal:
        codec.encode(records(x=[2.0, value]))
    words = [
        "train.csv",
        f"`x` has {value:g} in row 2",
        "which are 2",
        "deviation of 1",
    ]
    for word in words:
        assert word in str(refusal.value)


def test_large_numbers_are_fine_where_training_has_them():
    codec = fitted(records(x=[1e100, 3e100]))
    np.testing.assert_allclose(codec.encode(records(x=[2e100])).inputs, [[0.0]])


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("2021_03", "no number"),
        ("1_0.5", "no number"),
        ("0x10", "no number"),
        ("5%", "no number"),
        ("1,5", "no number"),
        ("", "no number"),
        (None, "no number"),
        (b"12", "no number"),
        ([1.0], "no number"),
        (np.array([1.0]), "no number"),
        (np.datetime64("2021-03", "ns"), "no number"),
        (np.timedelta64(3, "ns"), "no number"),
        (10**400, "too large a number"),
        ("1e400", "too large a number"),
    ],
)
def test_refuses_what_is_no_number(value, what):
    with pytest.raises(DataError) as refusal:
        fitted(records(x=object_column([1.0, value])))
    for word in ["train.csv", "feature column `x`", "in row 2", what]:
        assert word in str(refusal.value)


@pytest.mark.parametrize("value", ["12", " -1.5 ", "1e3", "+.5", True, 2**70])
def test_takes_numbers_as_data_write_them(value):
    codec = fitted(records(x=object_column([1.0, value])))
    assert codec.mean[0] == (1.0 + float(value)) / 2


def test_a_constant_column_may_be_too_large_to_sum():
    codec = fitted(records(x=[1e308, 1e308, 1e308]))
    np.testing.assert_array_equal(codec.encode(records(x=[1e308])).inputs, [[0.0]])
