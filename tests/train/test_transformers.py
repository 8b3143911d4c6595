"""What transformers answers from an exported folder, by the calls that users make."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_inputs import word_pieces

from train.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.errors import ConfigError
from train.export import export_run
from train.loop import train_and_evaluate
from train.predict import Predictor

transformers = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.standard_promotion(
        reason="optax's adamw and flax's layers break under strict promotion"
    ),
    pytest.mark.filterwarnings("default"),
]
GOLDEN = Path(__file__).parent / "models" / "golden"
TEXTS = ["turn on lamp", "off", "turn off the fan", "play music on"]
ROWS = {
    "text": [{"text": text, "label": text[:2]} for text in TEXTS],
    "multi_label": [{"text": text, "label": text.split()[:2]} for text in TEXTS],
    "tokens": [
        {"tokens": text.split(), "label": ["B-x"] + ["O"] * text.count(" ")}
        for text in TEXTS
    ],
}


@pytest.fixture(params=["mean", "cls"])
def pooling(request):
    return request.param


@pytest.fixture
def newer(tmp_path):
    """Returns a function: the folder of a small encoder of a family."""

    def copy(family):
        folder = Path(shutil.copytree(GOLDEN / family, tmp_path / family))
        word_pieces().save(str(folder / "tokenizer.json"))
        return folder

    return copy


def exported(task, encoder, folder, pooling="mean", **model):
    """A run of a few steps, its predictor, and its folder for transformers."""
    folder.joinpath("data").mkdir()
    for split in ("train", "validation"):
        lines = "\n".join(map(json.dumps, ROWS[task]))
        (folder / "data" / f"{split}.jsonl").write_text(lines)
    loss = "multi_label_as_softmax" if task == "multi_label" else "as_softmax"
    config = Config(
        task=task,
        data=DataConfig(source="files", path=str(folder / "data"), max_length=8),
        loss=LossConfig(name=loss),
        model=ModelConfig(
            pretrained=str(encoder), pooling=pooling, dropout=0.0, **model
        ),
        optimizer=OptimizerConfig(learning_rate=0.01),
        training=TrainingConfig(epochs=8, batch_size=8),
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        train_and_evaluate(config, folder / "run", quiet=True)
        export_run(folder / "run", folder / "out")
    return Predictor(folder / "run"), str(folder / "out")


def test_one_class(encoder, tmp_path, pooling):
    predictor, folder = exported("text", encoder, tmp_path, pooling)
    assert abs(predictor.run.calibration.temperature - 1) > 0.01
    pipe = transformers.pipeline(
        "text-classification", folder, trust_remote_code=True, truncation=True
    )
    texts = [*TEXTS, "music " * 30]
    for theirs in (pipe(texts), pipe(texts, batch_size=5)):
        for mine, other in zip(predictor(texts), theirs, strict=True):
            assert other["label"] == mine["label"]
            assert other["score"] == pytest.approx(mine["probability"], abs=1e-5)


def test_one_changed_weight_shows(encoder, tmp_path):
    predictor, folder = exported("text", encoder, tmp_path)
    file = Path(folder, "model.safetensors")
    weights = load_file(file)
    weights["classifier.bias"][0] += 0.1
    save_file(weights, file, metadata={"format": "pt"})
    pipe = transformers.pipeline("text-classification", folder, trust_remote_code=True)
    for mine, theirs in zip(predictor(TEXTS), pipe(TEXTS), strict=True):
        assert abs(theirs["score"] - mine["probability"]) > 1e-4


def test_several_labels(encoder, tmp_path, pooling):
    predictor, folder = exported("multi_label", encoder, tmp_path, pooling)
    pipe = transformers.pipeline(
        "text-classification", folder, trust_remote_code=True, top_k=None
    )
    for mine, theirs in zip(predictor(TEXTS), pipe(TEXTS), strict=True):
        threshold = pipe.model.config.label_threshold
        chosen = [answer for answer in theirs if answer["score"] > threshold]
        assert [answer["label"] for answer in chosen] == mine["labels"]
        scores = [answer["score"] for answer in chosen]
        np.testing.assert_allclose(scores, mine["probabilities"], atol=1e-5)


def test_tags(encoder, tmp_path):
    predictor, folder = exported("tokens", encoder, tmp_path)
    pipe = transformers.pipeline("token-classification", folder, ignore_labels=[])
    for text in TEXTS:
        (mine,) = predictor([text.split()])
        theirs = pipe(text)
        # Each of these words is one piece.
        assert [answer["entity"] for answer in theirs] == mine["tags"]
        scores = [answer["score"] for answer in theirs]
        np.testing.assert_allclose(scores, mine["probabilities"], atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("family", ["modernbert", "deberta-v2"])
def test_one_class_of_newer_encoders(family, newer, tmp_path, pooling):
    predictor, folder = exported("text", newer(family), tmp_path, pooling)
    pipe = transformers.pipeline(
        "text-classification", folder, trust_remote_code=True, truncation=True
    )
    texts = [*TEXTS, "music " * 30]
    for theirs in (pipe(texts), pipe(texts, batch_size=5)):
        for mine, other in zip(predictor(texts), theirs, strict=True):
            assert other["label"] == mine["label"]
            assert other["score"] == pytest.approx(mine["probability"], abs=1e-5)


@pytest.mark.long
def test_tags_of_deberta(newer, tmp_path):
    predictor, folder = exported("tokens", newer("deberta-v2"), tmp_path)
    pipe = transformers.pipeline("token-classification", folder, ignore_labels=[])
    for text in TEXTS:
        (mine,) = predictor([text.split()])
        theirs = pipe(text)
        assert [answer["entity"] for answer in theirs] == mine["tags"]
        scores = [answer["score"] for answer in theirs]
        np.testing.assert_allclose(scores, mine["probabilities"], atol=1e-5)


@pytest.mark.long
def test_low_rank_changes_are_merged(encoder, tmp_path):
    predictor, folder = exported(
        "text", encoder, tmp_path, lora_rank=2, lora_targets=("query", "contract")
    )
    pipe = transformers.pipeline("text-classification", folder, trust_remote_code=True)
    for mine, theirs in zip(predictor(TEXTS), pipe(TEXTS), strict=True):
        assert theirs["label"] == mine["label"]
        assert theirs["score"] == pytest.approx(mine["probability"], abs=1e-5)


def test_it_is_not_loaded_as_what_it_is_not(encoder, tmp_path):
    _, folder = exported("text", encoder, tmp_path)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        transformers.pipeline("text-classification", folder, trust_remote_code=False)


@pytest.mark.parametrize("task", ["text", "multi_label"])
def test_sentence_transformers_scores_without_trust(encoder, tmp_path, pooling, task):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    predictor, _ = exported(task, encoder, tmp_path, pooling)
    folder = tmp_path / "sentence"
    export_run(tmp_path / "run", folder, "sentence-transformers")
    assert not list(folder.rglob("*.py"))
    model = sentence_transformers.SentenceTransformer(str(folder))
    texts = [*TEXTS, "music " * 30]
    scores = model.encode(texts, convert_to_tensor=True)
    p = scores.softmax(dim=-1) if task == "text" else scores.sigmoid()
    config = model[0].auto_model.config
    for row, answer in zip(
        p.tolist(), predictor(texts, all_probabilities=True), strict=True
    ):
        by_class = answer["probabilities_by_class"]
        for number, name in config.id2label.items():
            assert row[number] == pytest.approx(by_class[name], abs=1e-5)
        if task == "multi_label":
            chosen = {
                config.id2label[k]
                for k, score in enumerate(row)
                if score > config.label_threshold
            }
            assert chosen == set(answer["labels"])


def test_tags_have_no_layout_of_sentence_transformers(encoder, tmp_path):
    exported("tokens", encoder, tmp_path)
    with pytest.raises(ConfigError, match="--format transformers holds tags"):
        export_run(tmp_path / "run", tmp_path / "sentence", "sentence-transformers")
