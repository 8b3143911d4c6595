"""Images: decoded to arrays on the host; augmented and normalised on the device."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..config import nearest
from ..errors import ConfigError
from .media import CannotDecodeError
from .pictures import GREY_MODES, PictureError, decode_picture, mode

# A crop is moved by at most this share of the side.
_CROP_SHARE = 8


def decode_image(content: Any, *, channels: int, size: int = 0) -> np.ndarray:
    """Decodes one image; see `decode_picture`.

    Raises:
      CannotDecodeError: broken, cut short, suspiciously large, or no image.
    """
    try:
        return decode_picture(content, channels=channels, size=size)
    except PictureError as error:
        raise CannotDecodeError(str(error)) from error


def is_grey(content: Any) -> bool:
    """Returns whether an image has one channel, by its header alone.

    Args:
      content: as for `decode_image`; what is no image counts as grey.
    """
    try:
        return mode(content) in GREY_MODES
    except PictureError:
        return True


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
