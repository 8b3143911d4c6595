"""A run that fine-tunes a pretrained encoder, used and exported afterwards."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file
from small_inputs import word_pieces

from train.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.export import main as export_main
from train.loop import train_and_evaluate
from train.predict import Predictor
from train.workdir.finished_run import read_run

pytestmark = [
    pytest.mark.standard_promotion(
        reason="optax's adamw and flax's layers break under strict promotion"
    ),
]


@pytest.fixture(scope="module")
def workdir(encoder, tmp_path_factory):
    """A finished run on requests of two kinds."""
    folder, workdir = (tmp_path_factory.mktemp(name) for name in ("data", "run"))
    lines = [
        json.dumps({"text": f"turn {way} {thing}", "label": way})
        for way in ("on", "off")
        for thing in ("lamp", "fan", "")
    ]
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    config = Config(
        task="text",
        data=DataConfig(source="files", path=str(folder), max_length=8),
        model=ModelConfig(pretrained=str(encoder), dropout=0.05),
        optimizer=OptimizerConfig(learning_rate=0.01),
        training=TrainingConfig(epochs=30, batch_size=8, evaluate_every=30),
    )
    # This fixture comes before the one that lifts strict promotion for each test.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        train_and_evaluate(config, workdir, quiet=True)
    return workdir


def test_training_starts_from_the_pretrained_parameters(encoder, workdir):
    finished = read_run(workdir)
    stored = load_file(encoder / "model.safetensors")
    name = next(name for name in stored if "word_embeddings" in name)
    moved = finished.params["encoder"]["words"]["embedding"] - stored[name]
    # AdamW moves a parameter by its learning rate a step at most; 30 steps were made.
    assert 0 < np.abs(moved).max() <= 30 * 0.01 * 1.1


def test_it_answers_in_another_process(workdir):
    result = json.loads((workdir / "result.json").read_text())
    assert result["validation_accuracy"] == 1.0
    answers = Predictor(workdir)(["turn on lamp", "turn off fan"])
    assert [answer["label"] for answer in answers] == ["on", "off"]


def test_the_export_holds_what_was_trained(workdir, encoder, tmp_path, capsys):
    flags = ["--compilation-cache=", f"--workdir={workdir}"]
    assert export_main([*flags, f"--output={tmp_path / 'out'}"]) == 0
    assert "checkpoint after mini-step" in capsys.readouterr().out
    finished, out = read_run(workdir), load_file(tmp_path / "out" / "model.safetensors")
    kernel = finished.params["head"]["linear"]["kernel"]
    np.testing.assert_array_equal(
        out["classifier.weight"], kernel.T / finished.calibration.temperature
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "off", "1": "on"}
    tokens = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokens.get_vocab() == word_pieces().get_vocab()

    again = Config(
        task="text",
        data=DataConfig(source="files", path=finished.config.data.path, max_length=8),
        model=ModelConfig(pretrained=str(tmp_path / "out")),
        training=TrainingConfig(epochs=1, batch_size=8),
        optimizer=OptimizerConfig(learning_rate=0.0, weight_decay=0.0),
    )
    train_and_evaluate(again, tmp_path / "again", quiet=True)
    exported = read_run(tmp_path / "again").params["encoder"]
    np.testing.assert_array_equal(
        exported["words"]["embedding"],
        finished.params["encoder"]["words"]["embedding"],
    )


@pytest.mark.parametrize("taken", ["run", "encoder"])
def test_nothing_that_the_run_needs_is_written_over(taken, workdir, encoder, capsys):
    output = {"run": workdir, "encoder": encoder}[taken]
    before = {p: p.read_bytes() for p in output.iterdir() if p.is_file()}
    flags = ["--compilation-cache=", f"--workdir={workdir}"]
    assert export_main([*flags, f"--output={output}"]) == 2
    assert "name another one" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in output.iterdir() if p.is_file()} == before


def test_refuses_a_run_without_an_encoder(feature_config, tmp_path, capsys):
    train_and_evaluate(feature_config, tmp_path / "run", quiet=True)
    flags = ["--compilation-cache=", f"--workdir={tmp_path / 'run'}"]
    assert export_main([*flags, f"--output={tmp_path / 'out'}"]) == 2
    stderr = capsys.readouterr().err
    assert "is no pretrained encoder" in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["transformers", "sentence-transformers"])
def test_refuses_an_output_layer_that_transformers_has_not(
    workdir, tmp_path, capsys, format
):
    """Cosines: of a linear layer the answers would be others."""
    config = read_run(workdir).config
    config = dataclasses.replace(
        config,
        loss=LossConfig(name="am_softmax"),
        training=dataclasses.replace(config.training, epochs=1, evaluate_every=1),
    )
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    flags = ["--workdir", str(tmp_path / "run"), "--output", str(tmp_path / "out")]
    assert export_main([*flags, "--format", format]) == 2
    said = capsys.readouterr().err
    assert "the output layer" in said
    assert "--format stablehlo takes every model" in said
    assert not (tmp_path / "out").exists()
