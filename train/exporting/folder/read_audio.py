"""Recordings as the model reads them: files need soundfile, arrays numpy alone."""

import io
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

Places = list[list[int | None]]
# A recording is read a little beyond its cut, for the resampling filter to see.
MARGIN_SECONDS = 0.1


def encode(
    inputs: Sequence[Any], options: Mapping[str, Any], folder: Path
) -> tuple[np.ndarray, Places]:
    """Returns mono waveforms float32 [n, samples], cut or padded at their end.

    Args:
      inputs: files' paths or bytes, or floats in [-1, 1] of the model's sample rate,
        [samples] or [samples, channels].
      options: what model.json says of inputs.
      folder: of the model.
    """
    rate, samples = options["sample_rate"], options["samples"]
    waveforms = np.zeros((len(inputs), samples), np.float32)
    for waveform, given in zip(waveforms, inputs, strict=True):
        signal, own_rate = _signal(given, rate, samples / rate + MARGIN_SECONDS)
        mono = signal.mean(axis=1) if signal.ndim == 2 else signal
        if own_rate != rate:
            mono = _resampled(mono, Fraction(rate, own_rate))
        waveform[: len(mono)] = mono[:samples]
    return waveforms, [[] for _ in inputs]


def _signal(given: Any, rate: int, seconds: float) -> tuple[np.ndarray, int]:
    """Returns the beginning of a recording, and its sample rate."""
    if isinstance(given, list | np.ndarray):
        return np.asarray(given, np.float32)[: math.ceil(seconds * rate)], rate
    import soundfile  # type: ignore[import-untyped]  # it ships no type information

    content = given if isinstance(given, bytes) else Path(given).read_bytes()
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        wanted = math.ceil(seconds * file.samplerate)
        signal = file.read(wanted, dtype="float32", always_2d=True)
        return signal, file.samplerate


def _resampled(mono: np.ndarray, ratio: Fraction) -> np.ndarray:
    from scipy.signal import resample_poly  # it comes with jax

    # Larger terms make the filter long and slow.
    if max(ratio.numerator, ratio.denominator) > 4096:
        ratio = ratio.limit_denominator(4096)
    return resample_poly(mono, ratio.numerator, ratio.denominator)
