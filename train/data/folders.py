"""Images or recordings in folders named by their class: SPLIT/CLASS/FILE."""

from collections import Counter
from pathlib import Path

import numpy as np

from ..command.notices import notice
from ..config import DataConfig
from ..errors import DataError
from .files import data_folder, split_names
from .names import is_unicode
from .records import Records

IMAGE_ENDINGS = frozenset(
    [".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"]
)
AUDIO_ENDINGS = frozenset([".wav", ".flac", ".ogg", ".mp3"])


def read(config: DataConfig) -> dict[str, Records]:
    """Returns the records of each split's folder that the configuration names.

    A record is a file's path, relative to its split's folder, and the name of the
    class folder that it lies in. Which task reads the paths is not known here, so they
    are both the column `image` and the column `audio`, unless
    `data.input_column` names one.

    Args:
      config: the data folder and the splits' folders in it; an empty `validation` or
        `test` means none.

    Raises:
      DataError: a folder is missing, or holds no class, or a class no example.
    """
    folder = data_folder(config)
    names = split_names(config)
    return {
        split: _read_split(folder / name, split, config)
        for split, name in names.items()
    }


def _read_split(folder: Path, split: str, config: DataConfig) -> Records:
    """Returns the records of one split, sorted by class and file name."""
    if not folder.is_dir():
        what = ", it is a file" if folder.is_file() else ""
        raise DataError(
            f"{folder}: no such folder{what}; give the folder that holds it with "
            f"--config.data.path and its name with --config.data.{split}"
            f"{', or read tables with --config.data.source=files' if what else ''}"
        )
    try:
        found = {name: _files(folder / name) for name in _class_names(folder)}
    except OSError as error:
        raise DataError(
            f"{error.filename}: cannot be read: {error.strerror}"
        ) from error
    for name in found:
        if not is_unicode(name):
            raise DataError(
                f"{folder}: the class folder {name!r} has a name that is not UTF-8; "
                "rename it"
            )
    _refuse_empty(found, folder, split)
    _say_what_is_left_out(found, folder)
    files = [f"{name}/{file}" for name, inside in found.items() for file in inside]
    labels = [name for name, inside in found.items() for _ in inside]
    paths = np.array(files, object)
    columns = [config.input_column] if config.input_column else ["image", "audio"]
    return Records(
        split,
        str(folder),
        dict.fromkeys(columns, paths) | {config.label_column: np.array(labels, object)},
    )


def _class_names(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _files(folder: Path) -> list[str]:
    """Returns the names of the images and recordings; other files are none."""
    endings = IMAGE_ENDINGS | AUDIO_ENDINGS
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.suffix.lower() in endings
        and not entry.name.startswith(".")
        and entry.is_file()
    )


def _say_what_is_left_out(found: dict[str, list[str]], folder: Path) -> None:
    """Says how many files of the class folders are no examples."""
    left_out: Counter[str] = Counter()
    for name, inside in found.items():
        taken = {folder / name / file for file in inside}
        files = (path for path in (folder / name).rglob("[!.]*") if path.is_file())
        left_out.update(path.suffix for path in files if path not in taken)
    if left_out:
        kinds = ", ".join(ending or "none" for ending, _ in left_out.most_common(3))
        endings = ", ".join(sorted(IMAGE_ENDINGS | AUDIO_ENDINGS))
        notice(
            f"{folder}: {left_out.total()} files are left out (endings: {kinds}); "
            f"examples lie in CLASS/ itself and end in {endings}"
        )


def _refuse_empty(found: dict[str, list[str]], folder: Path, split: str) -> None:
    """Refuses a split without an example, and a class that training never sees."""
    endings = ", ".join(sorted(IMAGE_ENDINGS | AUDIO_ENDINGS))
    if not any(found.values()):
        raise DataError(
            f"{folder}: no class folder with an example in it; put files in "
            f"{folder}/CLASS/, ending in {endings}"
        )
    empty = [name for name, inside in found.items() if not inside]
    if empty and split == "train":
        raise DataError(
            f"{folder / empty[0]}: no training example of class {empty[0]!r}; add "
            f"one, ending in {endings}, or remove the folder"
        )
