"""Images as a task's input: fitted, kept, loaded, encoded, refused."""

import dataclasses
import io
import itertools
import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from train.config import Config, DataConfig, ModelConfig
from train.data import digits, folders
from train.data.images import normalise
from train.data.records import Records
from train.errors import ConfigError, DataError
from train.tasks.image import ImageCodec

GOLDEN = Path(__file__).parents[1] / "models" / "golden"


def picture(height, width, channels, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def records(images, column="image", origin="some.parquet"):
    values = np.empty(len(images), object)
    for row, image in enumerate(images):
        values[row] = image
    return Records("train", str(origin), {column: values})


def config(**fields):
    return Config(task="image", data=DataConfig(**fields))


def test_files_arrays_and_structs_are_the_same_images(tmp_path):
    pictures = [picture(6, 6, 3, seed) for seed in range(4)]
    for number, pixels in enumerate(pictures):
        (tmp_path / f"{number}.png").write_bytes(png(pixels))
    columns = [
        records([png(pixels) for pixels in pictures]),
        records([{"bytes": png(pixels), "path": None} for pixels in pictures]),
        records([f"{number}.png" for number in range(4)], origin=tmp_path),
        records(pictures),
        Records("train", "tfds", {"image": np.stack(pictures)}),
    ]
    for train in columns:
        codec = ImageCodec.fit(config(), train)
        encoded = codec.encode(train)
        assert encoded.kept is None
        np.testing.assert_array_equal(encoded.inputs, np.stack(pictures), strict=True)


def test_statistics_are_those_of_the_training_images_as_encoded():
    train = records([png(picture(9, 12, 3, seed)) for seed in range(3)])
    codec = ImageCodec.fit(config(image_size=8), train)
    images = codec.encode(train).inputs
    assert images.shape == (3, 8, 8, 3)
    np.testing.assert_allclose(codec.mean, images.mean((0, 1, 2)))
    np.testing.assert_allclose(codec.deviation, images.std((0, 1, 2)))
    spec = codec.spec(7)
    assert (spec.shape, spec.num_classes) == ((8, 8, 3), 7)
    assert (spec.mean, spec.deviation) == (codec.mean, codec.deviation)


def test_statistics_of_many_images_are_those_of_images_spread_over_all(monkeypatch):
    monkeypatch.setattr("train.tasks.image._STATISTICS_IMAGES", 3)
    train = records([np.full((2, 2), value, np.uint8) for value in range(101)])
    codec = ImageCodec.fit(config(), train)
    assert codec.mean == ((0 + 50 + 100) / 3,)


def test_images_are_grey_where_all_training_images_are():
    grey, colour = png(picture(4, 4, 1)), png(picture(4, 4, 3))
    codec = ImageCodec.fit(config(), records([grey, grey]))
    assert codec.encode(records([grey, colour])).inputs.shape == (2, 4, 4, 1)
    codec = ImageCodec.fit(config(), records([grey, colour]))
    assert codec.encode(records([grey, grey])).inputs.shape == (2, 4, 4, 3)


@pytest.mark.parametrize("size", [0, 4])
def test_a_loaded_codec_is_the_fitted_one(tmp_path, size):
    options = config(image_size=size, bad_files="skip", input_column="picture")
    train = records([png(picture(4, 4, 3, seed)) for seed in range(3)], "picture")
    codec = ImageCodec.fit(options, train)
    for name, content in codec.files().items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert ImageCodec.load(options, tmp_path) == codec
    assert hash(codec.spec(3)) == hash(ImageCodec.load(options, tmp_path).spec(3))


def test_digits_stay_the_floats_that_they_are():
    splits = digits.read(DataConfig())
    codec = ImageCodec.fit(config(), splits["train"])
    images = codec.encode(splits["test"]).inputs
    expected = splits["test"].columns["image"]
    np.testing.assert_array_equal(images, expected, strict=True)
    # About a third of the ink is there.
    assert 0.25 < codec.mean[0] < 0.35
    normalised = normalise(
        jnp.array(images), codec.mean, codec.deviation, jnp.dtype("float32")
    )
    assert abs(normalised.mean()) < 0.05
    assert abs(normalised.std() - 1) < 0.05


def test_a_network_for_floats_takes_files_too():
    train = records(list(np.zeros((2, 4, 4, 1), np.float32)))
    codec = ImageCodec.fit(config(), train)
    pixels = picture(4, 4, 1)
    images = codec.encode(records([png(pixels)])).inputs
    expected = (pixels[None, ..., None] / 255).astype(np.float32)
    np.testing.assert_array_equal(images, expected, strict=True)


def test_floats_that_are_no_image_are_refused():
    train = records(list(np.zeros((2, 4, 4, 1))))
    codec = ImageCodec.fit(config(), train)
    for bad in (np.full((4, 4, 1), np.nan), np.zeros((4, 4))):
        with pytest.raises(DataError, match=r"the first in row 2: an array of \[4, 4"):
            codec.encode(records([np.zeros((4, 4, 1)), bad]))
    with pytest.raises(ConfigError, match=r"`data.image_size`: .* 4 x 4 .*to 0"):
        ImageCodec.fit(config(image_size=8), train)


def test_broken_images_are_refused_or_left_out():
    good = [png(picture(4, 4, 3, seed)) for seed in range(3)]
    train = records([good[0][:40], good[0], good[1][:50], good[2]])
    with pytest.raises(DataError, match=r"2 of 4 files .*the first in row 1: .*skip"):
        ImageCodec.fit(config(), train).encode(train)
    encoded = ImageCodec.fit(config(bad_files="skip"), train).encode(train)
    np.testing.assert_array_equal(encoded.kept, [1, 3])
    expected = ImageCodec.fit(config(), records(good)).encode(records(good)).inputs
    np.testing.assert_array_equal(encoded.inputs, expected[[0, 2]])


@pytest.mark.parametrize("bad_files", ["refuse", "skip"])
def test_a_column_without_an_image_is_refused(bad_files):
    train = records([b"no image", b"nor this"])
    with pytest.raises(DataError, match=r"none of 2 files in column `image`"):
        ImageCodec.fit(config(bad_files=bad_files), train)


@pytest.mark.parametrize("bad_files", ["refuse", "skip"])
def test_images_of_several_sizes_need_a_size(bad_files):
    train = records([png(picture(8, 6, 3)), png(picture(6, 8, 3))])
    codec = ImageCodec.fit(config(bad_files=bad_files), train)
    with pytest.raises(
        DataError,
        match=r"^some.parquet: row 2: 8 x 6 pixels, where the first .* 6 x 8 pixels; "
        r".*--config.data.image_size=6$",
    ):
        codec.encode(train)
    codec = ImageCodec.fit(config(image_size=6), train)
    assert codec.encode(train).inputs.shape == (2, 6, 6, 3)


def test_refuses_an_unknown_augmentation():
    train = records([picture(4, 4, 3)])
    with pytest.raises(ConfigError, match=r"`data.augment`: no 'flipp'; .*`flip`"):
        ImageCodec.fit(config(augment=("crop", "flipp")), train)


def test_refuses_a_column_that_is_not_there():
    with pytest.raises(DataError, match=r"no column `photo`; it has `image`"):
        ImageCodec.fit(config(input_column="photo"), records([picture(4, 4, 3)]))


def test_class_folders_are_read_to_the_end(tmp_path):
    for split, name in itertools.product(("train", "validation"), ("cat", "dog")):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        Image.fromarray(picture(4, 5, 3)).save(folder / "1.jpg")
    data = DataConfig(source="folders", path=str(tmp_path), image_size=4)
    splits = folders.read(data)
    codec = ImageCodec.fit(dataclasses.replace(config(), data=data), splits["train"])
    assert codec.encode(splits["validation"]).inputs.shape == (2, 4, 4, 3)
    (tmp_path / "validation" / "dog" / "1.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"validation: 1 of 2 files .* first in dog/1.jpg, row 2: no im"
    ):
        codec.encode(splits["validation"])


@pytest.mark.parametrize("value", [1e300, 1e30, np.inf, np.nan])
def test_floats_that_float32_cannot_hold_are_refused_or_left_out(value):
    arrays = [np.ones((4, 4, 1)) * size for size in (0.0, value, 1.0)]
    train = records(arrays)
    with pytest.raises(DataError, match=r"1 of 3 files cannot be decoded.* row 2: "):
        ImageCodec.fit(config(), train).encode(train)
    codec = ImageCodec.fit(config(bad_files="skip"), train)
    assert codec.encode(train).kept.tolist() == [0, 2]
    assert codec.mean == (0.5,)


@pytest.fixture
def pretrained(tmp_path):
    """Returns a function: the folder of a small encoder of images."""

    def copy(family, size=8):
        folder = Path(shutil.copytree(GOLDEN / family, tmp_path / family))
        content = {"size": size, "image_mean": [0.5, 0.4, 0.2], "image_std": [0.5] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(content))
        return folder

    return copy


def encoded(folder, **fields):
    return dataclasses.replace(
        config(**fields), model=ModelConfig(pretrained=str(folder))
    )


def test_a_pretrained_encoder_decides_size_mean_and_deviation(pretrained, tmp_path):
    folder = pretrained("vit")
    train = records([png(picture(9, 12, 1)), png(picture(20, 10, 3))])
    codec = ImageCodec.fit(encoded(folder), train)
    # In bytes, where the file has them for pixels in [0, 1].
    assert codec.mean == pytest.approx((127.5, 102.0, 51.0))
    assert codec.deviation == (127.5,) * 3
    # What is grey has three channels, too.
    assert codec.encode(train).inputs.shape == (2, 8, 8, 3)
    spec = codec.spec(4)
    assert (spec.shape, spec.encoder.model_type) == ((8, 8, 3), "vit")
    for name, text in codec.files().items():
        (tmp_path / name).write_text(text)
    shutil.rmtree(folder)
    assert ImageCodec.load(encoded(folder), tmp_path) == codec


def test_floats_have_the_encoder_s_mean_as_it_is(pretrained):
    train = records([np.ones((8, 8, 3), np.float32)])
    codec = ImageCodec.fit(encoded(pretrained("vit")), train)
    assert (codec.dtype, codec.mean) == ("float32", (0.5, 0.4, 0.2))


def test_floats_of_another_shape_than_the_encoder_s_are_refused(pretrained):
    train = records([np.ones((8, 6, 1), np.float32)])
    with pytest.raises(ConfigError, match=r"6 x 8 pixels of 1 channels, .* 8 x 8 "):
        ImageCodec.fit(encoded(pretrained("vit")), train)


def test_another_size_may_be_asked_for(pretrained):
    train = records([png(picture(20, 20, 3))])
    codec = ImageCodec.fit(encoded(pretrained("convnext"), image_size=16), train)
    assert codec.encode(train).inputs.shape == (1, 16, 16, 3)
