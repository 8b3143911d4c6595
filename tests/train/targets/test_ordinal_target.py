"""Classes in order: their order, how far answers are off, thresholds to answers."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.metrics import cohen_kappa_score
from small_runs import write_csv

from as_softmax_jax.losses import ordinal_cross_entropy_loss
from train.config import DataConfig
from train.data.records import Records
from train.errors import ConfigError, DataError
from train.evaluate import evaluate_run
from train.loop import train_and_evaluate
from train.models.heads import Thresholds, as_linear, class_scores
from train.predict import Predictor
from train.survey.proposal import Given, propose_for
from train.targets.ordinal import (
    Ordinal,
    mean_absolute_error,
    quadratic_weighted_kappa,
)
from train.tasks import find_task, prepare
from train.workdir.log import RunLog

ORDER = ("low", "middle", "high")


def records(labels):
    return Records("train", "train.csv", {"label": np.array(labels, object)})


def test_numbers_are_in_their_order():
    found = Ordinal().find_classes(records([10, 9, -1, 10]), DataConfig())
    assert found == (-1, 9, 10)


def test_names_are_in_the_order_that_is_given():
    config = DataConfig(class_order=ORDER)
    found = Ordinal().find_classes(records(["high", "low", "middle"]), config)
    assert found == ORDER
    config = DataConfig(class_order=("3", "1", "2"))
    assert Ordinal().find_classes(records([1, 2, 3]), config) == (3, 1, 2)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ((), "do not say their order; give it .* --config.data.class_order=low,middle"),
        (("low", "high"), "must name each label of train.csv once: 'middle' is not"),
        ((*ORDER, "top"), "'top' is no label there"),
        ((*ORDER, "low"), "names a label twice"),
    ],
)
def test_an_order_that_does_not_fit_is_refused(order, message):
    with pytest.raises(DataError, match=message):
        Ordinal().find_classes(records(ORDER), DataConfig(class_order=order))


def test_an_order_without_an_ordinal_task_is_refused(feature_config, change):
    config = change(feature_config, "data", class_order=ORDER)
    with pytest.raises(ConfigError, match="the classes of features are in no order"):
        prepare(config)


@pytest.mark.parametrize("name", ["text", "image", "audio", "features"])
def test_each_kind_of_input_has_a_task(name):
    plain, ordinal = find_task(name), find_task(f"ordinal_{name}")
    assert (plain.target.ordered, ordinal.target.ordered) == (False, True)
    assert (ordinal.codec, ordinal.models) == (plain.codec, plain.models)
    assert ordinal.augment is plain.augment


def test_a_configuration_for_ordered_classes_is_proposed():
    table = {"x": np.arange(40.0), "label": np.arange(40) % 4 + 1}
    train = Records("train", "train.csv", table)
    proposal = propose_for({"train": train}, Given(task="ordinal_features"))
    assert proposal.config.task == "ordinal_features"
    plain = propose_for({"train": train}, Given(task="features"))
    assert dataclasses.replace(proposal.config, task="features") == plain.config
    with pytest.raises(ConfigError, match="no 'ordinal_tokens'"):
        propose_for({"train": train}, Given(task="ordinal_tokens"))


def test_how_far_answers_are_off():
    labels, answers = [0, 0, 1, 2, 2, 2, 3], [0, 1, 1, 0, 2, 3, 3]
    counts = np.zeros((4, 4), int)
    np.add.at(counts, (labels, answers), 1)
    assert mean_absolute_error(counts) == (1 + 2 + 1) / 7
    expected = cohen_kappa_score(labels, answers, weights="quadratic")
    assert quadratic_weighted_kappa(counts) == pytest.approx(expected)
    assert quadratic_weighted_kappa(np.diag([3, 0, 2])) == 1
    assert quadratic_weighted_kappa(np.diag([3, 0])) == 1
    # All of the highest, whatever the label.
    assert quadratic_weighted_kappa(np.array([[0, 2], [0, 2]])) == 0


def test_metrics_are_of_the_largest_score():
    logits = np.eye(3, dtype=np.float32)[[0, 2, 0, 1]]
    figures = Ordinal().score(logits, np.array([0, 2, 2, 0]), ORDER)
    assert figures["accuracy"] == 0.5
    assert figures["mean_absolute_error"] == (2 + 1) / 4
    assert {m.name for m in Ordinal.metrics} >= {*figures} - {"ece"}


def test_the_answer_is_the_number_of_thresholds_passed():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(-np.sort(-rng.normal(size=(100, 4)) * 3), jnp.float32)
    scores = class_scores("thresholds", logits)
    np.testing.assert_array_equal(scores.argmax(axis=1), (logits > 0).sum(axis=1))
    # And the differences of scores are those of the losses.
    for k in range(4):
        loss, other = (
            ordinal_cross_entropy_loss(logits, jnp.full(100, c)) for c in (k, k + 1)
        )
        np.testing.assert_allclose(
            loss - other, scores[:, k + 1] - scores[:, k], rtol=1e-4, atol=1e-5
        )
    assert class_scores("linear", logits) is logits


@pytest.mark.standard_promotion(reason="flax's layers break under strict promotion")
def test_the_layer_has_one_score_and_no_threshold_above_the_one_before():
    layer = Thresholds(4, 6, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    layer.steps[...] = jnp.array([-9.0, 0.0, 3.0, -50.0])
    logits = np.asarray(layer(jnp.ones((3, 2, 4))))
    assert logits.shape == (3, 2, 5)
    assert (np.diff(logits) <= 0).all()
    two = Thresholds(4, 2, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    assert two(jnp.ones((3, 4))).shape == (3, 1)


@pytest.mark.parametrize("steps", [[-9.0, 0.0, 3.0, 1.0], []])
@pytest.mark.standard_promotion(reason="flax's layers break under strict promotion")
def test_a_linear_layer_gives_the_same_scores(steps):
    dtype = jnp.dtype("float32")
    layer = Thresholds(4, len(steps) + 2, dtype=dtype, rngs=nnx.Rngs(0))
    if steps:
        layer.steps[...] = jnp.array(steps)
    layer.linear.bias[...] = jnp.array([0.7])
    params = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
    linear = as_linear("thresholds", params)["linear"]
    features = jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)), jnp.float32)
    np.testing.assert_allclose(
        features @ linear["kernel"] + linear["bias"],
        class_scores("thresholds", layer(features)),
        rtol=1e-5,
        atol=1e-5,
    )
    assert as_linear("linear", params) is params


@pytest.fixture
def ordinal_config(feature_config, change, tmp_path):
    """Four ratings along one number, with noise."""
    rng, folder = np.random.default_rng(0), tmp_path / "ratings"
    folder.mkdir()
    for split, n in (("train", 96), ("validation", 40), ("test", 40)):
        x = rng.uniform(-2, 2, n)
        stars = np.clip(np.round(x + rng.normal(size=n) * 0.3 + 2), 1, 4).astype(int)
        rows = [f"{a:.4f},{b}" for a, b in zip(x, stars, strict=True)]
        write_csv(folder / f"{split}.csv", rows, header="x,label")
    config = change(feature_config, "data", path=str(folder))
    config = change(config, "loss", name="ordinal_cross_entropy", delta=None)
    config = change(config, "training", epochs=12)
    return dataclasses.replace(config, task="ordinal_features")


@pytest.mark.parametrize(
    ("loss", "head"),
    [("ordinal_cross_entropy", ""), ("softmax", ""), ("softmax", "fourier")],
)
@pytest.mark.standard_promotion(reason="optax breaks under strict promotion")
def test_a_run_has_its_metrics_and_answers(
    ordinal_config, change, tmp_path, loss, head, capsys
):
    config = change(ordinal_config, "loss", name=loss)
    config = change(config, "model", head=head)
    result = train_and_evaluate(config, tmp_path / "run")
    assert "classes in order: 1 < 2 < 3 < 4" in capsys.readouterr().out
    assert result["classes"] == [1, 2, 3, 4]
    assert result["test_accuracy"] > 0.6
    assert result["test_quadratic_weighted_kappa"] > 0.8
    assert result["test_mean_absolute_error"] < 0.4
    assert result["metrics"]["mean_absolute_error"]["larger_is_better"] is False
    again = evaluate_run(tmp_path / "run", "test")
    for name in ("loss", "mean_absolute_error", "quadratic_weighted_kappa"):
        assert again[f"test_{name}"] == pytest.approx(result[f"test_{name}"])
    answers = Predictor(tmp_path / "run")([{"x": x} for x in (-2.0, -0.1, 2.0)])
    labels = [answer["label"] for answer in answers]
    assert labels == sorted(labels)
    assert (labels[0], labels[-1]) == (1, 4)


@pytest.mark.standard_promotion(reason="optax breaks under strict promotion")
def test_two_classes_have_one_threshold(ordinal_config, change, tmp_path):
    """And no steps between thresholds, so no array of nothing in a checkpoint."""
    folder = Path(ordinal_config.data.path)
    for split in ("train", "validation", "test"):
        text = (folder / f"{split}.csv").read_text(encoding="utf-8")
        rows = [line.split(",") for line in text.splitlines()[1:]]
        halves = [f"{x},{1 + (int(stars) > 2)}" for x, stars in rows]
        write_csv(folder / f"{split}.csv", halves, header="x,label")
    result = train_and_evaluate(ordinal_config, tmp_path / "run", quiet=True)
    assert result["classes"] == [1, 2]
    assert result["test_accuracy"] > 0.9
    answers = Predictor(tmp_path / "run")([{"x": x} for x in (-2.0, 2.0)])
    assert [answer["label"] for answer in answers] == [1, 2]


@pytest.mark.standard_promotion(reason="optax breaks under strict promotion")
def test_a_killed_run_goes_on_bit_by_bit(ordinal_config, change, tmp_path, monkeypatch):
    config = change(ordinal_config, "training", epochs=3)
    whole = train_and_evaluate(config, tmp_path / "whole", quiet=True)
    original, steps = RunLog.mini_step, iter(range(1, 100))

    def killed(self, state):
        original(self, state)
        if next(steps) == 8:
            raise RuntimeError("as if killed")

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "mini_step", killed)
        with pytest.raises(RuntimeError, match="as if killed"):
            train_and_evaluate(config, tmp_path / "run", quiet=True)
    resumed = train_and_evaluate(config, tmp_path / "run", quiet=True)
    for result in (whole, resumed):
        del result["seconds"]
        for record in result["records"]:
            del record["seconds"]
    assert json.dumps(resumed) == json.dumps(whole)
