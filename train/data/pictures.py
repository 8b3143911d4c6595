"""Pictures decoded to arrays, by Pillow and NumPy alone.

`train.export` puts this file into the folders of models that read pictures, so that
they are read there as they were in training.
"""

import io
import math
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


class PictureError(Exception):
    """A picture that is not in order; the text says why."""


def decode_picture(content: Any, *, channels: int, size: int = 0) -> np.ndarray:
    """Decodes one picture, upright as its EXIF data say.

    Args:
      content: a file's bytes, whatever Pillow reads; or uint8 [height, width] or
        [height, width, channels].
      channels: 1 for grey, 3 for red, green and blue. What is transparent lets a white
        ground through: the colour that a file keeps under it is nobody's picture.
      size: the shorter side is scaled to it and the middle square cut out; 0: the
        picture keeps its size.

    Returns:
      uint8 [height, width, channels].

    Raises:
      PictureError: broken, cut short, suspiciously large, or no picture.
    """
    image = _eight_bits(_opened(content, size))
    image = _on_white(image).convert("L" if channels == 1 else "RGB")
    if size:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, channels)


def mode(content: Any) -> str:
    """Returns Pillow's name of a picture's pixels, by its header alone.

    Args:
      content: as for `decode_picture`.

    Raises:
      PictureError: it is no picture.
    """
    return (_from_array(content) if _is_array(content) else _open(content)).mode


def _on_white(image: Image.Image) -> Image.Image:
    """Returns an image with a white ground in the place of its transparency."""
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode == "P" else image
    if image.mode == "La":  # Pillow converts grey of premultiplied alpha to LA alone.
        image = image.convert("LA")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image.convert("RGBA"))


def _opened(content: Any, size: int) -> Image.Image:
    """Returns the image with its pixels read, upright."""
    if _is_array(content):
        return _from_array(content)
    image = _open(content)
    try:
        if size:
            # A JPEG is decoded at a fraction of its size where that is enough.
            image.draft("", (2 * size, 2 * size))
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # a decoder in a broken file may raise anything
        raise PictureError(str(error) or type(error).__name__) from error


def _open(content: Any) -> Image.Image:
    """Returns the image with its header read."""
    if not isinstance(content, bytes):
        raise PictureError(f"a {type(content).__name__} is no image")
    # Pillow's own lazy loading of formats is not safe under threads.
    Image.init()
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise PictureError("no image in a format that Pillow reads") from error
    except Exception as error:  # a decoder in a broken file may raise anything
        raise PictureError(str(error) or type(error).__name__) from error


def _is_array(content: Any) -> bool:
    return isinstance(content, np.ndarray)


def _from_array(array: np.ndarray) -> Image.Image:
    """Returns an image of uint8 [h, w] or [h, w, 1, 3 or 4]."""
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour) or not math.prod(array.shape):
        raise PictureError(
            f"an array {array.dtype}{list(array.shape)} is no image; it must be uint8 "
            "[height, width] or [height, width, 1, 3 or 4]"
        )
    return Image.fromarray(array.reshape(array.shape[:2]) if grey else array)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns an image of 16 bits a pixel as 8 bits; Pillow would cut all to white."""
    if image.mode == "F":
        raise PictureError("pixels that are floats; store them as whole numbers")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if pixels.max(initial=0) > 0xFFFF or pixels.min(initial=0) < 0:
        raise PictureError("pixels that need more than 16 bits; scale them to 8")
    if 0 < pixels.max(initial=0) < 256:
        raise PictureError(
            "pixels of 16 bits or more, all below 256 and so as good as black; save "
            "them with 8 bits"
        )
    clear = image.info.get("transparency")  # the grey that stands for it
    pixels = np.where(pixels == clear, 0xFFFF, pixels)
    return Image.fromarray((pixels >> 8).astype(np.uint8))
