"""Class folders: what is read, in which order, and what is refused."""

import dataclasses
import os

import pytest

from train.config import DataConfig
from train.data.folders import read
from train.errors import DataError


def touch(folder, *files):
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def folder(tmp_path):
    touch(tmp_path / "train", "dog/b.JPG", "dog/a.png", "cat/1.jpeg", "cat/2.webp")
    touch(tmp_path / "validation", "cat/3.flac", "dog/4.wav")
    return tmp_path


@pytest.fixture
def config(folder):
    return DataConfig(source="folders", path=str(folder))


def test_reads_files_by_class_in_order_of_their_names(config):
    splits = read(config)
    assert sorted(splits) == ["train", "validation"]
    train = splits["train"]
    assert train.columns["label"].tolist() == ["cat", "cat", "dog", "dog"]
    paths = ["cat/1.jpeg", "cat/2.webp", "dog/a.png", "dog/b.JPG"]
    assert train.columns["image"].tolist() == paths
    assert train.columns["audio"].tolist() == paths


def test_paths_are_relative_to_the_folder_of_the_split(config, folder):
    train = read(config)["train"]
    assert train.origin == str(folder / "train")
    assert (folder / "train" / train.columns["image"][0]).is_file()


def test_the_configuration_names_folders_and_columns(config, folder):
    touch(folder / "held-out", "cat/5.gif")
    config = dataclasses.replace(
        config, test="held-out", input_column="picture", label_column="kind"
    )
    test = read(config)["test"]
    assert {name: c.tolist() for name, c in test.columns.items()} == {
        "picture": ["cat/5.gif"],
        "kind": ["cat"],
    }


def test_hidden_files_and_other_endings_are_no_examples(config, folder, capsys):
    touch(
        folder / "train",
        "README.txt",
        ".cache/1.png",
        "cat/.3.png",
        "cat/notes.txt",
        "cat/more/4.png",
        "cat/folder.png/5.txt",
    )
    train = read(config)["train"]
    assert train.columns["image"].tolist()[:2] == ["cat/1.jpeg", "cat/2.webp"]
    assert len(train) == 4
    note = capsys.readouterr().err
    assert "train: 3 files are left out (endings: .txt, .png)" in note
    assert "validation" not in note


def test_refuses_a_folder_that_is_not_there(config):
    with pytest.raises(DataError, match=r"away: no such folder; .*--config.data.test"):
        read(dataclasses.replace(config, test="away"))


def test_refuses_a_folder_without_a_class(config, folder):
    touch(folder / "flat", "1.png")
    with pytest.raises(DataError, match=r"flat: no class folder .*flat/CLASS/.*\.png"):
        read(dataclasses.replace(config, test="flat"))


def test_refuses_a_class_without_a_training_example_and_names_it(config, folder):
    touch(folder / "train", "mouse/1.txt")
    with pytest.raises(DataError, match=r"train/mouse: no training example of class"):
        read(config)


def test_a_class_may_lack_validation_examples(config, folder):
    (folder / "validation" / "dog" / "4.wav").unlink()
    assert read(config)["validation"].columns["label"].tolist() == ["cat"]


def test_refuses_a_class_whose_name_is_no_text(config, folder):
    # As an archive that was packed with another encoding leaves it.
    touch(folder / "train", os.fsdecode(b"caf\xe9/1.png"))
    with pytest.raises(DataError, match=r"class folder 'caf\\udce9'.*not UTF-8"):
        read(config)


def test_refuses_a_file_where_a_folder_is_meant(config, folder):
    touch(folder, "held-out")
    config = dataclasses.replace(config, test="held-out")
    with pytest.raises(DataError, match=r"no such folder, it is a file.*source=files"):
        read(config)
