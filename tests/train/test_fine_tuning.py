"""Runs that fine-tune small encoders of every kind of input: trained, used again."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from small_inputs import word_pieces, write_data

from train.config import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.errors import ConfigError
from train.export import export_run
from train.loop import train_and_evaluate
from train.models.pretrained import load_weights, read_encoder_config
from train.predict import Predictor
from train.workdir.finished_run import read_run

pytestmark = [
    pytest.mark.long,
    pytest.mark.standard_promotion(
        reason="optax's adamw and flax's layers break under strict promotion"
    ),
]
GOLDEN = Path(__file__).parent / "models" / "golden"
PREPARED = {
    "size": {"height": 8, "width": 8},
    "image_mean": [0.5] * 3,
    "image_std": [0.25] * 3,
    "sampling_rate": 8000,
}


@pytest.fixture
def fine_tune(tmp_path):
    """Returns a function: the configuration and the folder of a finished run."""

    def run(task, family, data=None, optimizer=None, **model):
        folder = Path(shutil.copytree(GOLDEN / family, tmp_path / "encoder"))
        word_pieces().save(str(folder / "tokenizer.json"))
        (folder / "preprocessor_config.json").write_text(json.dumps(PREPARED))
        write_data(task, tmp_path / "data")
        fields = {"source": "files", "path": str(tmp_path / "data")}
        config = Config(
            task=task,
            data=DataConfig(**fields | (data or {})),
            model=ModelConfig(pretrained=str(folder), **model),
            optimizer=OptimizerConfig(learning_rate=0.01, **optimizer or {}),
            training=TrainingConfig(epochs=6, batch_size=8, evaluate_every=6),
            mesh=MeshConfig(data=1),
        )
        train_and_evaluate(config, tmp_path / "run", quiet=True)
        params = read_run(tmp_path / "run").params
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
        return config, tmp_path / "run"

    return run


def moved(config, run, reads):
    """For each parameter of the encoder, whether training has moved it."""
    folder = Path(config.model.pretrained)
    began = load_weights(folder, read_encoder_config(folder, reads)).params
    trained = read_run(run).params["encoder"]
    return jax.tree.map(lambda a, b: bool((a != b).any()), trained, began)


@pytest.mark.parametrize("family", ["vit", "convnext"])
def test_images(family, fine_tune, tmp_path):
    config, run = fine_tune("image", family, {"augment": ("flip",)})
    assert all(jax.tree.leaves(moved(config, run, "images")))
    shutil.rmtree(config.model.pretrained)
    (answer,) = Predictor(run)([np.zeros((20, 30, 3), np.uint8)])
    assert answer["label"] in ("class-0", "class-1")
    with pytest.raises(ConfigError, match="reads no text"):
        export_run(run, tmp_path / "out")


def test_images_by_low_rank_changes_and_layers(fine_tune):
    model = {"lora_rank": 2, "lora_targets": ("expand", "contract")}
    layers = {"layer_decay": 0.5}
    config, run = fine_tune("image", "convnext", optimizer=layers, **model)
    assert not any(jax.tree.leaves(moved(config, run, "images")))
    changes = read_run(run).params["lora"]["blocks"]
    assert [set(block) for block in changes.values()] == [{"expand", "contract"}] * 3
    assert all(change["up"].any() for b in changes.values() for change in b.values())


@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-large"])
def test_recordings(family, fine_tune):
    # As these encoders are fine-tuned: without their convolutions.
    data = {"sample_rate": 8000, "seconds": 0.1}
    config, run = fine_tune("audio", family, data, freeze="embeddings")
    moves = moved(config, run, "audio")
    assert all(jax.tree.leaves(moves["blocks"]))
    assert not any(jax.tree.leaves(moves["convolutions"]))
    (answer,) = Predictor(run)([np.ones(500, np.float32)])
    assert answer["label"] in ("class-0", "class-1")


@pytest.mark.parametrize("family", ["modernbert", "deberta-v2"])
def test_tags(family, fine_tune):
    data = {"max_length": 8, "label_column": "tags"}
    config, run = fine_tune("tokens", family, data, dropout=0.1)
    assert moved(config, run, "text")["blocks"][0]["expand"]["kernel"]
    (answer,) = Predictor(run)([["turn", "on", "lamp"]])
    assert len(answer["tags"]) == 3
