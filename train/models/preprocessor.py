"""How an encoder has its pictures and recordings, as preprocessor_config.json says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, DataError
from .pretrained import PREPROCESSOR, read_text


class ImagePreprocessor(NamedTuple):
    """What becomes of a picture before an encoder sees it."""

    size: int  # of the square that it is scaled to
    mean: tuple[float, ...]  # of each channel, pixels in [0, 1]
    deviation: tuple[float, ...]


def read_image_preprocessor(folder: Path) -> ImagePreprocessor:
    """Returns how a folder's encoder has its pictures.

    Raises:
      DataError: the file is missing, or asks for what is not known here.
    """
    content, place = _read(folder)
    scaled = content.get("do_rescale", True) and content.get("rescale_factor", 1 / 255)
    if not scaled or abs(scaled * 255 - 1) > 1e-6:
        raise DataError(
            f"{place}: pixels are not scaled to [0, 1] (`do_rescale`, "
            "`rescale_factor`), which alone is known; take another encoder"
        )
    side = _side(content, place)
    if not content.get("do_normalize", True):
        return ImagePreprocessor(side, (0.0,) * 3, (1.0,) * 3)
    mean, deviation = (
        _channels(content, key, place) for key in ("image_mean", "image_std")
    )
    return ImagePreprocessor(side, mean, deviation)


def check_audio_preprocessor(folder: Path, sample_rate: int) -> None:
    """Refuses recordings that a folder's encoder does not hear as it should.

    Args:
      folder: of the encoder.
      sample_rate: of the recordings.

    Raises:
      DataError: the file is missing, or asks for what is not known here.
      ConfigError: the encoder hears another sample rate.
    """
    content, place = _read(folder)
    if not content.get("do_normalize", True):
        raise DataError(
            f"{place}: `do_normalize` is false, and waveforms of mean 0 and deviation "
            "1 alone are known; take another encoder"
        )
    rate = content.get("sampling_rate")
    if rate != sample_rate:
        raise ConfigError(
            f"`data.sample_rate`: {sample_rate}, and the encoder hears {rate} samples "
            f"a second; set it to {rate}"
        )


def _read(folder: Path) -> tuple[Mapping[str, Any], str]:
    """Returns the file's content, and where it is."""
    place = str(folder / PREPROCESSOR)
    try:
        content = json.loads(read_text(folder, PREPROCESSOR))
    except ValueError as error:
        raise DataError(f"{place}: not JSON; fetch the file again") from error
    if not isinstance(content, dict):
        raise DataError(f"{place}: not a JSON object; fetch the file again")
    return content, place


def _channels(content: Mapping[str, Any], key: str, place: str) -> tuple[float, ...]:
    values = content.get(key)
    if not isinstance(values, list) or len(values) != 3:
        raise DataError(f"{place}: `{key}` is {values!r}; it must be 3 numbers")
    return tuple(map(float, values))


def _side(content: Mapping[str, Any], place: str) -> int:
    """Returns the side of what is cut out, or else of what is scaled."""
    key = "crop_size" if content.get("do_center_crop") else "size"
    size = content.get(key)
    sides = set(size.values()) if isinstance(size, dict) else {size}
    side = sides.pop() if len(sides) == 1 else None
    if type(side) is not int or side < 1:
        raise DataError(
            f"{place}: `{key}` is {size!r}; it must be one whole number, as pictures "
            "are squares here; take another encoder"
        )
    return side
