"""Recordings as a task's input: encoded, cut, refused."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from train.config import Config, DataConfig, ModelConfig
from train.data.records import Records
from train.errors import ConfigError, DataError
from train.tasks.audio import AudioCodec

GOLDEN = Path(__file__).parents[1] / "models" / "golden"
RATE = 8000


def tone(seconds=0.5, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * 440.0 * np.arange(int(seconds * rate)) / rate)


def file_of(signal, kind="WAV", rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=kind)
    return file.getvalue()


def records(recordings, column="audio", origin="some.parquet"):
    values = np.empty(len(recordings), object)
    for row, recording in enumerate(recordings):
        values[row] = recording
    return Records("train", str(origin), {column: values})


def config(**fields):
    options = {"sample_rate": RATE, "seconds": 0.5} | fields
    return Config(task="audio", data=DataConfig(**options))


def fit(recordings, **fields):
    return AudioCodec.fit(config(**fields), recordings)


def test_files_structs_and_arrays_are_the_same_recording(tmp_path):
    (tmp_path / "a.flac").write_bytes(file_of(tone(), "FLAC"))
    all_kinds = records(
        [
            file_of(tone()),
            {"bytes": file_of(tone(), "FLAC"), "path": "gone.flac"},
            "a.flac",
            {"array": tone(), "sampling_rate": RATE},
            tone(),
        ],
        origin=tmp_path,
    )
    encoded = fit(all_kinds).encode(all_kinds)
    assert encoded.kept is None
    assert encoded.inputs.dtype == np.float32
    assert encoded.inputs.shape == (5, RATE // 2)
    for waveform in encoded.inputs:
        np.testing.assert_allclose(waveform, tone(), atol=2.0**-15)


def test_the_model_is_told_the_length_and_the_rate():
    spec = fit(records([tone()]), seconds=0.75).spec(9)
    assert (spec.shape, spec.num_classes, spec.sample_rate) == ((6000,), 9, RATE)


def test_a_loaded_codec_is_the_fitted_one(tmp_path):
    codec = fit(records([tone()]), input_column="sound", bad_files="skip")
    assert codec.files() == {}
    options = config(input_column="sound", bad_files="skip")
    assert AudioCodec.load(options, tmp_path) == codec


def test_how_many_are_cut_is_said_once(capsys):
    recordings = records([tone(), tone(0.6), file_of(tone(3.0)), tone(0.1)])
    fit(recordings).encode(recordings)
    assert capsys.readouterr().err.splitlines() == [
        "note: train: 2 of 4 recordings are longer than 0.5 s, and cut; "
        "--config.data.seconds sets it"
    ]
    fit(recordings, seconds=3.0).encode(recordings)
    assert not capsys.readouterr().err


def test_broken_recordings_are_refused_or_left_out(capsys):
    broken = file_of(tone())[:-10]
    recordings = records([tone(), {"bytes": broken, "path": "b.wav"}, tone(0.1)])
    with pytest.raises(DataError, match=r"1 of 3 files .* in b.wav, row 2: cut short"):
        fit(recordings).encode(recordings)
    encoded = fit(recordings, bad_files="skip").encode(recordings)
    np.testing.assert_array_equal(encoded.kept, [0, 2])
    assert not encoded.inputs[1, RATE // 10 :].any()
    assert "left out 1 of 3 files" in capsys.readouterr().err


def test_refuses_augmentation():
    with pytest.raises(ConfigError, match=r"`data.augment`: flip is for images"):
        fit(records([tone()]), augment=("flip",))


def test_refuses_less_than_a_frame():
    fit(records([tone()]), seconds=0.025)
    with pytest.raises(ConfigError, match=r"`data.seconds`: 0.02 is shorter than the"):
        fit(records([tone()]), seconds=0.02)


def test_a_pretrained_encoder_is_kept_and_hears_its_own_sample_rate(tmp_path):
    folder = Path(shutil.copytree(GOLDEN / "wav2vec2", tmp_path / "encoder"))
    content = {"sampling_rate": RATE, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))

    def encoded(**fields):
        model = ModelConfig(pretrained=str(folder))
        return dataclasses.replace(config(**fields), model=model)

    train = records([file_of(tone())])
    codec = AudioCodec.fit(encoded(), train)
    spec = codec.spec(3)
    assert (spec.shape, spec.encoder.model_type) == ((4000,), "wav2vec2")
    for name, text in codec.files().items():
        (tmp_path / name).write_text(text)
    assert AudioCodec.load(encoded(), tmp_path) == codec
    with pytest.raises(ConfigError, match=r"`data.sample_rate`: 16000, .* to 8000"):
        AudioCodec.fit(encoded(sample_rate=16000), train)
