"""Recordings: decoded to mono waveforms of one sample rate on the host."""

import io
import math
import struct
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import soundfile  # type: ignore[import-untyped]  # it ships no type information
from scipy.signal import resample_poly

from . import mp3
from .media import CannotDecodeError

# A recording is read a little beyond its cut, for the resampling filter to see.
_MARGIN_SECONDS = 0.1
# A WAV file written to a pipe does not know its size, and says one near 2^31 or 2^32.
_UNKNOWN_SIZE = 0x7FFFF000
# libsndfile's length of what does not tell its own.
_UNKNOWN_LENGTH = 2**62
# Larger terms of the ratio of two rates make the resampling filter long and slow.
_LARGE_TERM = 4096


class Waveform(NamedTuple):
    """A recording of the length that was asked for."""

    samples: np.ndarray  # shape=(samples,), dtype=float32, in [-1, 1]
    cut: bool  # the recording was longer


def decode_audio(content: Any, *, sample_rate: int, samples: int) -> Waveform:
    """Decodes one recording: mono, resampled, cut or padded with zeros at its end.

    Args:
      content: a file's bytes, WAV, FLAC or OGG among them; an array of floats in
        [-1, 1] or of integers, [n] or [n, channels], whose sample rate is taken to be
        `sample_rate`; or a struct with `array` and `sampling_rate`.
      sample_rate: of the result, in samples a second.
      samples: of the result.

    Raises:
      CannotDecodeError: broken, cut short, empty, or no recording.
    """
    seconds = samples / sample_rate + _MARGIN_SECONDS
    if isinstance(content, bytes):
        signal, rate = _read(content, seconds)
    else:
        signal, rate = _from_array(content, sample_rate)
        signal = signal[: math.ceil(seconds * rate)]
    if not signal.size:
        raise CannotDecodeError("a recording without a sample")
    if not np.isfinite(signal).all():
        raise CannotDecodeError("a recording with samples that are not finite")
    mono = signal.mean(axis=1) if signal.ndim == 2 else signal
    cut = len(mono) * sample_rate > samples * rate
    if rate != sample_rate:
        ratio = _ratio(rate, sample_rate)
        mono = resample_poly(mono, ratio.numerator, ratio.denominator)
    fitted = np.zeros(samples, np.float32)
    fitted[: len(mono)] = mono[:samples]
    return Waveform(fitted, cut)


def _ratio(rate: int, sample_rate: int) -> Fraction:
    """Returns `sample_rate / rate`, to a sample a second where its terms are large."""
    ratio = Fraction(sample_rate, rate)
    if max(ratio.numerator, ratio.denominator) <= _LARGE_TERM:
        return ratio
    return ratio.limit_denominator(_LARGE_TERM)


def _read(content: bytes, seconds: float) -> tuple[np.ndarray, int]:
    """Returns the beginning of a file, float32 [n, channels], and its sample rate."""
    _refuse_short_wav(content)
    content = mp3.with_length(_with_wav_size(content))
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            if file.frames > _UNKNOWN_LENGTH:
                raise CannotDecodeError("it does not tell its length; write it anew")
            wanted = min(file.frames, math.ceil(seconds * file.samplerate))
            signal = file.read(wanted, dtype="float32", always_2d=True)
            rate = file.samplerate
    except CannotDecodeError:
        raise
    except Exception as error:  # a decoder in a broken file may raise anything
        # The text of the library names the object in memory before its reason.
        reason = str(error).rpartition(": ")[2]
        raise CannotDecodeError(f"no recording in order: {reason}") from error
    if len(signal) < wanted:
        raise CannotDecodeError(f"cut short: {len(signal)} of {wanted} samples")
    return signal, rate


def _refuse_short_wav(content: bytes) -> None:
    """Refuses a WAV file that ends early, which libsndfile reads without a word."""
    if content[:4] != b"RIFF" or len(content) < 8:
        return
    size = struct.unpack("<I", content[4:8])[0]
    if len(content) < size + 8 and size < _UNKNOWN_SIZE:
        raise CannotDecodeError(f"cut short: {len(content)} of {size + 8} bytes")


def _with_wav_size(content: bytes) -> bytes:
    """Returns a WAV file whose writer never came back to put its size in, with one."""
    data = content.find(b"data", 12, 4096)
    if content[:4] != b"RIFF" or data < 0 or content[data + 4 : data + 8] != bytes(4):
        return content
    size = struct.pack("<I", len(content) - data - 8)
    return content[: data + 4] + size + content[data + 8 :]


def _from_array(content: Any, sample_rate: int) -> tuple[np.ndarray, int]:
    """Returns a decoded recording as floats, channels last, and its sample rate."""
    rate = sample_rate
    if isinstance(content, dict):
        rate = content.get("sampling_rate") or sample_rate
        content = content["array"]
    array = np.asarray(content)
    if array.dtype.kind not in "fi" or array.ndim not in (1, 2):
        raise CannotDecodeError(
            f"an array {array.dtype}{list(array.shape)} is no recording; it must be "
            "floats or integers, [samples] or [samples, channels]"
        )
    if array.ndim == 2 and array.shape[0] < array.shape[1]:
        array = array.T
    if array.dtype.kind == "i":
        array = array / _full_scale(array)
    return array.astype(np.float32), int(rate)


def _full_scale(array: np.ndarray) -> float:
    """Returns what an array of integers counts as 1.

    Wide ones hold what 16-bit files hold, as those of TFDS do, unless their values need
    more: then they are of 32 bits, as soundfile reads them.
    """
    if array.dtype == np.int8:
        return 2.0**7
    limit = 2**15
    wide = array.size and (array.max() >= limit or array.min() < -limit)
    return 2.0**31 if wide else float(limit)
