"""Images: decoded to arrays on the host; augmented and normalised on the device."""

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..config import nearest
from ..errors import ConfigError
from .media import CannotDecodeError

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
# A crop is moved by at most this share of the side.
_CROP_SHARE = 8


def decode_image(content: Any, *, channels: int, size: int = 0) -> np.ndarray:
    """Decodes one image, upright as its EXIF data say.

    Args:
      content: a file's bytes, whatever Pillow reads; or uint8 [height, width] or
        [height, width, channels].
      channels: 1 for grey, 3 for red, green and blue. What is transparent lets a white
        ground through: the colour that a file keeps under it is nobody's picture.
      size: the shorter side is scaled to it and the middle square cut out; 0: the
        image keeps its size.

    Returns:
      uint8 [height, width, channels].

    Raises:
      CannotDecodeError: broken, cut short, suspiciously large, or no image.
    """
    image = _eight_bits(_opened(content, size))
    image = _on_white(image).convert("L" if channels == 1 else "RGB")
    if size:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _on_white(image: Image.Image) -> Image.Image:
    """Returns an image with a white ground in the place of its transparency."""
    if not image.has_transparency_data:
        return image.convert("RGB") if image.mode == "P" else image
    if image.mode == "La":  # Pillow converts grey of premultiplied alpha to LA alone.
        image = image.convert("LA")
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image.convert("RGBA"))


def is_grey(content: Any) -> bool:
    """Returns whether an image has one channel, by its header alone.

    Args:
      content: as for `decode_image`; what is no image counts as grey.
    """
    try:
        image = _from_array(content) if _is_array(content) else _open(content)
    except CannotDecodeError:
        return True
    return image.mode in _GREY_MODES


def statistics(
    images: Iterable[np.ndarray],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the mean and the standard deviation of each channel.

    Args:
      images: at least one, [height, width, channels], of any size.

    Returns:
      Both in the images' own unit; a channel that never varies has deviation 1.
    """
    pixels, total, squares = 0, np.zeros(()), np.zeros(())
    for image in images:
        flat = image.reshape(-1, image.shape[-1]).astype(np.float64)
        pixels += len(flat)
        total, squares = total + flat.sum(0), squares + np.square(flat).sum(0)
    mean = total / pixels
    deviation = np.sqrt(np.maximum(squares / pixels - np.square(mean), 0.0))
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    return tuple(mean.tolist()), tuple(deviation.tolist())


def normalise(
    images: jax.Array,
    mean: Sequence[float],
    deviation: Sequence[float],
    dtype: jnp.dtype,
) -> jax.Array:
    """Returns `(images - mean) / deviation`, the first thing that a network does.

    On the device, for a uint8 image is a quarter of the bytes to send there.

    Args:
      images: [n, height, width, channels], of any dtype.
      mean: of each channel; empty: images are taken as they are.
      deviation: of each channel.
      dtype: of the result; the arithmetic is float32.
    """
    if not mean:
        return images.astype(dtype)
    shape = (1, 1, 1, len(mean))
    centred = images.astype(jnp.float32) - jnp.reshape(jnp.float32(mean), shape)
    return (centred / jnp.reshape(jnp.float32(deviation), shape)).astype(dtype)


def augment(images: jax.Array, key: jax.Array, names: Sequence[str]) -> jax.Array:
    """Changes each image of a training batch at random, each on its own.

    Args:
      images: [n, height, width, channels], of any dtype.
      key: of the step.
      names: `flip` mirrors every second image, left to right; `crop` moves an image
        by at most an eighth of its sides, and mirrors what is beyond its border.

    Returns:
      Images of the same shape and dtype.

    Raises:
      ConfigError: no such augmentation.
    """
    check_augmentations(names)
    for name, subkey in zip(names, jax.random.split(key, len(names)), strict=True):
        images = AUGMENTATIONS[name](images, subkey)
    return images


def check_augmentations(names: Sequence[str]) -> None:
    """Refuses an augmentation that there is not, and names the nearest.

    Raises:
      ConfigError: no such augmentation.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise ConfigError(
                f"`data.augment`: no {name!r}; {nearest(name, AUGMENTATIONS)}"
            )


def _flip(images: jax.Array, key: jax.Array) -> jax.Array:
    flipped = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def _crop(images: jax.Array, key: jax.Array) -> jax.Array:
    n, height, width, channels = images.shape
    down, right = height // _CROP_SHARE, width // _CROP_SHARE
    margins = ((0, 0), (down, down), (right, right), (0, 0))
    padded = jnp.pad(images, margins, mode="reflect")
    rows, columns = jax.random.split(key)
    starts = (
        jax.random.randint(rows, (n,), 0, 2 * down + 1),
        jax.random.randint(columns, (n,), 0, 2 * right + 1),
    )

    def cut(image: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
        size = (height, width, channels)
        return jax.lax.dynamic_slice(image, (row, column, jnp.zeros_like(row)), size)

    return jax.vmap(cut)(padded, *starts)


AUGMENTATIONS = {"flip": _flip, "crop": _crop}


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
        raise CannotDecodeError(str(error) or type(error).__name__) from error


def _open(content: Any) -> Image.Image:
    """Returns the image with its header read."""
    if not isinstance(content, bytes):
        raise CannotDecodeError(f"a {type(content).__name__} is no image")
    # Pillow's own lazy loading of formats is not safe under threads.
    Image.init()
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise CannotDecodeError("no image in a format that Pillow reads") from error
    except Exception as error:  # a decoder in a broken file may raise anything
        raise CannotDecodeError(str(error) or type(error).__name__) from error


def _is_array(content: Any) -> bool:
    return isinstance(content, np.ndarray)


def _from_array(array: np.ndarray) -> Image.Image:
    """Returns an image of uint8 [h, w] or [h, w, 1, 3 or 4]."""
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (grey or colour) or not math.prod(array.shape):
        raise CannotDecodeError(
            f"an array {array.dtype}{list(array.shape)} is no image; it must be uint8 "
            "[height, width] or [height, width, 1, 3 or 4]"
        )
    return Image.fromarray(array.reshape(array.shape[:2]) if grey else array)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Returns an image of 16 bits a pixel as 8 bits; Pillow would cut all to white."""
    if image.mode == "F":
        raise CannotDecodeError("pixels that are floats; store them as whole numbers")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if pixels.max(initial=0) > 0xFFFF or pixels.min(initial=0) < 0:
        raise CannotDecodeError("pixels that need more than 16 bits; scale them to 8")
    if 0 < pixels.max(initial=0) < 256:
        raise CannotDecodeError(
            "pixels of 16 bits or more, all below 256 and so as good as black; save "
            "them with 8 bits"
        )
    clear = image.info.get("transparency")  # the grey that stands for it
    pixels = np.where(pixels == clear, 0xFFFF, pixels)
    return Image.fromarray((pixels >> 8).astype(np.uint8))
