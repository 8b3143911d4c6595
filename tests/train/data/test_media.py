"""Decoding many files: order, broken ones, paths, and arrays beyond memory."""

import threading

import numpy as np
import pytest

from train.data import media
from train.data.media import (
    CannotDecodeError,
    allocate,
    content,
    decode_column,
    decode_good,
)
from train.data.records import Records
from train.errors import DataError


def records(values, origin="some.parquet"):
    column = np.empty(len(values), object)
    column[:] = values
    return Records("train", str(origin), {"file": column})


def decode(content):
    """A file's first byte as a number; an exclamation mark is a broken file."""
    if content == b"!":
        raise CannotDecodeError("broken")
    return np.array([content[0]])


def decode_all(values, bad_files="refuse", **kwargs):
    return decode_column(
        records(values, **kwargs),
        "file",
        decode,
        shape=(1,),
        dtype=np.dtype(np.uint8),
        bad_files=bad_files,
    )


def test_rows_stay_in_order_whatever_thread_decodes_them(monkeypatch):
    monkeypatch.setattr(media, "_AHEAD", 4)
    # Four rows at once, each of which waits for the other three.
    barrier = threading.Barrier(4, timeout=60)
    values = [bytes([row]) for row in range(12)]

    def wait(content):
        barrier.wait()
        return decode(content)

    decoded = list(decode_good(records(values), "file", wait, range(12)))
    np.testing.assert_array_equal(np.ravel(decoded), np.arange(12))


def test_every_row_is_decoded():
    # One more than the threads take at once.
    decoded, kept = decode_all([b"a"] * media._AHEAD + [b"b"])
    assert kept is None
    np.testing.assert_array_equal(decoded[-2:, 0], [ord("a"), ord("b")])


def test_refuses_broken_files_with_the_first_their_number_and_the_cure():
    with pytest.raises(
        DataError,
        match=r"^some.parquet: 2 of 4 files cannot be decoded, the first in row 2: "
        r"broken; .*--config.data.bad_files=skip$",
    ):
        decode_all([b"a", b"!", b"b", b"!"])


def test_the_name_of_a_broken_file_is_said():
    with pytest.raises(DataError, match=r"the first in x/9.jpg, row 2: broken"):
        decode_all([b"a", {"bytes": b"!", "path": "x/9.jpg"}])


def test_leaves_broken_files_out_when_asked_to_and_says_so_once(capsys):
    decoded, kept = decode_all([b"!", b"a", b"b", b"!", b"c"], bad_files="skip")
    np.testing.assert_array_equal(decoded[:, 0], list(b"abc"))
    np.testing.assert_array_equal(kept, [1, 2, 4])
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "note: some.parquet: left out 2 of 5 files that cannot be decoded, the first "
        "in row 1: broken"
    ]


@pytest.mark.parametrize("bad_files", ["refuse", "skip"])
def test_refuses_a_column_in_which_nothing_can_be_decoded(bad_files):
    with pytest.raises(DataError, match=r"none of 2 files in column `file`.*column"):
        decode_all([b"!", b"!"], bad_files=bad_files)
    with pytest.raises(DataError, match=r"none of 1 files"):
        list(decode_good(records([b"!"]), "file", decode, [0]))


@pytest.mark.parametrize("bad_files", ["refuse", "skip"])
def test_a_refusal_of_one_row_names_it(bad_files):
    def refuse(content):
        raise DataError("too wide; make it narrower")

    with pytest.raises(DataError, match=r"^some.parquet: row 1: too wide; make"):
        decode_column(
            records([b"a"]),
            "file",
            refuse,
            shape=(1,),
            dtype=np.dtype(np.uint8),
            bad_files=bad_files,
        )


def test_reads_bytes_paths_structs_and_arrays(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    array = np.zeros(3)
    assert content(b"b", tmp_path) == b"b"
    assert content("a.png", tmp_path) == b"a"
    assert content({"bytes": b"b", "path": "a.png"}, tmp_path) == b"b"
    assert content({"bytes": None, "path": "a.png"}, tmp_path) == b"a"
    assert content(array, tmp_path) is array
    # What Hugging Face decodes keeps the name of a file that need not be there.
    decoded = {"array": array, "sampling_rate": 8000, "path": "gone.wav"}
    assert content(decoded, tmp_path) is decoded


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("gone.png", "No such file"),
        ("a\0b", "null byte"),
        ("", "is no file"),
        (None, "None is no file"),
        (7, "7 is no file"),
        ({"bytes": None, "path": None}, "None is no file"),
    ],
)
def test_a_row_without_a_file_cannot_be_decoded(tmp_path, value, message):
    with pytest.raises(CannotDecodeError, match=message):
        content(value, tmp_path)


def test_paths_are_relative_to_the_folder_that_the_records_come_from(tmp_path):
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "rows.parquet").write_bytes(b"")
    for origin in (tmp_path, tmp_path / "rows.parquet"):
        decoded, _ = decode_all(["a.png"], origin=origin)
        assert decoded[0, 0] == ord("a")


def test_a_large_array_lies_in_a_file_without_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(media, "MEMORY_BYTES", 100)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    in_memory = allocate((25,), np.dtype(np.float32))
    in_file = allocate((26,), np.dtype(np.float32))
    assert in_memory.base is None
    assert isinstance(in_file.base, np.memmap)
    in_file[:] = 3.0
    assert in_file.sum() == 26 * 3.0
    assert not list(tmp_path.iterdir())


def test_refuses_a_large_array_that_the_disk_has_no_room_for(monkeypatch):
    with pytest.raises(DataError, match=r"no room for 8388608.0 GiB .*TMPDIR"):
        allocate((2**53,), np.dtype(np.uint8))


@pytest.mark.parametrize(
    "head", ["version https://git-lfs.github.com/spec/v1\n", "/annex/objects/SHA256E"]
)
def test_a_pointer_is_no_file(tmp_path, head):
    (tmp_path / "a.png").write_text(head)
    for value in ("a.png", head.encode(), {"path": "a.png", "bytes": None}):
        with pytest.raises(CannotDecodeError, match=r"pointer, not the data; .* `git "):
            content(value, tmp_path)
