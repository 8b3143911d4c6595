"""The user's own files: one table in three formats, and what is refused."""

import dataclasses
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from train.config import DataConfig
from train.data import read
from train.errors import ConfigError, DataError
from train.targets.labels import label_values

ROWS = {"size": [1.5, 2.0, 3.0], "count": [1, 2, 3], "label": ["b", "a", "b"]}


def write(path, columns):
    names, rows = list(columns), list(zip(*columns.values(), strict=True))
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        lines = [",".join(map(str, row)) for row in [names, *rows]]
        path.write_text("\n".join(lines), encoding="utf-8")


def config_for(folder, ending):
    return DataConfig(
        source="files",
        path=str(folder),
        train=f"train{ending}",
        validation=f"validation{ending}",
    )


@pytest.mark.parametrize("ending", [".parquet", ".jsonl", ".csv"])
def test_a_table_means_the_same_in_each_format(tmp_path, ending):
    for split in ("train", "validation"):
        write(tmp_path / (split + ending), ROWS)
    splits = read(config_for(tmp_path, ending))
    assert list(splits) == ["train", "validation"]
    train = splits["train"]
    assert len(train) == 3
    np.testing.assert_array_equal(train.column("size").astype(float), [1.5, 2.0, 3.0])
    assert label_values(train, "label") == ["b", "a", "b"]
    assert label_values(splits["validation"], "count") == [1, 2, 3]


def test_csv_text_that_looks_like_a_number_stays_text(tmp_path):
    columns = {"text": ["007", '"a, b"'], "label": [0, 1]}
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.csv", columns)
    texts = read(config_for(tmp_path, ".csv"))["train"].column("text")
    assert texts.tolist() == ["007", "a, b"]


@pytest.mark.parametrize("character", ["\u2028", "\x85", "\x1d"])
def test_a_line_of_json_ends_at_a_newline_alone(tmp_path, character):
    for split in ("train", "validation"):
        row = {"text": f"a{character}b", "label": "c"}
        line = json.dumps(row, ensure_ascii=False)
        (tmp_path / f"{split}.jsonl").write_text(line + "\r\n", encoding="utf-8")
    texts = read(config_for(tmp_path, ".jsonl"))["train"].column("text")
    assert texts.tolist() == [f"a{character}b"]


def test_large_values_are_read(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("text,label\n" + "x" * 200_000 + ",a\n")
        (tmp_path / f"{split}.jsonl").write_text(f'{{"id": {2**64}, "label": "a"}}\n')
    assert len(read(config_for(tmp_path, ".csv"))["train"].column("text")[0]) == 200_000
    assert read(config_for(tmp_path, ".jsonl"))["train"].column("id")[0] == 2**64


def test_endings_in_capitals_are_endings(tmp_path):
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.csv", ROWS)
        (tmp_path / f"{split}.csv").rename(tmp_path / f"{split}.CSV")
    assert len(read(config_for(tmp_path, ".CSV"))["train"]) == 3


def test_a_label_of_one_row_is_not_held_out(tmp_path):
    labels = ["a", "b"] * 30 + [f"rare {k}" for k in range(8)]
    write(tmp_path / "train.csv", {"x": range(len(labels)), "label": labels})
    config = DataConfig(
        source="files",
        path=str(tmp_path),
        train="train.csv",
        validation="",
        validation_share=0.5,
    )
    splits = read(config, one_label=True)
    assert set(splits["train"].column("label")) == set(labels)
    assert set(splits["validation"].column("label")) == {"a", "b"}
    seen = [*splits["train"].numbers, *splits["validation"].numbers]
    assert sorted(seen) == list(range(1, len(labels) + 1))


@pytest.mark.parametrize("size", [3, 20, 200])
def test_a_label_of_one_row_is_not_left_out(tmp_path, size):
    labels = ["a", "b"] * 200
    labels[7] = "rare"
    write(tmp_path / "train.csv", {"x": range(400), "label": labels})
    write(tmp_path / "validation.csv", {"x": [1], "label": ["rare"]})
    config = dataclasses.replace(config_for(tmp_path, ".csv"), train_examples=size)
    train = read(config, one_label=True)["train"]
    assert len(train) == size
    assert set(train.column("label")) == {"a", "b", "rare"}
    # Whoever cares for no label draws the same rows, but for those that make room.
    plain = read(config)["train"]
    assert len(set(plain.numbers) & set(train.numbers)) >= size - 2


def test_a_draw_with_every_label_is_as_it_was(tmp_path):
    write(tmp_path / "train.csv", {"x": range(40), "label": ["a", "b"] * 20})
    write(tmp_path / "validation.csv", {"x": [1], "label": ["a"]})
    config = dataclasses.replace(config_for(tmp_path, ".csv"), train_examples=20)
    kept = read(config, one_label=True)["train"].numbers
    np.testing.assert_array_equal(kept, read(config)["train"].numbers)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("data", [{"train_examples": 20}, {"validation": ""}])
def test_the_only_row_of_one_label_of_several_is_kept(tmp_path, ending, data):
    labels = [["a"], ["b", "a"]] * 40 + [["a", f"rare {k}"] for k in range(8)]
    if ending == ".csv":
        labels = ["|".join(row) for row in labels]
    for split in ("train", "validation"):
        columns = {"x": range(len(labels)), "label": labels}
        write(tmp_path / f"{split}{ending}", columns)
    config = dataclasses.replace(
        config_for(tmp_path, ending), validation_share=0.5, **data
    )
    train = read(config, several_labels=True)["train"]
    rows = [r.split("|") if ending == ".csv" else r for r in train.column("label")]
    found = {label for row in rows for label in row}
    assert found == {"a", "b", *(f"rare {k}" for k in range(8))}


def test_whole_numbers_beyond_64_bits_stay_whole(tmp_path):
    for split in ("train", "validation"):
        lines = [f'{{"x": {k}, "label": {2**64 + k}}}' for k in range(2)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    train = read(config_for(tmp_path, ".jsonl"))["train"]
    assert label_values(train, "label") == [2**64, 2**64 + 1]


def test_a_name_without_ending_is_a_file_beside_a_folder_of_that_name(tmp_path):
    write(tmp_path / "train.csv", ROWS)
    write(tmp_path / "validation.csv", ROWS)
    (tmp_path / "train").mkdir()
    assert len(read(config_for(tmp_path, ""))["train"]) == 3


@pytest.mark.parametrize("root", ["", "~"])
def test_the_environment_names_the_folder(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    for split in ("train", "validation"):
        write(tmp_path / "mine" / f"{split}.csv", ROWS)
    monkeypatch.setenv("AS_SOFTMAX_DATA", root or str(tmp_path))
    config = DataConfig(
        source="files", name="mine", train="train.csv", validation="validation.csv"
    )
    assert len(read(config)["train"]) == 3
    monkeypatch.delenv("AS_SOFTMAX_DATA")
    assert len(read(dataclasses.replace(config, path="~/mine"))["train"]) == 3
    with pytest.raises(DataError, match=r"--config.data.path=FOLDER.*'mine'"):
        read(config)


def test_digits_are_split_alike_each_time():
    first, second = read(DataConfig()), read(DataConfig())
    sizes = {split: len(records) for split, records in first.items()}
    assert sizes == {"train": 1198, "validation": 299, "test": 300}
    for split, records in first.items():
        images = records.column("image")
        assert images.shape[1:] == (8, 8, 1)
        assert (images.min(), images.max()) == (0.0, 1.0)
        np.testing.assert_array_equal(images, second[split].column("image"))
        shares = np.bincount(records.column("label")) / len(records)
        assert abs(shares - 0.1).max() < 0.01


def test_refuses_a_source_that_is_not_there():
    with pytest.raises(ConfigError, match=r"no 'digit'; did you mean `digits`\?"):
        read(DataConfig(source="digit"))


BAD_CONTENT = {
    ".jsonl": [
        (b'{"x": 1, "label": 0}\n{"x": 1', ["train.jsonl:2", "not JSON"]),
        (b'{"x": 1, "label": 0}\n{"x": 1}', ["train.jsonl:2", "x, label"]),
        (b'{"x": 1, "label": 0}\n[1, 0]', ["train.jsonl:2", "object"]),
        (b'{"x": 1, "label": "a"}\n{"x": "\xe9"}', ["train.jsonl:2", "UTF-8"]),
        (b"", ["train.jsonl", "the train split is empty"]),
    ],
    ".csv": [
        (b"x,label\n1,2,3\n", ["train.csv:2", "3 values for 2 columns"]),
        (b'x,label\n"1,2\n', ["train.csv", "not CSV"]),
        (b"x,label\n1,\xe9\n", ["train.csv:2", "not UTF-8 text"]),
        (b"x,label\n", ["train.csv", "the train split is empty"]),
        (b"", ["train.csv", "the train split is empty"]),
    ],
    ".parquet": [(b"PAR1 no", ["train.parquet", "not a Parquet file"])],
}


@pytest.mark.parametrize(
    ("ending", "content", "words"),
    [(ending, *case) for ending, cases in BAD_CONTENT.items() for case in cases],
)
def test_refuses_content(tmp_path, ending, content, words):
    (tmp_path / f"train{ending}").write_bytes(content)
    with pytest.raises(DataError) as refusal:
        read(config_for(tmp_path, ending))
    for word in words:
        assert word in str(refusal.value)


def test_refuses_an_unknown_ending(tmp_path):
    with pytest.raises(DataError, match=r"must end in \.parquet, \.jsonl, \.csv"):
        read(config_for(tmp_path, ".xlsx"))
