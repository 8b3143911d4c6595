"""What an exported folder must know to read its inputs, by the kind of codec."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import pictures
from ..data.tokenizer import word_writing
from ..tasks import cells
from ..tasks.audio import AudioCodec
from ..tasks.features import FeatureCodec
from ..tasks.image import ImageCodec
from ..tasks.task import Codec
from ..tasks.text import TextCodec
from ..tasks.tokens import TokenCodec

_FOLDER = Path(__file__).parent / "folder"


class Reading(NamedTuple):
    """How inputs are read: code, constants, and what it takes."""

    code: tuple[Path, ...]  # files of the package; the first is what encodes
    files: dict[str, str]  # name in the folder -> content
    options: dict[str, Any]  # of model.json
    dtype: np.dtype  # of the program's input
    packages: tuple[str, ...]  # beside those that run the program
    inputs: str  # what they are, in words
    example: str  # two of them, as Python writes them


def reading(codec: Codec) -> Reading:
    """Returns how a run's inputs are read without the trainer."""
    if isinstance(codec, TextCodec):
        return _of_text(codec)
    if isinstance(codec, ImageCodec):
        return _of_images(codec)
    if isinstance(codec, AudioCodec):
        return _of_audio(codec)
    assert isinstance(codec, FeatureCodec), "there are no other codecs"
    return _of_tables(codec)


def _of_text(codec: TextCodec) -> Reading:
    words = isinstance(codec, TokenCodec)
    space, unknown = word_writing(codec.tokenizer)
    return Reading(
        code=(_FOLDER / "read_text.py",),
        files={"tokenizer.json": codec.files()["tokenizer.json"]},
        options={
            "max_length": codec.max_length,
            "words": words,
            "space": space,
            "unknown": unknown,
        },
        dtype=np.dtype(np.int32),
        packages=("tokenizers",),
        inputs=f"{'lists of words' if words else 'texts'}, of which the first "
        f"{codec.max_length} tokens are read",
        example='["a", "text"], ["another"]' if words else '"a text", "another text"',
    )


def _of_images(codec: ImageCodec) -> Reading:
    height, width, channels = codec.shape
    colours = "grey" if channels == 1 else "colour"
    scaled = " (others are scaled and cut to that)" if codec.size else ""
    return Reading(
        code=(_FOLDER / "read_image.py", Path(pictures.__file__)),
        files={},
        options={"shape": codec.shape, "dtype": codec.dtype, "size": codec.size},
        dtype=np.dtype(codec.dtype),
        packages=("pillow",),
        inputs=f"pictures in {colours} of {width} x {height} pixels{scaled}: paths, "
        "the bytes of files, or arrays",
        example='"one.png", "two.png"',
    )


def _of_audio(codec: AudioCodec) -> Reading:
    (samples,) = codec.spec(1).shape
    return Reading(
        code=(_FOLDER / "read_audio.py",),
        files={},
        options={"sample_rate": codec.sample_rate, "samples": samples},
        dtype=np.dtype(np.float32),
        packages=("soundfile",),
        inputs=f"recordings, of which the first {codec.seconds:g} s are heard: paths, "
        "the bytes of files (WAV, FLAC, OGG, MP3 of constant rate), or arrays of floats"
        f" of {codec.sample_rate:,} samples a second, which need no soundfile",
        example='"one.wav", "two.wav"',
    )


def _of_tables(codec: FeatureCodec) -> Reading:
    names = ", ".join(f"`{column.name}`" for column in codec.table)
    return Reading(
        code=(_FOLDER / "read_table.py", Path(cells.__file__)),
        files={},
        options={
            "columns": [dataclasses.asdict(column) for column in codec.table],
            "mean": codec.mean.tolist(),
            "deviation": codec.deviation.tolist(),
        },
        dtype=np.dtype(np.float32),
        packages=(),
        inputs=f"rows of a table, dicts by column: {names}",
        example=str(_some_row(codec)),
    )


def _some_row(codec: FeatureCodec) -> dict[str, Any]:
    """Returns a row as they are: the mean of training, or the first category."""
    row, place = {}, 0
    for column in codec.table:
        mean = float(f"{codec.mean[place]:.4g}")
        row[column.name] = column.categories[0] if column.categories else mean
        place += len(column.names)
    return row
