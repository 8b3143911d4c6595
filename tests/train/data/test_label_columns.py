import numpy as np
import pytest

from train.config import DataConfig
from train.data.label_columns import gather_labels
from train.data.records import Records
from train.errors import ConfigError, DataError


def records(**columns):
    arrays = {name: np.array(values, object) for name, values in columns.items()}
    return Records("train", "mails.csv", arrays)


def config(*names, **fields):
    return DataConfig(label_columns=names, **fields)


def test_a_row_has_the_labels_whose_columns_say_so():
    found = gather_labels(
        records(
            text=["a", "b", "c", "d"],
            spam=[1, 0, 0, 1],
            urgent=["1", "0", " True ", "false"],
            private=[1.0, 0.0, True, False],
        ),
        config("spam", "urgent", "private"),
    )
    assert found.column("label").tolist() == [
        ["spam", "urgent", "private"],
        [],
        ["urgent", "private"],
        ["spam"],
    ]
    assert found.column("text").tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("value", ["", None, 2, "yes", 0.5, float("nan")])
def test_refuses_what_is_neither_0_nor_1(value):
    with pytest.raises(DataError, match=r"mails.csv: row 2 of column `spam` has "):
        gather_labels(records(text=["a", "b"], spam=[1, value]), config("spam"))


def test_refuses_a_column_that_is_none_or_there_twice():
    table = records(text=["a"], spam=[1])
    with pytest.raises(DataError, match="no column `ham`"):
        gather_labels(table, config("spam", "ham"))
    with pytest.raises(ConfigError, match="`spam` is there twice"):
        gather_labels(table, config("spam", "spam"))
    with pytest.raises(ConfigError, match="`text` is there twice, or is the input"):
        gather_labels(table, config("spam", "text", input_column="text"))
