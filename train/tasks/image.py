"""Images, for one class."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..config import Config
from ..data.examples import Encoded, InputSpec
from ..data.images import (
    augment,
    check_augmentations,
    decode_image,
    is_grey,
    statistics,
)
from ..data.media import (
    CannotDecodeError,
    Decode,
    contents,
    decode_column,
    decode_good,
)
from ..data.records import Records
from ..errors import ConfigError, DataError
from ..models.cnn import Cnn
from ..models.encoder import ImageEncoder
from ..models.huggingface import parse_config
from ..models.preprocessor import read_image_preprocessor
from ..models.pretrained import find_folder, read_encoder_config
from ..models.resnet import ResNet18
from ..targets.one_class import OneClass
from .task import PRETRAINED, Task, model_name

MODELS = {"cnn": Cnn, "resnet18": ResNet18, PRETRAINED: ImageEncoder}

_KEPT, _ENCODER = "image.json", "encoder.json"
# So many training images give the mean and the deviation of each channel.
_STATISTICS_IMAGES = 2000
# Of an array of floats: beyond it the network's float32 sums and squares may overflow.
_LARGEST = 1e18


@dataclasses.dataclass(frozen=True)
class ImageCodec:
    """Images as arrays of one shape, with a mean and a deviation of each channel.

    Those of the training images, or those that a pretrained encoder has seen.

    Attributes:
      column: of the images.
      size: the side of the square that they are scaled to; 0: they have one size.
      bad_files: `refuse` or `skip` what cannot be decoded.
      shape: (height, width, channels); one channel where all training images are grey.
      dtype: `uint8`; `float32` where the source holds arrays of floats.
      mean: of each channel, in the unit of the pixels.
      deviation: of each channel.
      encoder: the shape of the pretrained encoder; None from scratch.
    """

    column: str
    size: int
    bad_files: str
    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    encoder: Any = None

    @classmethod
    def fit(cls, config: Config, train: Records) -> Self:
        """Takes shape, mean and deviation from training images, or from the encoder.

        Raises:
          ConfigError: an augmentation or a size that cannot be had.
          DataError: no image can be decoded.
        """
        check_augmentations(config.data.augment)
        column, size, bad_files = _options(config)
        is_float = _is_float(next(contents(train, column), None))
        if model_name(MODELS, config.model) == PRETRAINED:
            return cls._for_encoder(config, train, is_float=is_float)
        grey = not is_float and all(map(is_grey, contents(train, column)))
        dtype = "float32" if is_float else "uint8"
        decode = functools.partial(_decode, dtype=dtype, grey=grey, size=size)
        shape = _first_shape(train, column, decode)
        if is_float and size and shape[:2] != (size, size):
            raise ConfigError(
                "`data.image_size`: arrays of floats are not scaled, and these have "
                f"{_size(shape)}; set it to 0"
            )
        rows = np.linspace(0, len(train) - 1, min(len(train), _STATISTICS_IMAGES))
        some = decode_good(train, column, decode, rows.astype(int).tolist())
        mean, deviation = statistics(some)
        return cls(column, size, bad_files, shape, dtype, mean, deviation)

    @classmethod
    def _for_encoder(cls, config: Config, train: Records, *, is_float: bool) -> Self:
        """Takes all from the pretrained encoder.

        Raises:
          ConfigError: images are arrays of floats, and not of the encoder's shape.
        """
        folder = find_folder(config.model.pretrained)
        encoder = read_encoder_config(folder, "images")
        size, mean, deviation = read_image_preprocessor(folder)
        column, asked, bad_files = _options(config)
        size = asked or size
        # Images of floats are in [0, 1], and the others in bytes.
        unit = 1 if is_float else 255
        mean, deviation = (
            tuple(value * unit for value in values) for values in (mean, deviation)
        )
        dtype = "float32" if is_float else "uint8"
        shape = (size, size, 3)
        if is_float:
            decode = functools.partial(_decode, dtype=dtype, grey=False, size=0)
            found = _first_shape(train, column, decode)
            if found != shape:
                raise ConfigError(
                    f"`model.pretrained`: arrays of floats are not scaled; these have "
                    f"{_size(found)} of {found[2]} channels, and the encoder reads "
                    f"{_size(shape)} of 3; make them so, or give files or bytes"
                )
        return cls(column, size, bad_files, shape, dtype, mean, deviation, encoder)

    @classmethod
    def load(cls, config: Config, folder: Path) -> Self:
        """Reads what a run's folder keeps."""
        kept = json.loads((folder / _KEPT).read_text(encoding="utf-8"))
        mean, deviation = tuple(kept["mean"]), tuple(kept["deviation"])
        shape, dtype = tuple(kept["shape"]), kept["dtype"]
        column, size, bad_files = _options(config)
        file, encoder = folder / _ENCODER, None
        if file.exists():
            encoder = parse_config(file.read_text(encoding="utf-8"), str(file))
            size = shape[0]
        return cls(column, size, bad_files, shape, dtype, mean, deviation, encoder)

    vocabulary: ClassVar[tuple[str, ...]] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that it reads."""
        return (self.column,)

    def files(self) -> dict[str, str]:
        """Returns the shape, the dtype, the mean and the deviation, and the encoder."""
        names = ("shape", "dtype", "mean", "deviation")
        files = {_KEPT: json.dumps({name: getattr(self, name) for name in names})}
        return (
            files if self.encoder is None else files | {_ENCODER: self.encoder.source}
        )

    def spec(self, num_classes: int) -> InputSpec:
        """Returns what the model must know."""
        return InputSpec(
            self.shape,
            num_classes,
            mean=self.mean,
            deviation=self.deviation,
            encoder=self.encoder,
        )

    def encode(self, records: Records) -> Encoded:
        """Returns the images, [n, height, width, channels] of uint8 or float32.

        Raises:
          DataError: an image is broken, or of another size than the first.
        """
        images, kept = decode_column(
            records,
            self.column,
            self._decode,
            shape=self.shape,
            dtype=np.dtype(self.dtype),
            bad_files=self.bad_files,
        )
        return Encoded(images, kept=kept)

    def _decode(self, content: Any) -> np.ndarray:
        """Returns one image, of the codec's shape and dtype."""
        grey = self.shape[2] == 1
        image = _decode(content, dtype=self.dtype, grey=grey, size=self.size)
        if image.shape != self.shape:
            raise DataError(
                f"{_size(image.shape)}, where the first training image has "
                f"{_size(self.shape)}; scale them all with "
                f"--config.data.image_size={min(self.shape[:2])}"
            )
        return image


def _options(config: Config) -> tuple[str, int, str]:
    """Returns the column, the size, and what to do with broken files."""
    data = config.data
    return data.input_column or "image", data.image_size, data.bad_files


def _decode(content: Any, *, dtype: str, grey: bool, size: int) -> np.ndarray:
    """Returns one image of any size; floats are in [0, 1], as are those of files."""
    if dtype == "float32" and _is_float(content):
        with np.errstate(over="ignore"):
            image = content.astype(np.float32)
        # Moments and the network's sums must stay finite too.
        if image.ndim != 3 or not (np.abs(image) <= _LARGEST).all():
            raise CannotDecodeError(
                f"an array of {list(content.shape)} is no image; it must be finite "
                "numbers [height, width, channels]"
            )
        return image
    image = decode_image(content, channels=1 if grey else 3, size=size)
    return image if dtype == "uint8" else (image / 255).astype(np.float32)


def _first_shape(records: Records, column: str, decode: Decode) -> tuple[int, ...]:
    """Returns the shape of the first image that can be decoded."""
    return next(decode_good(records, column, decode, range(len(records)))).shape


def _is_float(content: Any) -> bool:
    return isinstance(content, np.ndarray) and content.dtype.kind == "f"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]} pixels"


TASK = Task(models=MODELS, codec=ImageCodec, target=OneClass(), augment=augment)
