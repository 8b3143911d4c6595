"""Data sets of TensorFlow Datasets: prepared on disk, and read without TensorFlow.

TFDS prepares a data set once, which takes TensorFlow for many of them and a network
for most; that is the user's own command, which the refusals spell out. Reading needs
neither: `as_data_source` gives random access to files of the format ArrayRecord, and
TFDS decodes their rows with NumPy and Pillow.
"""

import contextlib
import difflib
import functools
import importlib
import io
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..config import DataConfig
from ..errors import DataError
from .files import split_names
from .records import Records, object_column

_CATALOG = "https://www.tensorflow.org/datasets/catalog/overview"
# Rows that are read together: one call for many is far faster than one for each.
_ROWS = 1024


def read(config: DataConfig) -> dict[str, Records]:
    """Returns the records of each split that the configuration names.

    A feature becomes a column. Class labels are their names, None where a test split
    hides them (-1); text is `str`; sequences are lists; scalars, and what has one
    shape in all rows, are one NumPy array; images of several sizes are an array each;
    audio is as `_audio` says.

    Args:
      config: `name` as in TFDS, `name/config` and `name/config:version` too; `path`
        is the folder that TFDS calls data_dir, empty for its default; the splits may
        be parts such as train[:90%]. With `input_column` or `feature_columns` set,
        only those and the label column are decoded.

    Raises:
      DataError: TFDS is not installed, the data set is unknown or not prepared, or a
        split or a column is not there.
    """
    builder = _open(config)
    features = _wanted(builder, config)
    return {
        split: _read_split(builder, split, part, features)
        for split, part in split_names(config).items()
    }


@functools.cache
def _tfds() -> Any:
    """Returns the package, which is slow to import and needed for this source alone."""
    try:
        tfds = importlib.import_module("tensorflow_datasets")
        importlib.import_module("array_record")
    except ImportError as error:
        raise DataError(
            f"data.source=tfds needs the package {error.name}; install it with "
            "pip install 'as_softmax_jax[tfds]'"
        ) from error
    _audio_feature(tfds)
    return tfds


def _open(config: DataConfig) -> Any:
    """Returns the TFDS builder of a data set on disk, of a format we can read.

    From its files and not from its code, which could differ from what was prepared.
    """
    if not config.name:
        raise DataError(
            "data.source=tfds needs a name: --config.data.name=imdb_reviews"
        )
    tfds = _tfds()
    files = importlib.import_module("tensorflow_datasets.core.read_only_builder")
    try:
        builder = files.builder_from_files(config.name, data_dir=_data_dir(config))
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(_not_found(config)) from error
    except Exception as error:  # also of the data set's own code and files
        raise DataError(
            f"tfds {config.name!r} in {_where(config)}: cannot be opened: "
            f"{_reason(error)}; --config.data.name is a name, name/config or "
            "name/config:1.0.0, and --config.data.path the folder that holds it"
        ) from error
    formats = importlib.import_module("tensorflow_datasets.core.file_adapters")
    readable = formats.FileFormat.with_random_access()
    if not readable & set(builder.info.available_file_formats()):
        raise DataError(
            f"tfds {config.name!r}: {builder.data_dir} is in the format "
            f"{builder.info.file_format.value}, which only TensorFlow reads; remove it "
            f"or take another --config.data.path, and {_how_to_prepare(config)}"
        )
    return builder


def _not_found(config: DataConfig) -> str:
    """Returns why there are no files: no such name, or not prepared."""
    base = re.split("[/:]", config.name)[0]
    prepared = sorted(
        entry.name
        for folder in _folders(config)
        if (Path(folder) / base).is_dir()
        for entry in (Path(folder) / base).iterdir()
        if entry.is_dir()
    )
    known = _registered()
    if base not in known and not prepared:
        close = difflib.get_close_matches(base, known, n=3)
        names = " or ".join(f"`{name}`" for name in close)
        hint = f"did you mean {names}?" if close else f"the names are on {_CATALOG}"
        return f"`data.name`: TFDS has no data set {base!r}; {hint}"
    there = f", which has its {', '.join(prepared)}" if prepared else ""
    return (
        f"tfds {config.name!r}: not prepared in {_where(config)}{there}; "
        f"{_how_to_prepare(config)}"
    )


def _registered() -> list[str]:
    """Returns the names of the data sets that this TFDS has code for.

    TFDS registers them group by group and stops at the first group that misses a
    package, so the groups are imported one by one.
    """
    tfds = _tfds()
    others = ("core", "dataset_collections", "datasets", "scripts", "testing")
    for group in pkgutil.iter_modules(tfds.__path__, f"{tfds.__name__}."):
        if group.ispkg and group.name.rpartition(".")[2] not in others:
            with contextlib.suppress(ImportError):
                importlib.import_module(group.name)
    return sorted(set(tfds.list_builders(with_community_datasets=False)))


def _how_to_prepare(config: DataConfig) -> str:
    """Returns the cure: what prepares a data set once, in a format we can read."""
    folder = f", data_dir={config.path!r}" if config.path else ""
    return (
        "prepare it once, with a network and mostly with TensorFlow: pip install "
        'tensorflow && python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({config.name!r}{folder}, file_format='array_record')"
        '.download_and_prepare()"'
    )


def _data_dir(config: DataConfig) -> str | None:
    """Returns the configured folder; None: where TFDS keeps its own."""
    return os.path.expanduser(config.path) or None


def _folders(config: DataConfig) -> list[str]:
    """Returns the folders that TFDS looks in."""
    files = importlib.import_module("tensorflow_datasets.core.utils.file_utils")
    return [str(folder) for folder in files.list_data_dirs(_data_dir(config))]


def _where(config: DataConfig) -> str:
    return ", ".join(_folders(config))


def _wanted(builder: Any, config: DataConfig) -> dict[str, Any]:
    """Returns the features to decode by name, all where no input column is named."""
    features = dict(builder.info.features.items())
    names = {*config.feature_columns, config.input_column} - {""}
    if not names:
        return features
    for name in (*sorted(names), config.label_column):
        if name not in features:
            there = ", ".join(f"`{n}`" for n in sorted(features))
            raise DataError(
                f"tfds {config.name!r}: no column `{name}`; it has {there}; "
                "name the right one with --config.data.*_column(s)"
            )
    return {n: f for n, f in features.items() if n in {*names, config.label_column}}


def _read_split(
    builder: Any, split: str, part: str, features: dict[str, Any]
) -> Records:
    """Reads a split, or a part of one, into columns."""
    origin = f"tfds {builder.info.full_name} [{part}]"
    _refuse_no_part(builder, split, part, origin)
    columns: dict[str, list] = {name: [] for name in features}
    convert = {name: _converter(feature) for name, feature in features.items()}
    try:
        for row in _rows(builder, part, features):
            for name, value in row.items():
                columns[name].append(convert[name](value))
    except Exception as error:  # TFDS, Pillow and ArrayRecord raise many kinds
        number = min(map(len, columns.values()), default=0) + 1
        raise DataError(
            f"{origin}: row {number} cannot be decoded: {_reason(error)}; name the "
            "columns that are needed with --config.data.input_column and label_column, "
            "or prepare the data set again"
        ) from error
    arrays = {name: _column(columns[name], features[name]) for name in features}
    return Records(split, origin, arrays)


def _refuse_no_part(builder: Any, split: str, part: str, origin: str) -> None:
    """Refuses a split that is not there, or a part of one without an example."""
    there = ", ".join(f"`{name}`" for name in builder.info.splits)
    cure = f"it has {there}, also in parts such as train[:90%]"
    flag = f"name one with --config.data.{split}"
    try:
        size = builder.info.splits[part].num_examples
    except (KeyError, ValueError) as error:
        raise DataError(f"{origin}: no such split; {cure}; {flag}") from error
    if size <= 0:
        raise DataError(f"{origin}: the {split} split is empty; {cure}; {flag}")


def _rows(builder: Any, part: str, features: dict[str, Any]) -> Iterator[dict]:
    """Yields the rows of a split with nothing but the wanted features decoded.

    TFDS's own way to do that, PartialDecoding, imports TensorFlow.
    """
    tfds = _tfds()
    decoder = tfds.features.FeaturesDict(features)
    raw = importlib.import_module("tensorflow_datasets.core.decode").DeserializeMethod
    source = builder.as_data_source(part, deserialize_method=raw.RAW_BYTES)
    for start in range(0, len(source), _ROWS):
        numbers = range(start, min(start + _ROWS, len(source)))
        for record in source.__getitems__(numbers):
            yield decoder.deserialize_example_np(record)


def _converter(feature: Any) -> Callable[[Any], Any]:
    """Returns what makes plain Python or NumPy values of a feature's."""
    kinds = _tfds().features
    if isinstance(feature, kinds.ClassLabel):
        return functools.partial(_class_name, feature)
    if isinstance(feature, kinds.FeaturesDict):
        return _fields({name: _converter(inner) for name, inner in feature.items()})
    if isinstance(feature, kinds.Sequence):
        if isinstance(feature.feature, kinds.FeaturesDict):  # lists in a dictionary
            inner = feature.feature.items()
            return _fields({n: _converter(kinds.Sequence(f)) for n, f in inner})
        return functools.partial(_entries, _converter(feature.feature))
    if isinstance(feature, _audio_feature(_tfds())):
        return functools.partial(_audio, feature)
    return _text if np.dtype(feature.np_dtype).kind in "OSU" else _same


def _class_name(feature: Any, value: int) -> str | None:
    """Returns the class by its name; TFDS writes -1 for what is not known."""
    return feature.int2str(int(value)) if value >= 0 else None


def _fields(convert: dict[str, Callable[[Any], Any]]) -> Callable[[Any], Any]:
    return lambda value: {name: convert[name](v) for name, v in value.items()}


def _entries(convert: Callable[[Any], Any], value: Any) -> list:
    """Returns a sequence as a list, its numbers as Python's."""
    entries = map(convert, value)
    return [e.item() if isinstance(e, np.generic) else e for e in entries]


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _audio(feature: Any, value: Any) -> Any:
    """Returns {array, sampling_rate}, or the array alone where no rate is known.

    The array is floats in [-1, 1]: TFDS stores what the files hold, and files of
    sound hold 16-bit samples nearly always.
    """
    rate = feature.sample_rate
    if isinstance(value, bytes):  # a whole file, with `lazy_decode`
        # Imported here: it loads a C library, which few data sets need.
        soundfile = importlib.import_module("soundfile")
        value, rate = soundfile.read(io.BytesIO(value), dtype="float32")
    elif np.issubdtype(value.dtype, np.integer):
        value = (value / 2.0**15).astype(np.float32)
    return {"array": value, "sampling_rate": rate} if rate else value


@functools.cache
def _audio_feature(tfds: Any) -> Any:
    """Returns a class that reads stored audio, and has TFDS use it for its own.

    TFDS imports TensorFlow when it makes a feature of its class Audio, even to read.
    What is stored is an array, or with `lazy_decode` the bytes of a file.
    """

    class StoredAudio(tfds.features.Tensor):
        # The name by which files on disk ask for the class.
        ALIASES = ("tensorflow_datasets.core.features.audio_feature.Audio",)
        sample_rate: int | None = None

        @classmethod
        def from_json_content(cls, value: Any) -> Any:
            if isinstance(value, dict):  # as TFDS wrote it before version 4.5
                rate, lazy = value["sample_rate"], value.get("lazy_decode", False)
                shape, dtype, encoding = value["shape"], value["dtype"], "none"
            else:
                rate, lazy = value.sample_rate, value.lazy_decode
                shape = [None if n < 0 else n for n in value.shape.dimensions]
                dtype, encoding = value.dtype, value.encoding or "none"
            stored = {"serialized_dtype": np.object_, "serialized_shape": ()}
            feature = cls(
                shape=tuple(shape),
                dtype=np.dtype(dtype),
                encoding=encoding,
                **(stored if lazy else {}),
            )
            feature.sample_rate = int(rate) if rate else None
            return feature

    return StoredAudio


def _column(values: list, feature: Any) -> np.ndarray:
    """Returns one array where every row has the same numeric shape, else objects."""
    if _converter(feature) is _same and None not in feature.shape:
        return np.asarray(values, feature.np_dtype)
    return object_column(values)


def _reason(error: Exception) -> str:
    """Returns an exception as one line; TFDS adds lines of its own to many."""
    text = str(error).strip()
    if "No module named 'tensorflow" in text:
        return "TFDS reads one of its features with TensorFlow only"
    return f"{type(error).__name__}: {text.partition(chr(10))[0][:200]}"
