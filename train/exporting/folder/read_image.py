"""Pictures as the model reads them: it needs Pillow, as pictures.py does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pictures import decode_picture

Places = list[list[int | None]]


def encode(
    inputs: Sequence[Any], options: Mapping[str, Any], folder: Path
) -> tuple[np.ndarray, Places]:
    """Returns pictures [n, height, width, channels].

    Args:
      inputs: files' paths or bytes, or arrays [height, width] or [height, width,
        channels] of uint8, or of floats where the model was trained on such.
      options: what model.json says of inputs.
      folder: of the model.
    """
    found = [_picture(given, options) for given in inputs]
    return np.stack(found), [[] for _ in found]


def _picture(given: Any, options: Mapping[str, Any]) -> np.ndarray:
    shape, dtype = tuple(options["shape"]), options["dtype"]
    if isinstance(given, list):
        given = np.array(given, dtype)
    if isinstance(given, str | Path):
        given = Path(given).read_bytes()
    if dtype == "float32" and isinstance(given, np.ndarray) and given.dtype.kind == "f":
        picture = given.astype(np.float32)
    else:
        picture = decode_picture(given, channels=shape[2], size=options["size"])
        if dtype == "float32":
            picture = (picture / 255).astype(np.float32)
    if picture.shape != shape:
        raise ValueError(f"a picture has shape {picture.shape}; it must be {shape}")
    return picture
