"""Data in memory: every kind of table is the same records."""

import numpy as np
import pyarrow
import pytest

from train.data.memory import as_inputs, as_records, read_memory
from train.errors import DataError

COLUMNS = {"text": ["a", "b", "c"], "x": [1, 2, 3], "tags": [["O"], [], ["O", "B"]]}
ROWS = [
    dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)
]


class Streamed:
    """What a frame with Arrow's interface is to us, such as one of Polars."""

    def __init__(self, columns):
        self._table = pyarrow.table(columns)

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


class DataSet:
    """What a data set of Hugging Face is to us."""

    column_names = tuple(COLUMNS)

    def with_format(self, kind):
        assert kind == "arrow"
        return pyarrow.table(COLUMNS)


@pytest.mark.parametrize(
    "table",
    [COLUMNS, ROWS, pyarrow.table(COLUMNS), Streamed(COLUMNS), DataSet()],
    ids=["columns", "rows", "arrow", "stream", "data set"],
)
def test_tables_of_every_kind_are_one(table):
    found = as_records(table, "train")
    assert list(found.columns) == list(COLUMNS)
    assert found.column("x").dtype.kind == "i"
    for name, values in COLUMNS.items():
        assert [
            list(v) if name == "tags" else v for v in found.column(name).tolist()
        ] == values


def test_a_frame_of_pandas_leaves_its_index_behind():
    pandas = pytest.importorskip("pandas")
    found = as_records(pandas.DataFrame(COLUMNS, index=[7, 8, 9]), "train")
    assert list(found.columns) == list(COLUMNS)


def test_scalars_of_numpy_are_those_of_python():
    labels = np.array(["a", "b"])
    for column in (labels, list(labels), labels.astype(object), np.array([*labels])):
        held = as_records({"label": column}, "train").column("label").tolist()
        assert [type(value) for value in held] == [str, str]
    (row,) = as_records({"tags": [[*labels]]}, "train").column("tags").tolist()
    assert [type(value) for value in row] == [str, str]
    flags = as_records({"label": [*np.array([True, False])]}, "train")
    assert [type(value) for value in flags.column("label").tolist()] == [bool, bool]


def test_pairs_have_the_names_that_tasks_read():
    y = np.arange(3)
    assert list(as_records((np.ones((3, 2)), y), "train").columns) == [
        *("x0", "x1", "label")
    ]
    assert list(as_records((np.ones((3, 8, 8)), y), "train").columns) == [
        *("image", "label")
    ]
    assert list(as_records((["a", "b", "c"], y), "train").columns) == ["text", "label"]
    words = [["a"], ["b", "c"], ["d"]]
    found = as_records((words, [["O"], ["O", "O"], ["O"]]), "train")
    assert found.column("tokens").tolist() == words
    found = as_records(({"x": [1, 2, 3]}, y), "train")
    assert list(found.columns) == ["x", "label"]


def test_splits_are_told_by_their_names():
    splits = read_memory({"train": COLUMNS, "test": ROWS})
    assert {name: (r.split, len(r)) for name, r in splits.items()} == {
        "train": ("train", 3),
        "test": ("test", 3),
    }
    assert list(read_memory(COLUMNS)) == ["train"]


def test_inputs_are_a_table_or_a_list():
    assert as_inputs(["a", "b"]) == ["a", "b"]
    assert len(as_inputs(np.ones((2, 8, 8)))) == 2
    assert list(as_inputs(np.ones((2, 3))).columns) == ["x0", "x1", "x2"]
    assert as_inputs({"x": [1.0]}).column("x").tolist() == [1.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "the data: a int is no table; give a table"),
        ({"x": [1, 2], "label": [1]}, "differ in length: `x` 2, `label` 1"),
        ({"x": []}, "the train data: no rows"),
        ({"train": COLUMNS, "dev": COLUMNS}, "no split 'dev'; it can be train, valid"),
    ],
)
def test_refuses_what_is_no_table(data, message):
    with pytest.raises(DataError, match=message):
        read_memory(data)
