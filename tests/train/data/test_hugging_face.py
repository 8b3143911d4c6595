"""Data sets of Hugging Face, from folders that its own library has written."""

import dataclasses
import io

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from train.config import DataConfig
from train.data.hugging_face import read
from train.data.parquet import read_parquet
from train.errors import DataError
from train.loop import train_and_evaluate
from train.tasks import prepare

datasets = pytest.importorskip("datasets")

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
YES_NO = datasets.ClassLabel(names=["no", "yes"])
FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": YES_NO,
        "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-x"])),
        "count": datasets.Value("int64"),
    }
)


def table(n=8, **columns):
    rows = {
        "text": [f"please {('stay', 'go')[k % 2]} {k}" for k in range(n)],
        "label": [k % 2 for k in range(n)],
        "tags": [[0, k % 2] for k in range(n)],
        "count": list(range(n)),
    }
    return datasets.Dataset.from_dict(rows | columns, features=FEATURES)


@pytest.fixture
def folder(tmp_path):
    """Parquet files as the hub has them."""
    folder = tmp_path / "requests"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        table().to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_classes_have_their_names(folder):
    records = read(DataConfig(path=str(folder), test="test"))
    assert sorted(records) == ["test", "train", "validation"]
    columns = records["train"].columns
    assert columns["label"].tolist() == ["no", "yes"] * 4
    assert [list(row) for row in columns["tags"][:2]] == [["O", "O"], ["O", "B-x"]]
    assert columns["count"].tolist() == list(range(8))


def test_parquet_files_of_the_hub_have_names_without_the_library(folder):
    columns = read_parquet(folder / "train.parquet")
    assert columns["label"].tolist() == ["no", "yes"] * 4


def test_a_class_that_is_hidden_is_none(tmp_path):
    table(label=[-1, None, *[1] * 6]).to_parquet(tmp_path / "t.parquet")
    column = read_parquet(tmp_path / "t.parquet")["label"]
    assert column.tolist() == [None, None, *["yes"] * 6]


@pytest.mark.parametrize(
    "held", [b"not JSON", b"[]", b'{"info": null}', b'{"info": {"features": {"c": 3}}}']
)
def test_other_metadata_says_nothing(tmp_path, held):
    plain = pyarrow.table({"c": [0, 1]}).replace_schema_metadata({b"huggingface": held})
    pyarrow.parquet.write_table(plain, tmp_path / "t.parquet")
    assert read_parquet(tmp_path / "t.parquet")["c"].tolist() == [0, 1]


def test_a_part_of_a_split(folder):
    config = DataConfig(path=str(folder), train="train[:50%]", validation="")
    assert len(read(config)["train"]) == 4


def test_what_save_to_disk_has_written(tmp_path):
    saved = datasets.DatasetDict({"train": table(), "validation": table(4)})
    saved.save_to_disk(tmp_path / "saved")
    records = read(DataConfig(path=str(tmp_path / "saved")))
    assert [len(split) for split in records.values()] == [8, 4]
    with pytest.raises(DataError, match=r"Unknown split, .*'train', 'validation'"):
        read(DataConfig(path=str(tmp_path / "saved"), test="tset"))


def test_pictures_stay_as_they_are_stored(tmp_path, change, feature_config):
    def picture(value):
        content = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(content, "PNG")
        return {"bytes": content.getvalue(), "path": None}

    features = datasets.Features({"image": datasets.Image(), "label": YES_NO})
    rows = {"image": [picture(9), picture(200)] * 8, "label": [0, 1] * 8}
    folder = tmp_path / "pictures"
    folder.mkdir()
    for split in ("train", "validation"):
        found = datasets.Dataset.from_dict(rows, features=features)
        found.to_parquet(folder / f"{split}.parquet")
    config = change(feature_config, "data", source="huggingface", path=str(folder))
    config = change(config, "data", train="train", validation="validation", test="")
    data = prepare(dataclasses.replace(config, task="image"))
    assert data.splits["train"].inputs.shape == (16, 8, 8, 3)
    assert data.classes == ("no", "yes")


def test_a_run_on_a_data_set_by_its_folder(folder, tmp_path, change, feature_config):
    config = change(feature_config, "data", source="huggingface", path=str(folder))
    splits = {"train": "train", "validation": "validation", "test": "test"}
    config = dataclasses.replace(change(config, "data", **splits), task="text")
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["classes"] == ["no", "yes"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"test": "tset"}, ["Unknown split", "--config.data.test"]),
        ({"subset": "french"}, ["'french' not found", "--config.data.subset"]),
        ({"path": "", "name": ""}, ["it has no name", "--config.data.name"]),
    ],
)
def test_what_is_not_there_is_told(folder, options, words):
    config = DataConfig(**({"path": str(folder)} | options))
    with pytest.raises(DataError) as refusal:
        read(config)
    for word in words:
        assert word in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_library_that_is_not_there_is_named(monkeypatch, folder):
    from train.data import hugging_face

    def missing(name):
        raise ModuleNotFoundError(name=name)

    hugging_face._library.cache_clear()
    monkeypatch.setattr(hugging_face.importlib, "import_module", missing)
    with pytest.raises(DataError, match=r"as_softmax_jax\[datasets\]"):
        read(DataConfig(path=str(folder)))
    hugging_face._library.cache_clear()
