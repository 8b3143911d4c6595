"""Data sets of Hugging Face by name, through the library `datasets`."""

import functools
import importlib
from pathlib import Path
from typing import Any

from ..config import DataConfig
from ..errors import DataError
from .files import split_names
from .parquet import table_columns
from .records import Records

# Files that `save_to_disk` writes; such a folder is not read by `load_dataset`.
_SAVED = ("dataset_dict.json", "state.json")
_SHOWN = 200


def read(config: DataConfig) -> dict[str, Records]:
    """Returns the records of each split that the configuration names.

    Class numbers become their names; images and audio stay as they are stored, bytes or
    paths, and are decoded by the task.

    Args:
      config: `name` as on the hub, `subset` where the data set has several, the splits,
        which may be parts such as train[:90%]; or a folder as `path`.

    Raises:
      DataError: `datasets` is not installed, or the data set or a split is not there.
    """
    _library()
    return {
        split: _read_split(config, part, split)
        for split, part in split_names(config).items()
    }


@functools.cache
def _library() -> Any:
    """Returns the library, which is slow to import and needed for this source alone."""
    try:
        return importlib.import_module("datasets")
    except ImportError as error:
        raise DataError(
            "data.source=huggingface needs the package datasets; install it with "
            "pip install 'as_softmax_jax[datasets]'"
        ) from error


def _read_split(config: DataConfig, part: str, split: str) -> Records:
    """Returns one split; `part` is what the data set calls it."""
    where = config.path or config.name
    origin = f"{where} {config.subset}".strip() + f" ({part})"
    try:
        found = _load(config, part)
    except Exception as error:  # of the data set's own files and of the network, too
        raise DataError(
            f"{origin}: cannot be read: {_reason(error)}; --config.data.name is its "
            "name on the hub, --config.data.path a folder in place of that, "
            f"--config.data.subset one of several, --config.data.{split} a split of it"
        ) from error
    columns = table_columns(found.with_format("arrow")[:])
    records = Records(split, origin, columns)
    if not len(records):
        raise DataError(f"{origin}: the {split} split is empty; it needs an example")
    return records


def _load(config: DataConfig, part: str) -> Any:
    """Returns a split as the library holds it, images and audio not decoded."""
    datasets = _library()
    place = str(Path(config.path).expanduser()) if config.path else config.name
    if not place:
        raise ValueError("it has no name")
    if any((Path(place) / name).exists() for name in _SAVED):
        found = datasets.load_from_disk(place)
        if isinstance(found, datasets.DatasetDict):
            if part not in found:
                raise ValueError(f"Unknown split, should be one of {list(found)}")
            found = found[part]
    else:
        found = datasets.load_dataset(place, config.subset or None, split=part)
    for column, feature in found.features.items():
        if isinstance(feature, datasets.Image | datasets.Audio):
            found = found.cast_column(column, type(feature)(decode=False))
    return found


def _reason(error: Exception) -> str:
    """Returns the first line of what went wrong, without its last full stop."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:_SHOWN].rstrip(".")
