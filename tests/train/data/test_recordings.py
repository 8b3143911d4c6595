"""Decoding recordings: formats, channels, sample rates, lengths, broken files."""

import io

import numpy as np
import pytest
import soundfile

from train.data import mp3
from train.data.media import CannotDecodeError
from train.data.recordings import _ratio, decode_audio

RATE = 8000


def tone(frequency=440.0, seconds=0.5, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)


def encode(signal, kind="WAV", rate=RATE, **options):
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=kind, **options)
    return file.getvalue()


def decode(content, samples=RATE // 2, rate=RATE):
    return decode_audio(content, sample_rate=rate, samples=samples)


# Half a step of 16 bits; OGG loses more.
@pytest.mark.parametrize(
    ("kind", "tolerance"), [("WAV", 2.0**-15), ("FLAC", 2.0**-15), ("OGG", 0.05)]
)
def test_a_file_gives_its_samples(kind, tolerance):
    waveform = decode(encode(tone(), kind))
    assert waveform.samples.dtype == np.float32
    assert waveform.samples.shape == (RATE // 2,)
    assert not waveform.cut
    np.testing.assert_allclose(waveform.samples, tone(), atol=tolerance)


def test_channels_become_their_mean():
    stereo = np.stack([tone(), np.zeros(RATE // 2)], axis=1)
    waveform = decode(encode(stereo, subtype="FLOAT"))
    np.testing.assert_allclose(waveform.samples, tone() / 2, atol=1e-6)


@pytest.mark.parametrize(("have", "want"), [(44100, 16000), (8000, 16000)])
def test_another_sample_rate_gives_the_same_tone(have, want):
    content = encode(tone(rate=have), rate=have, subtype="FLOAT")
    waveform = decode(content, samples=want // 2, rate=want)
    assert not waveform.cut
    # At the ends the filter sees silence.
    inside = slice(want // 20, -want // 20)
    expected = tone(rate=want)
    np.testing.assert_allclose(waveform.samples[inside], expected[inside], atol=2e-3)


def test_a_tone_that_the_new_rate_cannot_hold_is_gone():
    content = encode(tone(6000.0, rate=16000), rate=16000)
    assert np.abs(decode(content).samples[400:-400]).max() < 0.01


def test_a_short_recording_is_padded_with_zeros_at_its_end():
    samples, cut = decode(encode(tone()), samples=RATE)
    assert not cut
    np.testing.assert_allclose(samples[: RATE // 2], tone(), atol=2.0**-15)
    assert not samples[RATE // 2 :].any()


@pytest.mark.parametrize("rate", [RATE, 16000])
def test_a_long_recording_is_cut_at_its_end_and_says_so(rate):
    # Beyond the part that is read for the filter's sake, too.
    for seconds in (0.51, 0.6, 3.0):
        content = encode(tone(seconds=seconds, rate=rate), rate=rate, subtype="FLOAT")
        samples, cut = decode(content)
        assert cut
        inside = slice(400, None)
        np.testing.assert_allclose(samples[inside], tone()[inside], atol=2e-3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
def test_a_file_cut_short_cannot_be_decoded(kind):
    content = encode(tone(), kind)
    for length in (len(content) - 200, len(content) // 2, 60, 10, 0):
        with pytest.raises(CannotDecodeError):
            decode(content[:length])


def test_a_wav_file_of_unknown_size_is_read_to_its_end():
    content = encode(tone())
    piped = content[:4] + b"\xff\xff\xff\xff" + content[8:]
    np.testing.assert_array_equal(decode(piped).samples, decode(content).samples)


def test_a_broken_file_says_why_on_one_line():
    content = bytearray(encode(tone(), "FLAC"))
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    with pytest.raises(CannotDecodeError, match=r"^no recording in order: \w[^<>\n]*$"):
        decode(bytes(content))
    with pytest.raises(CannotDecodeError, match="Format not recognised"):
        decode(b"this is no recording")


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([0.5, -1.0]), [0.5, -1.0]),
        (np.array([16384, -32768], np.int16), [0.5, -1.0]),
        # What TFDS makes of a file of 16 bits.
        (np.array([16384, -32768], np.int64), [0.5, -1.0]),
        (np.array([64, -128], np.int8), [0.5, -1.0]),
        (np.array([[0.5, 0.0], [0.5, -1.0], [0.0, 0.0]]), [0.25, -0.25, 0.0]),
        (np.array([[0.5, 0.5, 0.0], [0.0, -1.0, 0.0]]), [0.25, -0.25, 0.0]),
    ],
)
def test_an_array_is_a_recording(array, expected):
    waveform = decode(array, samples=len(expected))
    np.testing.assert_array_equal(waveform.samples, np.float32(expected), strict=True)


def test_an_array_may_bring_its_sample_rate():
    struct = {"array": tone(rate=16000), "sampling_rate": 16000}
    waveform = decode(struct)
    np.testing.assert_allclose(waveform.samples[400:-400], tone()[400:-400], atol=2e-3)
    unknown = decode({"array": tone(), "sampling_rate": None})
    np.testing.assert_array_equal(unknown.samples, np.float32(tone()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([]), "without a sample"),
        (encode(np.zeros(0)), "without a sample"),
        (np.array([0.0, np.nan]), "not finite"),
        (encode(np.array([0.0, np.inf]), subtype="FLOAT"), "not finite"),
        (np.array(["a"]), r"an array <U1\[1\] is no recording"),
        (np.zeros((2, 2, 2)), r"an array float64\[2, 2, 2\] is no recording"),
    ],
)
def test_what_is_no_recording_cannot_be_decoded(content, message):
    with pytest.raises(CannotDecodeError, match=message):
        decode(content)


def growing(seconds=2.0, rate=16000):
    """Quiet at first and loud later, so that a variable bit rate varies."""
    noise = np.random.default_rng(0).normal(size=int(seconds * rate))
    return 0.1 * noise * (np.arange(len(noise)) > len(noise) / 2)


def without_table(content):
    """An MP3 file without its first frame, which tells how many there are."""
    start = mp3._after_tags(content)
    return content[:start] + content[start + mp3._frame(content, start).size :]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_that_does_not_tell_its_length_is_read_whole(rate, channels):
    signal = np.stack([growing(rate=rate)] * channels, axis=1)
    content = without_table(encode(signal, "MP3", rate=rate))
    guessed = soundfile.info(io.BytesIO(content)).frames
    assert abs(guessed - len(signal)) > rate / 2, "the guess is far off"
    read = soundfile.read(io.BytesIO(mp3.with_length(content)))[0]
    # To a frame or two at its ends, which hold the encoder's silence.
    assert abs(len(read) - len(signal)) < 2 * 1152
    decoded = decode(content, samples=2 * rate, rate=rate).samples
    assert np.abs(decoded[-rate // 2 : -2304]).max() > 0.1


@pytest.mark.parametrize("kind", ["MP3", "WAV", "FLAC", "OGG"])
def test_what_tells_its_length_stays_as_it_is(kind):
    content = encode(growing(), kind, rate=16000)
    assert mp3.with_length(content) == content


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64])
def test_integers_of_16_bits_are_what_16_bit_files_hold(dtype):
    samples = np.round(tone() * 2**15).astype(dtype)
    np.testing.assert_allclose(decode(samples).samples, tone(), atol=2.0**-15)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integers_at_a_scale_of_32_bits_are_not_louder(dtype):
    samples = np.round(tone() * (2**31 - 1)).astype(dtype)
    np.testing.assert_allclose(decode(samples).samples, tone(), atol=1e-6)


def test_a_wav_file_whose_size_was_never_written_is_read():
    content = bytearray(encode(tone()))
    place = content.find(b"data")
    content[4:8] = content[place + 4 : place + 8] = bytes(4)
    np.testing.assert_allclose(decode(bytes(content)).samples, tone(), atol=2.0**-15)


def test_a_flac_file_that_does_not_tell_its_length_is_refused():
    content = bytearray(encode(tone(), "FLAC"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    with pytest.raises(CannotDecodeError, match="does not tell its length"):
        decode(bytes(content))


@pytest.mark.parametrize("have", [44101, 44099])
def test_odd_rates_give_the_same_tone(have):
    content = encode(tone(rate=have), rate=have, subtype="FLOAT")
    waveform = decode(content, samples=RATE // 2)
    inside = slice(RATE // 20, -RATE // 20)
    np.testing.assert_allclose(waveform.samples[inside], tone()[inside], atol=2e-3)


@pytest.mark.parametrize("have", [7999, 16001, 44101, 47999, 191999])
def test_odd_rates_need_no_long_filter(have):
    ratio = _ratio(have, RATE)
    assert ratio.denominator <= 4096
    assert float(ratio) == pytest.approx(RATE / have, abs=1 / have)
