"""Fixtures of small data and small configurations, for tests of the trainer."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from train.config import (
    Config,
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)

NUM_CLASSES = 3


def write_csv(path, rows, header="x,y,label"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def feature_rows(n, seed):
    """Three clouds of points in the plane, 2 apart, as lines of CSV."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % NUM_CLASSES
    points = rng.normal(size=(n, 2)) + 2.0 * np.stack([labels, -labels], axis=1)
    return [
        f"{x:.6f},{y:.6f},class-{k}" for (x, y), k in zip(points, labels, strict=True)
    ]


@pytest.fixture
def feature_folder(tmp_path):
    """82 training, 23 validation and 17 test rows: no batch of 16 comes out even."""
    folder = tmp_path / "data"
    folder.mkdir()
    for seed, (split, n) in enumerate(
        [("train", 82), ("validation", 23), ("test", 17)]
    ):
        write_csv(folder / f"{split}.csv", feature_rows(n, seed))
    return folder


@pytest.fixture
def feature_config(feature_folder):
    """A perceptron on the table, three epochs of six batches on one device."""
    return Config(
        task="features",
        data=DataConfig(
            source="files",
            path=str(feature_folder),
            train="train.csv",
            validation="validation.csv",
            test="test.csv",
        ),
        model=ModelConfig(width=8, depth=1),
        loss=LossConfig(name="as_softmax", delta=0.1),
        optimizer=OptimizerConfig(learning_rate=0.05),
        training=TrainingConfig(epochs=3, batch_size=16),
        mesh=MeshConfig(data=1),
    )


@pytest.fixture
def change():
    """Returns a function: a configuration with fields of a section replaced."""

    def replace(config, section, **fields):
        inner = dataclasses.replace(getattr(config, section), **fields)
        return dataclasses.replace(config, **{section: inner})

    return replace


@pytest.fixture
def compiled():
    """The seconds of each program that XLA compiles."""
    seconds = []

    def listen(event, duration, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            seconds.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seconds
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def quick_jit():
    """`jax.jit` for what runs once or twice: compiled fast, not well."""
    return functools.partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 0}
    )


@pytest.fixture
def text_folder(tmp_path):
    """Requests of two kinds as JSON Lines, validation and test alike."""
    folder = tmp_path / "requests"
    folder.mkdir()
    things = ["lamp", "heating", "radio", "door", "window", "oven", "alarm", "fan"]
    lines = [
        f'{{"text": "please turn {way} the {thing}", "label": "{way}"}}'
        for thing in things
        for way in ("on", "off")
    ]
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A folder with a small encoder of random parameters."""
    # It needs what the library does without.
    from small_inputs import write_encoder

    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder)
    return folder
