"""Parquet: what is missing stays missing, however it is encoded."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from train.data.parquet import read_parquet

CODES = pyarrow.array(["a", None, "b"]).dictionary_encode()
LISTS = pyarrow.ListArray.from_arrays(pyarrow.array([0, 2, 2, 3]), CODES)
PATHS = pyarrow.StructArray.from_arrays([CODES], ["path"])


def read_back(tmp_path, array, **options):
    pyarrow.parquet.write_table(pyarrow.table({"c": array}), tmp_path / "t", **options)
    return read_parquet(tmp_path / "t")["c"]


@pytest.mark.parametrize(
    "array",
    [
        CODES,
        CODES.cast(pyarrow.string()),
        CODES.cast(pyarrow.large_string()),
        CODES.cast(pyarrow.string()).cast(pyarrow.string_view()),
        pyarrow.chunked_array([CODES[:1], CODES[1:]]),
    ],
    ids=["codes", "text", "large text", "views", "chunks of codes"],
)
@pytest.mark.parametrize("rows_a_group", [1, 3])
def test_missing_text_is_none(tmp_path, array, rows_a_group):
    column = read_back(tmp_path, array, row_group_size=rows_a_group)
    assert column.tolist() == ["a", None, "b"]


def test_missing_codes_inside_lists_and_structs_are_none(tmp_path):
    lists = read_back(tmp_path, LISTS)
    assert [list(row) for row in lists] == [["a", None], [], ["b"]]
    paths = read_back(tmp_path, PATHS)
    assert paths.tolist() == [{"path": "a"}, {"path": None}, {"path": "b"}]
    large = LISTS.cast(pyarrow.large_list(LISTS.type.value_type))
    assert list(read_back(tmp_path, large)[0]) == ["a", None]


def test_missing_bytes_are_none(tmp_path):
    array = pyarrow.array([b"a", None, b"b"]).dictionary_encode()
    assert read_back(tmp_path, array).tolist() == [b"a", None, b"b"]


@pytest.mark.parametrize("encode", [lambda a: a, lambda a: a.dictionary_encode()])
def test_a_missing_number_is_not_a_number(tmp_path, encode):
    column = read_back(tmp_path, encode(pyarrow.array([1, None, 3])))
    np.testing.assert_array_equal(column, [1.0, np.nan, 3.0])
