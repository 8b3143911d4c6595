"""Where examples lie: one file, files or folders by split, folders by class."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from ..data.files import READERS, data_ending
from ..data.folders import AUDIO_ENDINGS, IMAGE_ENDINGS
from ..errors import DataError

# What people call their splits, by the beginning of a name.
_SPLITS = {
    "train": ("training", "train"),
    "validation": ("validation", "valid", "val", "development", "devel", "dev"),
    "test": ("testing", "test"),
}
# The number of a shard: train-00000-of-00004, train_3, part-0.
_SHARD = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?$")


class Place(NamedTuple):
    """Where the splits are, as `DataConfig` has them."""

    source: Literal["files", "folders"]
    folder: Path
    splits: Mapping[str, str]  # train and maybe others: a name in the folder
    media: Literal["", "image", "audio"]  # of folders


def find_place(path: Path) -> Place:
    """Returns where the splits of a file or folder are.

    Raises:
      DataError: there is nothing that can be read, or which file is which is unclear.
    """
    if path.is_file():
        if data_ending(path) not in READERS:
            raise DataError(
                f"{path}: unknown kind of file; it must end in {', '.join(READERS)}, "
                "or be a folder"
            )
        return Place("files", path.parent, {"train": path.name}, "")
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    files = [p for p in entries if p.is_file() and data_ending(p) in READERS]
    if files:
        return Place("files", path, _file_splits(path, files), "")
    folders = [p for p in entries if p.is_dir()]
    splits = _by_split([p.name for p in folders])
    if "train" in splits:
        names = {split: names[0] for split, names in splits.items()}
        media = _media(path / names["train"])
        return Place("folders", path, names, media)
    if folders:
        return Place("folders", path, {"train": "."}, _media(path))
    raise DataError(
        f"{path}: nothing that can be read: no file that ends in {', '.join(READERS)}, "
        "and no folder of pictures or recordings a class"
    )


def _by_split(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns which names are of which split; others are of none."""
    found: dict[str, list[str]] = {}
    for name in names:
        stem = _SHARD.sub("", name.split(".")[0].lower())
        for split, words in _SPLITS.items():
            if any(re.fullmatch(rf"(.*[-_])?{word}([-_].*)?", stem) for word in words):
                found.setdefault(split, []).append(name)
                break
    return found


def _file_splits(folder: Path, files: list[Path]) -> dict[str, str]:
    """Returns the file of each split, or what stands for its shards."""
    names = [path.name for path in files]
    found = _by_split(names)
    if "train" not in found:
        if len({_SHARD.sub("", name.split(".")[0]) for name in names}) > 1:
            raise DataError(
                f"{folder}: which of {', '.join(names[:6])} is the training data? Give "
                "one of the files, or call them train, validation and test"
            )
        found = {"train": names}
    return {split: _pattern(of_split) for split, of_split in found.items()}


def _pattern(names: list[str]) -> str:
    """Returns one name, or a pattern that stands for several."""
    if len(names) == 1:
        return names[0]
    stem, dot, endings = names[0].partition(".")
    return f"{_SHARD.sub('', stem)}*{dot}{endings}"


def _media(folder: Path) -> Literal["image", "audio"]:
    """Returns what the class folders of a split hold, by the most of it."""
    counts = {"image": 0, "audio": 0}
    for path in folder.glob("*/*"):
        ending = path.suffix.lower()
        counts["image"] += ending in IMAGE_ENDINGS
        counts["audio"] += ending in AUDIO_ENDINGS
    if not any(counts.values()):
        raise DataError(
            f"{folder}: its folders hold no pictures or recordings; put those of a "
            "class into a folder of its name"
        )
    return "image" if counts["image"] >= counts["audio"] else "audio"
