import numpy as np
import pytest

from train.data.describe import describer
from train.data.records import Records, object_column


def describe(columns, read):
    arrays = {
        name: values if isinstance(values, np.ndarray) else object_column(values)
        for name, values in columns.items()
    }
    return describer(Records("train", "x.csv", arrays), read)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": ["turn it\non"]}, "turn it on"),
        ({"tokens": [["New", "York"]]}, "New York"),
        ({"image": [{"bytes": b"...", "path": "a/1.png"}]}, "a/1.png"),
        ({"image": ["a/1.png"]}, "a/1.png"),
        ({"x": np.array([0.5]), "sex": ["f"], "age": [None]}, "x 0.5, sex f, age"),
        ({"text": ["word " * 100]}, f"{'word ' * 39}wo..."),
    ],
)
def test_a_row_in_a_few_words(columns, said):
    assert describe(columns, tuple(columns))(0) == said


def test_of_many_columns_the_first_are_told():
    columns = {f"x{k}": np.array([k]) for k in range(10)}
    assert describe(columns, tuple(columns))(0).endswith("x7 7, ...")


@pytest.mark.parametrize(
    "column", [[b"RIFF..."], np.zeros((1, 8, 8)), [{"bytes": b"...", "path": None}]]
)
def test_of_pictures_without_a_file_nothing_is_told(column):
    told = describe({"image": column}, ("image",))
    assert told is None or told(0) == ""
