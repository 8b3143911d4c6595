"""The spectrogram against SciPy's, and the network on it."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.models.audio_cnn import AudioCnn, log_mel, mel_filters, standardise

RATES = [1000, 8000, 16000, 22050, 44100]


def noise(n, samples):
    return np.random.default_rng(0).normal(size=(n, samples)).astype(np.float32)


def hertz(mel):
    return 700 * (10 ** (mel / 2595) - 1)


def reference_filters(sample_rate, length):
    """HTK's triangles, band by band and bin by bin."""
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    filters = np.zeros((length // 2 + 1, 64))
    for band in range(64):
        below, centre, above = (hertz(top * (band + k) / 65) for k in range(3))
        for index in range(length // 2 + 1):
            f = index * sample_rate / length
            if below < f <= centre:
                filters[index, band] = (f - below) / (centre - below)
            elif centre < f < above:
                filters[index, band] = (above - f) / (above - centre)
    return filters


@pytest.mark.parametrize("rate", RATES)
def test_filters_are_triangles_on_the_mel_scale(rate):
    filters = mel_filters(rate)
    length = 2 * (len(filters) - 1)
    assert length >= 0.025 * rate
    assert np.log2(length).is_integer()
    expected = reference_filters(rate, length)
    np.testing.assert_allclose(filters, expected, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_no_band_is_empty(rate):
    assert (mel_filters(rate).max(axis=0) > 0).all()


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
def test_the_spectrogram_is_that_of_scipy(rate):
    frame, hop = round(0.025 * rate), round(0.01 * rate)
    waveforms = noise(2, rate // 4)
    filters = mel_filters(rate)
    window = scipy.signal.get_window("hann", frame)
    _, _, spectrum = scipy.signal.stft(
        waveforms.astype(np.float64),
        window=window,
        nperseg=frame,
        noverlap=frame - hop,
        nfft=2 * (len(filters) - 1),
        boundary=None,
        padded=False,
    )
    # SciPy divides by the window's sum.
    power = np.abs(spectrum * window.sum()) ** 2
    expected = np.log(power.transpose(0, 2, 1) @ filters + 1e-6)
    got = log_mel(jnp.array(waveforms), rate)
    assert got.shape == (2, 1 + (rate // 4 - frame) // hop, 64)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_tone_is_in_its_band():
    rate, band = 16000, 40
    top = 2595 * np.log10(1 + rate / 2 / 700)
    frequency = hertz(top * (band + 1) / 65)
    waveform = np.sin(2 * np.pi * frequency * np.arange(rate) / rate)
    bands = log_mel(jnp.array(waveform[None], jnp.float32), rate)
    assert (bands.argmax(-1) == band).all()


@pytest.mark.parametrize(("samples", "frames"), [(200, 1), (279, 1), (280, 2)])
def test_frames_that_do_not_fit_are_left_out(samples, frames):
    assert log_mel(jnp.zeros((1, samples)), 8000).shape == (1, frames, 64)


def test_silence_is_finite_and_becomes_zeros():
    silence = log_mel(jnp.zeros((1, 400)), 8000)
    np.testing.assert_allclose(silence, np.full(silence.shape, np.log(1e-6)), rtol=1e-6)
    np.testing.assert_allclose(standardise(silence), np.zeros(silence.shape), atol=1e-2)


def test_each_spectrogram_has_mean_zero_and_deviation_one():
    spectrograms = jnp.array(noise(2, 600).reshape(2, 10, 60)) * 5 + 3
    got = standardise(spectrograms)
    np.testing.assert_allclose(got.mean((1, 2)), np.zeros(2), atol=1e-5)
    np.testing.assert_allclose(got.std((1, 2)), np.ones(2), rtol=1e-4)


@pytest.fixture
def apply(quick_jit):
    """Returns a function: a configuration's fields and waveforms -> features."""
    spec = InputSpec((4000,), 5, sample_rate=8000)

    def create(fields):
        config = ModelConfig(width=16, depth=2, **dict(fields))
        return AudioCnn(config, spec, rngs=nnx.Rngs(0))

    @functools.partial(quick_jit, static_argnums=0)
    def features(fields, waveforms):
        return create(fields)(waveforms)

    return lambda waveforms, **fields: features(tuple(fields.items()), waveforms)


@pytest.mark.standard_promotion(reason="flax's layers need it")
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_features_have_the_compute_dtype(apply, compute_dtype):
    features = apply(noise(3, 4000), compute_dtype=compute_dtype)
    # Sixteen of the 64 bands are left after two blocks, of 32 channels each.
    assert features.shape == (3, 16 * 32)
    assert features.dtype == compute_dtype
    assert jnp.isfinite(features.astype(jnp.float32)).all()


@pytest.mark.standard_promotion(reason="flax's layers need it")
def test_the_features_of_an_example_depend_on_nothing_but_its_sound(apply):
    waveforms = noise(3, 4000)
    together = apply(waveforms)
    louder = waveforms * np.array([[1.0], [0.1], [0.0]], np.float32)
    changed = apply(louder)
    np.testing.assert_array_equal(changed[0], together[0])
    # Loudness alone changes little: the spectrogram is standardised.
    np.testing.assert_allclose(changed[1], together[1], atol=1e-2)
    assert jnp.isfinite(changed[2]).all()
    assert (changed[2] != together[2]).any()


@pytest.mark.standard_promotion(reason="flax's layers need it")
def test_it_holds_nothing_but_parameters():
    spec = InputSpec((4000,), 5, sample_rate=8000)
    model = nnx.eval_shape(lambda: AudioCnn(ModelConfig(), spec, rngs=nnx.Rngs(0)))
    nnx.split(model, nnx.Param)  # refuses what is no parameter
