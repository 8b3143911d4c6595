"""TFDS as a source, on real data sets in ArrayRecord that the tests prepare.

Nothing here has TensorFlow or a network. Without TensorFlow, TFDS prepares text,
labels, sequences and tensors, and images that come encoded; it cannot encode arrays of
pixels, nor make its class Audio at all, so audio is prepared as the tensor that TFDS
stores for it and its description on disk is then that of Audio.
"""

import contextlib
import dataclasses
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

from train import data
from train.config import DataConfig
from train.data import tfds as source
from train.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")

NUM_TRAIN, NUM_TEST = 23, 6
RATE = 8000
WORDS = ["turn", "the", "lamp"]
TAGS = ["O", "B-thing", "I-thing"]


def png(number):
    """A picture of one colour; every other one is a row higher."""
    pixels = np.full((4 + number % 2, 5, 3), number, np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="png")
    return content.getvalue()


def wav(number):
    content = io.BytesIO()
    samples = np.full(number + 1, number * 256, np.int16)
    soundfile.write(content, samples, RATE, format="WAV")
    return content.getvalue()


def example(number, hidden):
    """What the builder yields; the test split hides its labels."""
    return {
        "number": number,
        "text": f"Lampe Nr. {number}, bitte größer",
        "label": -1 if hidden else ["off", "on"][number % 2],
        "tokens": WORDS[: number % 4],
        "tags": TAGS[: number % 4],
        "counts": list(range(number % 3)),
        "vector": np.full(3, number / 2, np.float32),
        "image": png(number),
        "sound": np.full(number + 1, number * 256, np.int64),
        "wave": wav(number),
        "nested": {"words": [{"word": w, "size": len(w)} for w in WORDS]},
    }


class LittleRequests(tfds.core.GeneratorBasedBuilder):
    """A feature of each kind."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        kinds = tfds.features
        words = {"word": kinds.Text(), "size": np.int32}
        features = {
            "number": kinds.Scalar(dtype=np.int64),
            "text": kinds.Text(),
            "label": kinds.ClassLabel(names=["off", "on"]),
            "tokens": kinds.Sequence(kinds.Text()),
            "tags": kinds.Sequence(kinds.ClassLabel(names=TAGS)),
            "counts": kinds.Sequence(np.int64),
            "vector": kinds.Tensor(shape=(3,), dtype=np.float32),
            "image": kinds.Image(shape=(None, None, 3)),
            "sound": kinds.Tensor(shape=(None,), dtype=np.int64),
            "wave": kinds.Text(),
            "nested": {"words": kinds.Sequence(words)},
        }
        features = kinds.FeaturesDict(features)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(NUM_TRAIN, False),
            "test": self._generate_examples(NUM_TEST, True),
        }

    def _generate_examples(self, size, hidden):
        for number in range(size):
            yield number, example(number, hidden)


def describe_audio(folder):
    """Makes the description on disk call two of the features Audio."""
    path = folder / "little_requests" / "1.0.0" / "features.json"
    description = json.loads(path.read_text())
    features = description["featuresDict"]["features"]
    audio = {"shape": {"dimensions": ["-1"]}, "dtype": "int64", "sampleRate": str(RATE)}
    audio["encoding"] = "NONE"
    for name, lazy in [("sound", False), ("wave", True)]:
        features[name] = {
            "pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio",
            "audio": audio | {"lazyDecode": lazy},
        }
    path.write_text(json.dumps(description))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the data set is prepared."""
    path = tmp_path_factory.mktemp("tfds")
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        LittleRequests(data_dir=path, file_format="array_record").download_and_prepare()
    describe_audio(path)
    return path


@pytest.fixture
def config(folder):
    return DataConfig(
        source="tfds",
        name="little_requests",
        path=str(folder),
        train="train[:80%]",
        validation="train[80%:]",
        test="test",
    )


@pytest.fixture
def read(config):
    """Returns a function: the splits, with fields of the configuration replaced."""
    return lambda **fields: source.read(dataclasses.replace(config, **fields))


def expected_rows(records):
    return [
        example(number, records.split == "test") for number in records.columns["number"]
    ]


class TestColumns:
    def test_splits_are_the_parts_asked_for(self, read):
        splits = read()
        assert {split: len(records) for split, records in splits.items()} == {
            "train": round(0.8 * NUM_TRAIN),
            "validation": NUM_TRAIN - round(0.8 * NUM_TRAIN),
            "test": NUM_TEST,
        }
        numbers = [splits[split].columns["number"] for split in ("train", "validation")]
        assert set(np.concatenate(numbers)) == set(range(NUM_TRAIN))
        assert splits["train"].origin == "tfds little_requests/1.0.0 [train[:80%]]"

    def test_text_and_labels_are_strings(self, read):
        train = read()["train"]
        rows = expected_rows(train)
        assert train.columns["text"].tolist() == [row["text"] for row in rows]
        assert train.columns["label"].tolist() == [row["label"] for row in rows]

    def test_a_hidden_label_is_none(self, read):
        assert read()["test"].columns["label"].tolist() == [None] * NUM_TEST

    def test_sequences_are_lists(self, read):
        train = read()["train"]
        for name in ("tokens", "tags", "counts"):
            column = train.columns[name].tolist()
            assert column == [row[name] for row in expected_rows(train)]
            assert all(type(row) is list for row in column)
        assert {type(n) for row in train.columns["counts"] for n in row} == {int}

    def test_numbers_are_numpy_columns(self, read):
        train = read()["train"]
        numbers, vectors = train.columns["number"], train.columns["vector"]
        assert (numbers.dtype, numbers.shape) == (np.int64, (len(train),))
        assert (vectors.dtype, vectors.shape) == (np.float32, (len(train), 3))
        np.testing.assert_array_equal(vectors[:, 2], numbers / 2)

    def test_images_are_an_array_each(self, read):
        train = read()["train"]
        for number, image in zip(
            train.columns["number"], train.columns["image"], strict=True
        ):
            assert (image.dtype, image.shape) == (np.uint8, (4 + number % 2, 5, 3))
            assert (image == number).all()

    @pytest.mark.parametrize("name", ["sound", "wave"])
    def test_audio_is_samples_and_their_rate(self, read, name):
        train = read()["train"]
        for number, audio in zip(
            train.columns["number"], train.columns[name], strict=True
        ):
            assert audio["sampling_rate"] == RATE
            assert audio["array"].dtype == np.float32
            expected = np.full(number + 1, number / 128, np.float32)
            np.testing.assert_array_equal(audio["array"], expected)

    def test_nested_features_are_dictionaries_of_lists(self, read):
        words = {"word": WORDS, "size": [4, 3, 4]}
        assert (
            read()["test"].columns["nested"].tolist() == [{"words": words}] * NUM_TEST
        )

    def test_many_rows_are_read_in_pieces(self, read, monkeypatch):
        whole = read()["train"].columns["number"]
        monkeypatch.setattr(source, "_ROWS", 7)
        np.testing.assert_array_equal(read()["train"].columns["number"], whole)

    def test_only_what_is_named_is_decoded(self, read, monkeypatch):
        def refuse(*args):
            raise AssertionError("an image was decoded")

        monkeypatch.setattr(tfds.features.Image, "decode_example_np", refuse)
        columns = read(input_column="text")["train"].columns
        assert set(columns) == {"text", "label"}
        columns = read(feature_columns=("vector",), label_column="number")
        assert set(columns["train"].columns) == {"vector", "number"}
        with pytest.raises(DataError, match="an image was decoded"):
            read(input_column="image")

    @pytest.mark.parametrize("name", ["little_requests:1.0.0", "little_requests:1.*.*"])
    def test_a_version_may_be_named(self, read, name):
        assert len(read(name=name)["test"]) == NUM_TEST

    def test_the_trainer_reads_it_by_the_name_of_the_source(self, config):
        config = dataclasses.replace(
            config, train="train", validation="", validation_share=0.2, train_examples=9
        )
        splits = data.read(config)
        sizes = {split: len(records) for split, records in splits.items()}
        assert sizes == {"train": 9, "validation": 5, "test": NUM_TEST}


def test_reading_imports_no_tensorflow(config):
    """In a process of its own, where nothing else could have imported anything."""
    program = f"""
import sys
from train.config import DataConfig
from train.data import tfds
assert "tensorflow_datasets" not in sys.modules, "imported before it is asked for"
splits = tfds.read({config!r})
print(len(splits["train"]), "tensorflow" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert result.stdout.split() == [str(round(0.8 * NUM_TRAIN)), "False"], (
        result.stderr
    )


class TestRefusals:
    """One line each: what, where, and what to do."""

    @staticmethod
    def refusal(read, **fields):
        with pytest.raises(DataError) as caught:
            read(**fields)
        message = str(caught.value)
        assert "\n" not in message
        return message

    def test_no_package(self, read, monkeypatch):
        source._tfds.cache_clear()
        monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
        message = self.refusal(read)
        assert "pip install 'as_softmax_jax[tfds]'" in message

    def test_no_name(self, read):
        assert "--config.data.name=imdb_reviews" in self.refusal(read, name="")

    def test_an_unknown_name(self, read):
        message = self.refusal(read, name="imdb_revews/plain_text")
        assert "TFDS has no data set 'imdb_revews'; did you mean `imdb_reviews`" in (
            message
        )
        message = self.refusal(read, name="glu/sst2")
        assert "did you mean `glue`?" in message
        message = self.refusal(read, name="xqzzt")
        assert message.endswith("tensorflow.org/datasets/catalog/overview")

    def test_what_is_no_name(self, read):
        message = self.refusal(read, name="not a name!")
        assert "'not a name!'" in message
        assert "name, name/config or name/config:1.0.0" in message

    @pytest.mark.parametrize("name", ["glue/sst2", "goemotions", "cifar10:3.0.2"])
    def test_every_name_of_tfds_is_known(self, read, name):
        assert f"tfds '{name}': not prepared in " in self.refusal(read, name=name)

    def test_not_prepared(self, read, folder):
        message = self.refusal(read, name="imdb_reviews")
        assert f"tfds 'imdb_reviews': not prepared in {folder}; prepare it" in message
        command = (
            f"tfds.builder('imdb_reviews', data_dir='{folder}', "
            "file_format='array_record').download_and_prepare()"
        )
        assert command in message

    def test_another_version_is_prepared(self, read, folder):
        message = self.refusal(read, name="little_requests:2.0.0")
        assert f"not prepared in {folder}, which has its 1.0.0; " in message

    def test_without_a_folder_the_default_is_named(self, read, monkeypatch, tmp_path):
        constants = "tensorflow_datasets.core.constants.DATA_DIR"
        monkeypatch.setattr(constants, str(tmp_path))
        message = self.refusal(read, name="imdb_reviews", path="")
        assert f"not prepared in {tmp_path}; " in message
        assert "tfds.builder('imdb_reviews', file_format=" in message

    def test_the_command_of_the_refusal_prepares_it(self, read, tmp_path):
        message = self.refusal(read, path=str(tmp_path))
        command = message.split('python -c "')[1].removesuffix('"')
        with contextlib.redirect_stderr(io.StringIO()):
            exec(command, {})
        describe_audio(tmp_path)
        assert len(read(path=str(tmp_path))["test"]) == NUM_TEST

    def test_files_that_only_tensorflow_reads(self, read, folder, tmp_path):
        there = folder / "little_requests" / "1.0.0"
        here = tmp_path / "little_requests" / "1.0.0"
        here.mkdir(parents=True)
        for path in there.iterdir():
            content = path.read_bytes().replace(b"array_record", b"tfrecord")
            (here / path.name.replace("array_record", "tfrecord")).write_bytes(content)
        message = self.refusal(read, path=str(tmp_path))
        assert f"{here} is in the format tfrecord, which only TensorFlow" in message
        assert "file_format='array_record'" in message

    @pytest.mark.parametrize(
        "part", ["valid", "train[", "train[:5%]+dev", "train[99:]"]
    )
    def test_an_unknown_split(self, read, part):
        message = self.refusal(read, validation=part)
        assert f"[{part}]: no such split; it has `train`, `test`" in message
        assert "--config.data.validation" in message

    def test_an_empty_part(self, read):
        message = self.refusal(read, test="train[5:5]")
        assert "the test split is empty" in message

    def test_an_unknown_column(self, read):
        message = self.refusal(read, input_column="sentence")
        assert "no column `sentence`; it has `counts`, `image`, `label`" in message
        message = self.refusal(read, input_column="text", label_column="labels")
        assert "no column `labels`" in message

    def test_a_feature_that_only_tensorflow_reads(self, read, monkeypatch):
        def decode(*args):
            raise ModuleNotFoundError("No module named 'tensorflow'")

        monkeypatch.setattr(tfds.features.Image, "decode_example_np", decode)
        message = self.refusal(read)
        assert "row 1 cannot be decoded: TFDS reads one of its features with" in message
        assert "--config.data.input_column" in message

    def test_a_damaged_file(self, read, folder, tmp_path):
        there = folder / "little_requests" / "1.0.0"
        here = tmp_path / "little_requests" / "1.0.0"
        here.mkdir(parents=True)
        for path in there.iterdir():
            content = path.read_bytes()
            cut = path.name.startswith("little_requests-test")
            (here / path.name).write_bytes(
                content[: len(content) // 2 if cut else None]
            )
        message = self.refusal(read, path=str(tmp_path))
        assert "[test]: row 1 cannot be decoded: " in message
        assert "prepare the data set again" in message
