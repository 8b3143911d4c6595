"""Sizes and settings that fit some data: how long, how large, how fast, how often."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import soundfile  # type: ignore[import-untyped]  # it ships no type information
from PIL import Image

from ..data.buckets import bucket
from ..data.media import contents
from ..data.records import Records

# So many rows tell how large the others are.
_LOOKED_AT = 200
# Pieces of a tokenizer to a word, about.
_PIECES = 1.4
_LONGEST_TEXT = 512
_IMAGE_SIDES = (32, 48, 64, 96, 128)
_MOST_SECONDS = 10.0
_SAMPLE_RATES = (8000, 16000)
# Small data need some hundred gradient steps, large ones few epochs.
_LEAST_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 800, 4, 100
# To evaluate and save after each of many short epochs takes longer than to train.
_EVALUATIONS = 20


def text_length(texts: Sequence[str]) -> int:
    """Returns the tokens that 99 of 100 texts need, as a length of batches."""
    words = [len(text.split()) for text in texts]
    pieces = math.ceil(float(np.quantile(words, 0.99)) * _PIECES) + 2
    return bucket(min(pieces, _LONGEST_TEXT), _LONGEST_TEXT)


def image_side(records: Records, column: str) -> int:
    """Returns the side that images are to be scaled to; 0: they are of one size."""
    sizes = set()
    for content in _some(records, column):
        if not isinstance(content, bytes):
            return 0
        try:
            with Image.open(io.BytesIO(content)) as image:
                sizes.add(image.size)
        except Exception:  # Told where it is read.
            continue
    if len(sizes) <= 1 and all(max(size) <= _IMAGE_SIDES[-1] for size in sizes):
        return 0
    middle = float(np.median([min(size) for size in sizes]))
    fit = [side for side in _IMAGE_SIDES if side <= middle]
    return fit[-1] if fit else _IMAGE_SIDES[0]


def sound_sizes(records: Records, column: str) -> dict[str, Any]:
    """Returns `sample_rate` and `seconds` that hold 99 of 100 recordings."""
    rates, seconds = [], []
    for content in _some(records, column):
        if not isinstance(content, bytes):
            continue
        try:
            found = soundfile.info(io.BytesIO(content))
        except Exception:  # Told where it is read.
            continue
        rates.append(found.samplerate)
        seconds.append(found.frames / found.samplerate)
    if not rates:
        return {}
    rate = next((r for r in _SAMPLE_RATES if max(rates) <= r), _SAMPLE_RATES[-1])
    longest = math.ceil(10 * float(np.quantile(seconds, 0.99))) / 10
    return {"sample_rate": rate, "seconds": min(max(longest, 0.1), _MOST_SECONDS)}


def _some(records: Records, column: str) -> list[Any]:
    """Returns the contents of some rows, evenly over all."""
    count = min(len(records), _LOOKED_AT)
    rows = np.linspace(0, len(records) - 1, count).astype(int)
    return list(contents(records.rows(rows), column))


def schedule(num_examples: int) -> dict[str, int]:
    """Returns batches and epochs: some hundred steps for few examples."""
    size = next((s for s in (16, 32, 64) if num_examples <= 50 * s), 128)
    per_epoch = math.ceil(num_examples / size)
    epochs = math.ceil(_LEAST_STEPS / per_epoch)
    epochs = min(max(epochs, _FEWEST_EPOCHS), _MOST_EPOCHS)
    every = max(1, epochs // _EVALUATIONS)
    return {"batch_size": size, "epochs": epochs, "evaluate_every": every}
