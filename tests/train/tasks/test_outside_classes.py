"""Classes that are left out of training, a long tail, and late weights of classes."""

import json

import jax
import numpy as np
import pytest

from train.config import DataConfig, load
from train.data.records import Records
from train.errors import ConfigError, DataError
from train.loop import train_and_evaluate
from train.predict import Predictor
from train.predict import main as predict_main
from train.tasks import prepare
from train.tasks.balance import loss_weights, thin

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
FIGURES = {
    "test_outside_auroc",
    "test_outside_fpr95",
    "test_outside_recall_at_1",
    "test_outside_map",
}


def digits(*overrides):
    overrides = [f"--config.{flag}" for flag in overrides]
    return load("configs/digits.py", overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on eight of the ten digits, and its result."""
    config = digits(
        "data.outside_classes=2",
        "data.imbalance=4",
        "data.class_weights=effective",
        "data.class_weights_from=0.5",
        "training.epochs=2",
        "model.width=8",
    )
    workdir = tmp_path_factory.mktemp("outside")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return workdir, train_and_evaluate(config, workdir, quiet=True)


def test_classes_left_out_are_in_no_split_but_their_own(run):
    data = prepare(digits("data.outside_classes=2"))
    assert len(data.classes) == 8
    whole = prepare(digits())
    assert data.outside is not None
    out = len(whole.splits["test"]) - len(data.splits["test"])
    assert len(data.outside) == out > 0
    assert sorted(set(data.outside.labels)) == [0, 1]
    assert "outside" not in data.splits
    # Whatever the seed, the same ones; and a search of settings does not see them.
    other = prepare(digits("data.outside_classes=2", "seed=5"))
    assert other.classes == data.classes
    held = prepare(digits("data.outside_classes=2", "data.held_back=True"))
    assert held.outside is None
    assert held.classes == data.classes


def test_a_run_tells_of_what_is_outside(run):
    workdir, result = run
    assert result.keys() >= FIGURES
    assert result["examples"]["outside"] > 0
    assert result["metrics"]["outside_auroc"]["title"] == "AUROC, outside"
    digests = json.loads((workdir / "data.json").read_text(encoding="utf-8"))
    assert "outside" in digests
    # Unseen digits are no random features: neighbours are mostly of one class.
    assert result["test_outside_recall_at_1"] > 0.7
    assert 0.5 < result["test_outside_auroc"] <= 1.0


def test_embeddings_are_what_retrieval_is_of(run, tmp_path):
    workdir, result = run
    data = prepare(digits("data.outside_classes=2"))
    rows = Predictor(workdir).embed(list(data.outside.inputs))
    assert rows.shape == (len(data.outside), rows.shape[1])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, rtol=1e-5)
    similar = rows @ rows.T
    np.fill_diagonal(similar, -np.inf)
    labels = data.outside.labels
    found = np.mean(labels[similar.argmax(axis=1)] == labels)
    assert found == pytest.approx(result["test_outside_recall_at_1"])


def test_predict_writes_embeddings(feature_config, tmp_path):
    train_and_evaluate(feature_config, tmp_path / "run", quiet=True)
    source = tmp_path / "in.csv"
    columns = Predictor(tmp_path / "run").run.codec.columns
    source.write_text(
        ",".join(columns) + "\n" + ",".join(["0.5"] * len(columns)) + "\n",
        encoding="utf-8",
    )
    flags = ["--workdir", str(tmp_path / "run"), "--input", str(source)]
    output = tmp_path / "out.jsonl"
    assert predict_main([*flags, "--output", str(output), "--embed"]) == 0
    [line] = output.read_text(encoding="utf-8").splitlines()
    assert np.linalg.norm(json.loads(line)["embedding"]) == pytest.approx(1.0)


def test_embeddings_are_no_probabilities(run, tmp_path, capsys):
    source = tmp_path / "in.jsonl"
    source.write_text('{"image": "a.png"}\n', encoding="utf-8")
    flags = ["--workdir", str(run[0]), "--input", str(source), "--output", "-"]
    assert predict_main([*flags, "--embed", "--top-k=2"]) != 0
    assert "features are no probabilities" in capsys.readouterr().err


def test_a_split_of_its_own_needs_no_labels(
    feature_config, feature_folder, change, tmp_path
):
    columns = (feature_folder / "train.csv").read_text().splitlines()[0].split(",")
    columns.remove("label")
    row = ",".join(["9.0"] * len(columns))
    text = "\n".join([",".join(columns), *[row] * 5])
    (feature_folder / "strangers.csv").write_text(text + "\n", encoding="utf-8")
    config = change(feature_config, "data", outside="strangers")
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert {"test_outside_auroc", "test_outside_fpr95"} <= result.keys()
    assert "test_outside_map" not in result


def test_a_long_tail_falls_from_class_to_class():
    labels = np.repeat(np.array(["a", "b", "c"], object), 100)
    records = Records("train", "a table", {"label": labels})
    config = DataConfig(imbalance=100.0)
    found = thin(records, config, ("a", "b", "c")).column("label")
    assert [int((found == k).sum()) for k in "abc"] == [100, 10, 1]
    everything = thin(records, DataConfig(), ("a", "b", "c"))
    assert len(everything) == 300
    again = thin(records, config, ("a", "b", "c"))
    np.testing.assert_array_equal(
        again.numbers, thin(records, config, ("a", "b", "c")).numbers
    )


def test_weights_by_the_effective_number():
    labels = np.repeat([0, 1], [9000, 1000])
    records = Records("train", "a table", {"label": labels})
    weights = loss_weights(DataConfig(class_weights="effective"), records, labels, 2)
    beta = 0.9999
    ratio = (1 - beta**9000) / (1 - beta**1000)
    assert weights[-1] / weights[0] == pytest.approx(ratio, rel=1e-4)
    assert weights.mean() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(("start", "same_until"), [(0.0, 0), (1.0 / 3, 1), (1.0, 3)])
def test_weights_of_classes_count_from_when_they_should(
    feature_config, change, tmp_path, start, same_until
):
    config = change(feature_config, "data", imbalance=8.0)
    without = train_and_evaluate(config, tmp_path / "without", quiet=True)
    config = change(
        config,
        "data",
        imbalance=8.0,
        class_weights="balanced",
        class_weights_from=start,
    )
    late = train_and_evaluate(config, tmp_path / "late", quiet=True)
    pairs = zip(without["records"], late["records"], strict=True)
    same = [a["validation_loss"] == b["validation_loss"] for a, b in pairs]
    assert same == [True] * same_until + [False] * (3 - same_until)


@pytest.mark.parametrize(
    ("flags", "error", "message"),
    [
        (["data.outside_classes=9"], DataError, "leaves fewer than two to train on"),
        (["data.outside=x"], ConfigError, "the digits have no such split"),
        (["data.outside=x", "data.outside_classes=1"], ConfigError, "leave one out"),
        (["data.class_weights_from=0.5"], ConfigError, "no `data.class_weights`"),
    ],
)
def test_what_cannot_be_is_refused(flags, error, message):
    with pytest.raises(error, match=message):
        prepare(digits(*flags))


@pytest.mark.parametrize(
    ("key", "value"),
    [("outside_classes", 2), ("outside", "x"), ("imbalance", 10.0)],
)
def test_tasks_without_one_class_an_example_refuse(key, value):
    with pytest.raises(ConfigError, match=f"`data.{key}`"):
        prepare(load("configs/wnut17.py", [f"--config.data.{key}={value}"]))
