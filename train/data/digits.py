"""The 1,797 scanned digits that come with scikit-learn: real images, no network."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ..config import DataConfig
from .records import Records

# Two thirds train; the rest is halved. Fixed, so that scores compare across runs.
_SPLIT_SEED = 0


def read(config: DataConfig) -> dict[str, Records]:
    """Returns train, validation and test, stratified by class.

    The columns are `image`, float32 [n, 8, 8, 1] in [0, 1], and the label column.
    """
    digits = load_digits()
    images = (digits.images[..., None] / 16.0).astype(np.float32)
    indices = np.arange(len(images))
    train, rest = train_test_split(
        indices, train_size=2 / 3, stratify=digits.target, random_state=_SPLIT_SEED
    )
    validation, test = train_test_split(
        rest, train_size=0.5, stratify=digits.target[rest], random_state=_SPLIT_SEED
    )
    splits = {"train": train, "validation": validation, "test": test}
    return {
        split: Records(
            split,
            f"digits ({split})",
            {"image": images[rows], config.label_column: digits.target[rows]},
        )
        for split, rows in splits.items()
    }
