"""`train.init`: what it makes of data as people have them, and what it asks."""

import csv
import gzip
import json
import wave

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from PIL import Image

from train.config import load
from train.init import main
from train.recipe.recipe import make_recipe
from train.tasks import prepare

TEXTS = [f"please show me the way to place {k}" for k in range(40)]
INTENTS = [("go", "stay", "ask")[k % 3] for k in range(40)]


def write_csv(file, columns, separator=","):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, delimiter=separator)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_json_lines(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def proposed(tmp_path, capsys):
    """Returns a function: the configuration for a path, which trains; what it saw."""

    def call(path, *flags):
        output = tmp_path / "found.py"
        code = main([str(path), "--output", str(output), "--force", *flags])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        config = load(str(output), [])
        make_recipe(config, prepare(config))
        return config, shown.out

    return call


def test_texts_in_one_file(tmp_path, proposed):
    write_csv(tmp_path / "requests.csv", {"utterance": TEXTS, "intent": INTENTS})
    config, shown = proposed(tmp_path / "requests.csv")
    assert (config.task, config.data.input_column) == ("text", "utterance")
    assert config.data.label_column == "intent"
    assert (config.data.validation, config.data.test) == ("", "")
    assert config.data.max_length == 16
    assert config.loss.name == "as_softmax"
    assert config.loss.logit_margin == 2.0
    assert "3 classes, from 13 (stay) to 14 (go) rows" in shown.replace("ask", "stay")
    assert "no validation split: 10% of training becomes it" in shown
    steps = config.training.epochs * np.ceil(40 / config.training.batch_size)
    assert steps >= 300


def test_labels_in_a_column_of_0_and_1_each(tmp_path, proposed):
    table = {
        "id": [f"row-{k}" for k in range(40)],
        "comment_text": TEXTS,
        "toxic": [k % 2 for k in range(40)],
        "obscene": [int(k % 3 == 0) for k in range(40)],
    }
    write_csv(tmp_path / "comments.csv", table)
    config, shown = proposed(tmp_path / "comments.csv")
    assert (config.task, config.data.input_column) == ("multi_label", "comment_text")
    assert config.data.label_columns == ("toxic", "obscene")
    assert "a column of 0 and 1 for each of the labels `toxic`, `obscene`" in shown
    assert prepare(config).classes == ("obscene", "toxic")
    # One of them may be meant, or a column that says otherwise.
    one, _ = proposed(tmp_path / "comments.csv", "--label", "toxic")
    assert (one.task, one.data.label_column) == ("text", "toxic")
    two, _ = proposed(tmp_path / "comments.csv", "--label", "obscene,toxic")
    assert two.data.label_columns == ("obscene", "toxic")
    write_csv(tmp_path / "named.csv", {**table, "label": INTENTS})
    named, _ = proposed(tmp_path / "named.csv")
    assert (named.task, named.data.label_column) == ("text", "label")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "validation", "test"), ("train.csv", "validation.csv", "test.csv")),
        (("training", "dev"), ("training.csv", "dev.csv", "")),
        (("my_train", "my_val"), ("my_train.csv", "my_val.csv", "")),
    ],
)
def test_files_by_split(tmp_path, proposed, names, expected):
    for name in names:
        write_csv(tmp_path / "data" / f"{name}.csv", {"text": TEXTS, "label": INTENTS})
    data = proposed(tmp_path / "data")[0].data
    assert (data.train, data.validation, data.test) == expected
    assert data.input_column == ""


def test_shards_of_a_split(tmp_path, proposed):
    folder = tmp_path / "data"
    folder.mkdir()
    for k in range(2):
        rows = slice(20 * k, 20 * k + 20)
        table = pa.table({"text": TEXTS[rows], "label": INTENTS[rows]})
        pa.parquet.write_table(table, folder / f"train-0000{k}-of-00002.parquet")
    config, shown = proposed(folder)
    assert config.data.train == "train*.parquet"
    assert "with 40 training examples" in shown


def test_tabs_and_compression(tmp_path, proposed):
    write_csv(tmp_path / "a.tsv", {"text": TEXTS, "label": INTENTS}, separator="\t")
    assert proposed(tmp_path / "a.tsv")[0].task == "text"
    packed = tmp_path / "b.csv.gz"
    write_csv(tmp_path / "b.csv", {"text": TEXTS, "label": INTENTS})
    packed.write_bytes(gzip.compress((tmp_path / "b.csv").read_bytes()))
    config, _ = proposed(packed)
    assert config.data.train == "b.csv.gz"


def test_a_table_with_blanks_and_names(tmp_path, proposed):
    columns = {
        "Survived": [k % 2 for k in range(40)],
        "Name": [f"Doe, Mr. John {k}" for k in range(40)],
        "Sex": [("male", "female")[k % 2] for k in range(40)],
        "Age": ["" if k % 5 == 0 else k for k in range(40)],
        "Fare": [k / 3 for k in range(40)],
    }
    write_csv(tmp_path / "people.csv", columns)
    config, shown = proposed(tmp_path / "people.csv")
    assert (config.task, config.data.label_column) == ("features", "Survived")
    assert config.data.mixed_columns
    assert "blanks are filled in" in shown


def test_a_table_of_numbers(tmp_path, proposed):
    x = np.arange(40.0)
    columns = {"length": x, "width": x / 7, "species": INTENTS}
    write_csv(tmp_path / "flowers.csv", columns)
    config, _ = proposed(tmp_path / "flowers.csv")
    assert (config.task, config.data.label_column) == ("features", "species")
    assert not config.data.mixed_columns


def test_several_labels_and_tags(tmp_path, proposed):
    topics = [
        INTENTS[k] if k % 4 else f"{INTENTS[k]}|{INTENTS[k + 1]}" for k in range(39)
    ]
    write_csv(tmp_path / "topics.csv", {"comment": TEXTS[:39], "topics": topics})
    config, _ = proposed(tmp_path / "topics.csv")
    assert (config.task, config.loss.name) == ("multi_label", "multi_label_as_softmax")
    rows = [{"text": t, "labels": [i]} for t, i in zip(TEXTS, INTENTS, strict=True)]
    write_json_lines(tmp_path / "lists.jsonl", rows)
    assert proposed(tmp_path / "lists.jsonl")[0].task == "multi_label"
    rows = [
        {"tokens": text.split(), "ner_tags": ["O"] * 6 + ["B-PLACE", "I-PLACE"]}
        for text in TEXTS
    ]
    write_json_lines(tmp_path / "tags.jsonl", rows)
    config, _ = proposed(tmp_path / "tags.jsonl")
    assert (config.task, config.data.tags) == ("tokens", "bio")
    assert config.data.label_column == "ner_tags"
    rows = [row | {"ner_tags": ["O"] * 7 + ["PLACE"]} for row in rows]
    write_json_lines(tmp_path / "flat.jsonl", rows)
    assert proposed(tmp_path / "flat.jsonl")[0].data.tags == "flat"


@pytest.mark.parametrize("split", ["", "train/", "training/"])
def test_pictures_of_many_sizes_by_class(tmp_path, proposed, split):
    for k in range(20):
        file = tmp_path / "photos" / f"{split}{'cat' if k % 2 else 'dog'}" / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50 + k, 60 + k), (k, k, k)).save(file)
    config, shown = proposed(tmp_path / "photos")
    assert (config.task, config.data.source) == ("image", "folders")
    assert config.data.train == (split.rstrip("/") or ".")
    assert config.data.image_size == 48
    assert config.data.augment == ()
    assert "scaled to 48 x 48" in shown


def test_a_pretrained_encoder_decides_of_size_and_sample_rate(tmp_path, capsys):
    for k in range(20):
        for kind, ending in {"photos": "png", "sounds": "wav"}.items():
            name = f"{kind}/{'cat' if k % 2 else 'dog'}/{k}.{ending}"
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if kind == "photos":
                Image.new("RGB", (50 + k, 60 + k), (k, k, k)).save(file)
            else:
                soundfile.write(file, np.zeros(4000), 8000)
    for kind in ("photos", "sounds"):
        output = tmp_path / f"{kind}.py"
        flags = ["--output", str(output), "--pretrained", "some/encoder"]
        assert main([str(tmp_path / kind), *flags]) == 0, capsys.readouterr().err
        config = load(str(output), [])
        assert config.model.pretrained == "some/encoder"
        assert config.optimizer.learning_rate == 1e-4
        assert not config.training.group_by_length
        sizes = config.data.image_size, config.data.sample_rate
        assert sizes == (0, 16000)


def test_recordings_by_class(tmp_path, proposed):
    for k in range(20):
        file = tmp_path / "sounds" / ("low" if k % 2 else "high") / f"{k}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(file), "wb") as opened:
            opened.setnchannels(1)
            opened.setsampwidth(2)
            opened.setframerate(8000)
            opened.writeframes(np.zeros(4000 + 100 * k, np.int16).tobytes())
    config, _ = proposed(tmp_path / "sounds")
    assert config.task == "audio"
    assert (config.data.sample_rate, config.data.seconds) == (8000, 0.8)


def test_paths_in_a_table(tmp_path, proposed):
    paths = []
    for k in range(20):
        paths.append(f"{k}.png")
        Image.new("RGB", (32, 32), (k, k, k)).save(tmp_path / paths[-1])
    columns = {"file": paths, "label": INTENTS[:20]}
    write_csv(tmp_path / "photos.csv", columns)
    config, _ = proposed(tmp_path / "photos.csv")
    assert (config.task, config.data.input_column) == ("image", "file")
    assert config.data.image_size == 0


def test_what_the_user_says_holds(tmp_path, proposed):
    columns = {"a": TEXTS, "b": TEXTS, "kind": INTENTS, "label": INTENTS}
    write_csv(tmp_path / "x.csv", columns)
    config, _ = proposed(tmp_path / "x.csv", "--label", "kind", "--input", "b")
    assert (config.data.label_column, config.data.input_column) == ("kind", "b")
    assert config.task == "text"


@pytest.mark.parametrize(
    ("columns", "flags", "message"),
    [
        (None, [], "no such file or folder"),
        ({"text": TEXTS, "n": range(40)}, [], "which column is the label?"),
        ({"x": range(40), "y": [k / 7 for k in range(40)]}, [], "which is a quantity"),
        ({"text": TEXTS, "label": ["a"] * 40}, [], "`label` has one class alone"),
        ({"text": TEXTS, "label": INTENTS}, ["--label", "lable"], "no column `lable`"),
        ({"text": TEXTS, "label": INTENTS}, ["--task", "txt"], "`task`: no 'txt'"),
        (
            {"x": range(40), "label": INTENTS},
            ["--pretrained", "bert"],
            "features has no pretrained encoder",
        ),
    ],
)
def test_what_is_unclear_is_one_line_and_writes_nothing(
    tmp_path, capsys, columns, flags, message
):
    if columns is not None:
        write_csv(tmp_path / "x.csv", {k: list(v) for k, v in columns.items()})
    output = tmp_path / "found.py"
    assert main([str(tmp_path / "x.csv"), "--output", str(output), *flags]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not output.exists()


def test_folders_that_are_unclear_are_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for name in ("cats", "dogs"):
        write_csv(tmp_path / "two" / f"{name}.csv", {"text": TEXTS, "label": INTENTS})
    (tmp_path / "notes" / "a").mkdir(parents=True)
    (tmp_path / "notes" / "a" / "x.txt").write_text("x")
    for folder, message in (
        ("empty", "nothing that can be read"),
        ("two", "which of cats.csv, dogs.csv is the training data?"),
        ("notes", "its folders hold no pictures or recordings"),
    ):
        output = str(tmp_path / "found.py")
        assert main([str(tmp_path / folder), "--output", output]) == 2
        assert message in capsys.readouterr().err


def test_a_file_that_is_there_is_kept(tmp_path, capsys, monkeypatch):
    write_csv(tmp_path / "my data.csv", {"text": TEXTS, "label": INTENTS})
    monkeypatch.chdir(tmp_path)
    assert main(["my data.csv"]) == 0
    shown = capsys.readouterr().out
    assert "python -m train --config my_data.py --workdir runs/my_data" in shown
    kept = (tmp_path / "my_data.py").read_text()
    assert main(["my data.csv"]) == 2
    assert "my_data.py is there; name another file, or --force" in (
        capsys.readouterr().err
    )
    assert (tmp_path / "my_data.py").read_text() == kept
