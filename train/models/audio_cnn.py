"""A small convolutional network on the log-mel spectrogram of a waveform."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ..config import ModelConfig
from ..data.examples import InputSpec
from .convolution import Blocks

FRAME_SECONDS = 0.025
HOP_SECONDS = 0.01
MELS = 64
# Added to the power of a band: silence is no -inf.
_FLOOR = 1e-6


class AudioCnn(nnx.Module):
    """The spectrogram as an image of one channel, and blocks of convolutions.

    The blocks' output is averaged over time alone: what a sound is depends on its
    frequencies, so the output layer sees each band.

    Args:
      config: `depth` blocks, the first of `width` channels, and dropout.
      spec: shape (samples,) and the sample rate.
      rngs: for the initial parameters.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, *, rngs: nnx.Rngs):
        self.dtype, self.sample_rate = (
            jnp.dtype(config.compute_dtype),
            spec.sample_rate,
        )
        self.blocks = Blocks(config, 1, rngs=rngs)
        self.dropout = nnx.Dropout(config.dropout)
        bands = -(-MELS // 2**config.depth)
        self.out_features = bands * self.blocks.channels

    def __call__(
        self, waveforms: jax.Array, *, rngs: nnx.Rngs | None = None
    ) -> jax.Array:
        """Returns features [n, out_features] of waveforms [n, samples].

        Dropout is on when `rngs` is given.
        """
        spectrograms = standardise(log_mel(waveforms, self.sample_rate))
        x = self.blocks(spectrograms[..., None].astype(self.dtype))
        x = jnp.mean(x, axis=1)
        x = x.reshape(x.shape[0], -1)
        return self.dropout(x, deterministic=rngs is None, rngs=rngs)


def log_mel(waveforms: jax.Array, sample_rate: int) -> jax.Array:
    r"""Returns the logarithm of the power in 64 mel bands, frame by frame.

    .. math:: \log(10^{-6} + \sum_f M_{fb} |\mathrm{FFT}(w \cdot x_t)_f|^2)

    with the Hann window :math:`w` of 25 ms, a frame :math:`x_t` each 10 ms, and the
    triangles :math:`M` of `mel_filters`.

    Args:
      waveforms: [n, samples], at least one frame long.
      sample_rate: in samples a second.

    Returns:
      float32 [n, frames, 64], with `1 + (samples - frame) // hop` frames.
    """
    frame, hop = _frame_and_hop(sample_rate)
    filters = mel_filters(sample_rate)
    window = np.hanning(frame + 1)[:-1].astype(np.float32)  # periodic
    starts = np.arange(0, waveforms.shape[1] - frame + 1, hop)
    frames = waveforms.astype(jnp.float32)[:, starts[:, None] + np.arange(frame)]
    length = 2 * (len(filters) - 1)
    spectrum = jnp.fft.rfft(frames * window[None, None], n=length)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    return jnp.log(jnp.matmul(power, filters, precision="highest") + _FLOOR)


@functools.cache
def mel_filters(sample_rate: int) -> np.ndarray:
    """Returns the bands as columns of weights over the bins of an FFT.

    A band is a triangle of height 1 from the centre of the band below to that of the
    band above; the centres are evenly spaced on HTK's mel scale,
    2595 log10(1 + f / 700), from 0 to half the sample rate.

    Args:
      sample_rate: in samples a second.

    Returns:
      float32 [length / 2 + 1, 64]. The FFT's length is the least power of two that
      holds a frame and gives every band a bin.
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    below, centre, above = edges[:-2], edges[1:-1], edges[2:]
    length = 1
    while length < _frame_and_hop(sample_rate)[0] or sample_rate / length > above[0]:
        length *= 2
    bins = np.fft.rfftfreq(length, 1 / sample_rate)[:, None]
    rise, fall = (bins - below) / (centre - below), (above - bins) / (above - centre)
    return np.maximum(np.minimum(rise, fall), 0).astype(np.float32)


def standardise(spectrograms: jax.Array) -> jax.Array:
    """Returns each spectrogram [n, frames, bands] with mean 0 and deviation 1.

    Silence has no deviation, and becomes zeros.
    """
    mean = jnp.mean(spectrograms, axis=(1, 2), keepdims=True)
    variance = jnp.var(spectrograms, axis=(1, 2), keepdims=True)
    return (spectrograms - mean) * jax.lax.rsqrt(variance + 1e-5)


def _frame_and_hop(sample_rate: int) -> tuple[int, int]:
    """Returns both in samples."""
    return round(FRAME_SECONDS * sample_rate), round(HOP_SECONDS * sample_rate)
