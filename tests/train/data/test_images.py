"""Decoding images, their statistics, and the augmentation of batches."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from train.data.images import (
    augment,
    decode_image,
    is_grey,
    normalise,
    statistics,
)
from train.data.media import CannotDecodeError
from train.data.pictures import _on_white
from train.errors import ConfigError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encode(image, kind="PNG", **options):
    """Returns a picture, or an array as one, as the bytes of a file."""
    file = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(file, kind, **options)
    return file.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_lossless_file_gives_its_pixels(kind, channels):
    pixels = noise(5, 7, channels)
    content = encode(pixels[..., 0] if channels == 1 else pixels, kind)
    np.testing.assert_array_equal(decode_image(content, channels=channels), pixels)


def test_a_jpeg_gives_nearly_its_pixels():
    pixels = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    decoded = decode_image(encode(pixels, "JPEG", quality=95), channels=3)
    assert decoded.shape == pixels.shape
    assert np.abs(decoded.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_an_array_is_an_image(shape):
    pixels = noise(*shape)
    channels = 1 if shape[2:] in ((), (1,)) else 3
    decoded = decode_image(pixels, channels=channels)
    np.testing.assert_array_equal(
        decoded, pixels.reshape(4, 6, -1)[..., :channels], strict=True
    )


def test_grey_becomes_colour_and_colour_grey():
    grey = decode_image(np.full((2, 2), 9, np.uint8), channels=3)
    np.testing.assert_array_equal(grey, np.full((2, 2, 3), 9))
    colour = decode_image(np.full((2, 2, 3), GREEN, np.uint8), channels=1)
    # Pillow weighs red, green and blue by ITU-R 601.
    np.testing.assert_array_equal(colour, np.full((2, 2, 1), round(0.587 * 255)))


def square(mode, hidden):
    """A black square on a transparent ground, under which a colour is hidden."""
    image = Image.new("RGBA", (8, 8), (hidden, hidden, hidden, 0))
    image.paste((0, 0, 0, 255), (2, 2, 6, 6))
    return image.convert(mode)


BLACK = (0, 0, 0)
SQUARE = np.full((8, 8, 3), 255)
SQUARE[2:6, 2:6] = 0


@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "WEBP", "an array"])
def test_what_is_transparent_lets_white_through(kind, channels, hidden):
    image = square("LA" if kind == "LA" else "RGBA", hidden)
    content = {
        "palette": lambda: encode(image.quantize(4)),
        "WEBP": lambda: encode(image, "WEBP", lossless=True),
        "an array": lambda: np.asarray(image),
    }.get(kind, lambda: encode(image))()
    decoded = decode_image(content, channels=channels)
    np.testing.assert_array_equal(decoded, SQUARE[..., :channels])


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_alpha_is_alpha(mode):
    image = square("LA" if mode == "La" else "RGBA", 0).convert(mode)
    np.testing.assert_array_equal(_on_white(image).convert("RGB"), SQUARE)


def test_what_is_half_transparent_is_mixed_with_white():
    image = Image.new("P", (2, 2))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    content = encode(image, transparency=b"\x80\xff")
    mixed = (255, 127, 127)
    decoded = decode_image(content, channels=3)
    np.testing.assert_array_equal(decoded, [[mixed, BLUE], [mixed, mixed]])


@pytest.mark.parametrize(
    ("image", "transparency", "expected"),
    [
        (Image.new("RGB", (1, 1), BLACK), (0, 0, 0), 255),
        (Image.new("RGB", (1, 1), BLACK), (9, 0, 0), 0),
        (Image.new("L", (1, 1), 0), 0, 255),
        (Image.new("1", (1, 1), 0), 0, 255),
        (Image.new("I;16", (1, 1), 256), 256, 255),
        (Image.new("I;16", (1, 1), 256), 512, 1),
        (Image.new("P", (1, 1), 0), 0, 255),
    ],
)
def test_a_colour_that_stands_for_transparency_is_white(image, transparency, expected):
    content = encode(image, transparency=transparency)
    decoded = decode_image(content, channels=1)
    assert decoded.ravel().tolist() == [expected]


def test_sixteen_bits_become_eight():
    deep = np.array([[0, 256, 256 * 128, 65535]], np.uint16)
    decoded = decode_image(encode(Image.fromarray(deep)), channels=1)
    np.testing.assert_array_equal(decoded[..., 0], [[0, 1, 128, 255]])


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.full((2, 2), 200, np.uint16), "all below 256"),
        (np.full((2, 2), 70_000, np.int32), "more than 16 bits"),
        (np.full((2, 2), -1, np.int32), "more than 16 bits"),
    ],
)
def test_deep_pixels_that_would_be_lost_cannot_be_decoded(pixels, words):
    with pytest.raises(CannotDecodeError, match=words):
        decode_image(encode(pixels, "TIFF"), channels=1)


def test_the_image_is_turned_upright():
    turned = Image.new("RGB", (2, 1))
    turned.putdata([RED, BLUE])
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned right by 90 degrees
    decoded = decode_image(encode(turned, exif=exif), channels=3)
    np.testing.assert_array_equal(decoded, [[RED], [BLUE]])


@pytest.mark.parametrize("size", [8, 16, 32])
def test_the_middle_square_is_scaled_to_the_size(size):
    # Green, red and blue stripes, the middle one a square.
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :8], pixels[:, 8:24], pixels[:, 24:] = GREEN, RED, BLUE
    for turned in (pixels, pixels.transpose(1, 0, 2)):
        decoded = decode_image(encode(turned), channels=3, size=size)
        assert decoded.shape == (size, size, 3)
        # The filter mixes in a part of what is beside the square, at its border.
        inside = decoded[1:-1, 1:-1]
        np.testing.assert_array_equal(inside, np.full(inside.shape, RED))


def test_a_large_jpeg_is_scaled_as_a_png_is():
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    pixels = np.broadcast_to(ramp[:, None], (640, 800)).copy()
    jpeg = decode_image(encode(pixels, "JPEG", quality=95), channels=1, size=20)
    png = decode_image(encode(pixels), channels=1, size=20)
    assert jpeg.shape == (20, 20, 1)
    assert np.abs(jpeg.astype(int) - png).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_file_cut_short_cannot_be_decoded(kind):
    content = encode(noise(32, 32, 3), kind)
    decode_image(content, channels=3)
    for length in (len(content) // 2, 20, 0):
        with pytest.raises(CannotDecodeError):
            decode_image(content[:length], channels=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no image", "no image in a format that Pillow reads"),
        ({"array": np.zeros(3)}, "a dict is no image"),
        (np.zeros((4, 4)), r"an array float64\[4, 4\] is no image; .*uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"uint8\[4, 4, 2\]"),
        (np.zeros((0, 4), np.uint8), r"uint8\[0, 4\]"),
    ],
)
def test_what_is_no_image_cannot_be_decoded(content, message):
    with pytest.raises(CannotDecodeError, match=message):
        decode_image(content, channels=3)


def test_floats_in_a_file_cannot_be_decoded():
    content = encode(Image.new("F", (2, 2)), "TIFF")
    with pytest.raises(CannotDecodeError, match="floats"):
        decode_image(content, channels=1)


def test_a_decompression_bomb_cannot_be_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(CannotDecodeError, match="decompression bomb"):
        decode_image(encode(noise(20, 20)), channels=1)


@pytest.mark.parametrize(
    ("content", "grey"),
    [
        (encode(noise(2, 2)), True),
        (encode(noise(2, 2), "JPEG"), True),
        (encode(noise(2, 2, 3), "JPEG"), False),
        (encode(Image.new("I;16", (2, 2))), True),
        (encode(Image.new("P", (2, 2))), False),
        (noise(2, 2), True),
        (noise(2, 2, 1), True),
        (noise(2, 2, 3), False),
        (b"broken, so it does not make the others colour", True),
    ],
)
def test_an_image_is_grey_by_its_header(content, grey):
    assert is_grey(content) == grey


def test_statistics_are_those_of_all_pixels():
    images = [noise(3, 4, 3), 255 - noise(5, 2, 3)]
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    mean, deviation = statistics(images)
    np.testing.assert_allclose(mean, pixels.mean(axis=0))
    np.testing.assert_allclose(deviation, pixels.std(axis=0))


def test_a_channel_that_never_varies_has_deviation_one():
    assert statistics([np.full((2, 2, 1), 7, np.uint8)]) == ((7.0,), (1.0,))


def test_normalised_images_have_mean_zero_and_deviation_one():
    images = noise(4, 5, 6, 3)
    normalised = normalise(images, *statistics(images), jnp.dtype("float32"))
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), np.ones(3), rtol=1e-6)
    half = normalise(images, *statistics(images), jnp.dtype("bfloat16"))
    np.testing.assert_array_equal(half, normalised.astype("bfloat16"))


def test_without_a_mean_images_stay_as_they_are():
    images = noise(1, 2, 2, 1)
    same = normalise(jnp.array(images), (), (), jnp.dtype("float32"))
    np.testing.assert_array_equal(same, images.astype(np.float32), strict=True)


def numbered(n, side=16):
    """Images in which every pixel is another number."""
    pixels = np.arange(side * side).reshape(1, side, side, 1)
    return jnp.array(np.broadcast_to(pixels, (n, side, side, 1)).astype(np.uint8))


def test_flip_mirrors_about_every_second_image():
    images = numbered(64)
    flipped = augment(images, jax.random.key(0), ("flip",))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    same = (flipped == images).all((1, 2, 3))
    assert (mirrored ^ same).all()
    assert 16 < mirrored.sum() < 48


def test_crop_cuts_from_the_mirrored_surroundings():
    images = numbered(200)
    cropped = np.asarray(augment(images, jax.random.key(0), ("crop",)))
    around = np.pad(images[0, ..., 0], 2, mode="reflect")
    # An eighth of 16 is 2, so that there are 5 x 5 places to cut at.
    windows = np.lib.stride_tricks.sliding_window_view(around, (16, 16))
    found = (windows[None] == cropped[:, None, None, ..., 0]).all((3, 4))
    assert found.any((1, 2)).all()
    assert found.any(0).all()


def test_crop_leaves_small_images_alone():
    images = numbered(3, side=7)
    np.testing.assert_array_equal(augment(images, jax.random.key(0), ("crop",)), images)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_augmentation_works_under_jit_and_keeps_shape_and_dtype(quick_jit, dtype):
    images = numbered(8).astype(dtype)
    names = ("flip", "crop")
    plain = augment(images, jax.random.key(1), names)
    jitted = quick_jit(augment, static_argnums=2)(images, jax.random.key(1), names)
    np.testing.assert_array_equal(plain, jitted, strict=True)
    assert plain.dtype == dtype
    other = augment(images, jax.random.key(2), names)
    assert (plain != other).any()


def test_without_names_nothing_changes():
    images = numbered(2)
    assert augment(images, jax.random.key(0), ()) is images


def test_augmentation_of_a_batch_on_several_devices_moves_no_image():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    images = jax.device_put(numbered(16), sharding)
    compiled = (
        jax.jit(augment, static_argnums=2, out_shardings=sharding)
        .lower(images, jax.random.key(0), ("flip", "crop"))
        .compile()
    )
    text = compiled.as_text()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in text
    np.testing.assert_array_equal(
        compiled(images, jax.random.key(0)),
        augment(numbered(16), jax.random.key(0), ("flip", "crop")),
    )


def test_refuses_an_unknown_augmentation_and_names_the_nearest():
    with pytest.raises(ConfigError, match=r"`data.augment`: no 'flop'; .*`flip`"):
        augment(numbered(1), jax.random.key(0), ("crop", "flop"))
