"""Inputs in JSON become what codecs take, or are refused with a reason."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from train.serving.inputs import MOST_CHARACTERS, InputError, kind_of
from train.tasks.audio import AudioCodec
from train.tasks.cells import Column
from train.tasks.features import FeatureCodec
from train.tasks.image import ImageCodec
from train.tasks.text import TextCodec
from train.tasks.tokens import TokenCodec

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def picture(dtype="uint8"):
    return ImageCodec("image", 0, "refuse", (4, 4, 3), dtype, (), ())


def png():
    content = io.BytesIO()
    Image.fromarray(PIXELS).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


_LONGEST = ("text", "a" * MOST_CHARACTERS, "a" * MOST_CHARACTERS)
CODECS = {
    "text": TextCodec("text", 8, None, None),
    "tokens": TokenCodec("tokens", 8, None, None),
    "table": FeatureCodec((Column("x"), Column("y")), np.zeros(2), np.ones(2)),
    "image": picture(),
    "floats": picture("float32"),
    "audio": AudioCodec("audio", 8000, 1.0, "refuse"),
}


@pytest.mark.parametrize(
    ("codec", "given", "taken"),
    [
        ("text", "off", "off"),
        ("text", {"text": "off"}, "off"),
        pytest.param(*_LONGEST, id="longest"),
        ("tokens", ["turn", "off"], ["turn", "off"]),
        ("table", {"x": 1, "y": None}, {"x": 1, "y": None}),
        ("table", {"x": "1e3", "y": True}, {"x": "1e3", "y": True}),
    ],
)
def test_what_is_taken(codec, given, taken):
    assert kind_of(CODECS[codec]).read(given) == taken


@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
def test_a_picture_is_a_file_in_base64(before):
    content = kind_of(CODECS["image"]).read(before + png())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), PIXELS)


def test_pictures_and_recordings_may_be_numbers():
    pixels = kind_of(CODECS["image"]).read({"image": PIXELS.tolist()})
    np.testing.assert_array_equal(pixels, PIXELS, strict=True)
    floats = kind_of(CODECS["floats"]).read((PIXELS / 255).tolist())
    np.testing.assert_array_equal(floats, (PIXELS / 255).astype(np.float32))
    samples = kind_of(CODECS["audio"]).read([0, 0.5, -0.5])
    np.testing.assert_array_equal(samples, np.float32([0, 0.5, -0.5]), strict=True)


@pytest.mark.parametrize(
    ("codec", "given", "words"),
    [
        pytest.param("text", "a" * 65_537, "65,537 characters", id="a long text"),
        pytest.param("tokens", ["a"] * 32_769, "65,538 characters", id="many words"),
        ("tokens", "turn off", "must be a list of words; got a text"),
        ("tokens", ["turn", 3], "must be a list of words"),
        ("table", [1, 2], "must be an object with 'x', 'y'; got a list"),
        ("table", {"x": 1}, "it lacks 'y'; it must have 'x', 'y'"),
        ("table", {"x": 1, "y": 2, "z": 3}, "it has 'z'"),
        ("table", {"x": [1], "y": 2}, "'x' must be a number, a text or null"),
        ("image", 7, "a file in base64 or lists of numbers; got a number, 7"),
        ("image", "", "got an empty file"),
        ("image", "/etc/hostname.txt", "this text is none"),
        ("image", [[1, 2], [3]], "no array of a picture"),
        ("image", [[0, 256]], "whole numbers from 0 to 255"),
        ("image", [[0.5, 1]], "whole numbers from 0 to 255"),
        ("audio", {"path": "x.wav"}, "it lacks 'audio'"),
        ("audio", ["a"], "no array of a recording"),
        ("audio", True, "got a boolean, True"),
    ],
)
def test_what_is_refused(codec, given, words):
    with pytest.raises(InputError, match=words):
        kind_of(CODECS[codec]).read(given)


def test_a_path_is_never_read(tmp_path):
    """Also where it happens to be base64, as one of letters and slashes may."""
    file = tmp_path / "photo.png"
    file.write_bytes(base64.b64decode(png()))
    with pytest.raises(InputError):
        kind_of(CODECS["image"]).read(str(file))
    assert isinstance(kind_of(CODECS["image"]).read("/etc/passwd1"), bytes)
