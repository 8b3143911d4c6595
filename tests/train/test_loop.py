"""A run from end to end: what it learns, what it writes, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import train
from train import loop
from train.command.signals import Stopped
from train.config import Config, DataConfig, ModelConfig, TrainingConfig, as_dict
from train.errors import ConfigError
from train.evaluation import evaluation
from train.evaluation.evaluation import evaluate
from train.loop import initial_state, train_and_evaluate
from train.predict import Predictor
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.workdir.log import RunLog

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)

ROOT = Path(train.__file__).parents[1]


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def without_seconds(record):
    return {name: value for name, value in record.items() if name != "seconds"}


def test_a_run_learns_and_leaves_its_figures(feature_config, tmp_path):
    workdir = tmp_path / "run"
    result = train_and_evaluate(feature_config, workdir, quiet=True)

    logged = records(workdir)
    assert [record["epoch"] for record in logged] == [1, 2, 3]
    assert [record["mini_steps"] for record in logged] == [6, 12, 18]
    assert [record["gradient_steps"] for record in logged] == [6, 12, 18]
    # 82 rows in six batches of 16: the 14 that pad are not counted.
    assert [record["examples_seen"] for record in logged] == [82, 164, 246]
    assert logged[-1]["train_loss"] < logged[0]["train_loss"]
    assert logged[-1]["validation_accuracy"] > 0.8
    assert logged[-1]["delta"] == pytest.approx(0.1)
    assert logged[-1]["learning_rate"] == 0.0
    assert 0 < logged[-1]["settled_share"] < 1

    assert result == json.loads((workdir / "result.json").read_text())
    assert result["config"] == as_dict(feature_config)
    assert result["classes"] == ["class-0", "class-1", "class-2"]
    assert result["num_classes"] == 3
    best = max(record["validation_accuracy"] for record in logged)
    assert result["validation_accuracy"] == best
    assert result["records"] == logged
    assert 0 <= result["test_accuracy"] <= 1
    assert json.loads((workdir / "classes.json").read_text()) == result["classes"]
    assert list(workdir.glob("events.out.tfevents.*"))
    assert not list(workdir.glob("*.partial"))

    assert result["calibration"] == json.loads(
        (workdir / "calibration.json").read_text()
    )
    assert sum(result["margins"]["before"]) == sum(result["margins"]["after"]) == 23
    margins = np.load(workdir / "margins.npz")
    assert margins["before"].shape == margins["after"].shape == (23,)
    assert margins["after"].mean() > margins["before"].mean()
    share_right = (margins["after"] > 0).mean()
    assert share_right == pytest.approx(result["validation_accuracy"])
    counts = np.histogram(margins["after"], result["margins"]["edges"])[0]
    assert result["margins"]["after"] == counts.tolist()
    assert result["margin_unit"] == "probability"


def test_a_run_with_a_margin_in_logits_speaks_of_logits(
    feature_config, change, tmp_path
):
    margin = {"delta": None, "logit_margin": 1.0, "logit_margin_warmup": 0.5}
    config = change(feature_config, "loss", **margin, margin_end_share=0.1)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    logged = records(tmp_path / "run")
    # Softmax in the end: infinity, which JSON does not hold.
    assert logged[-1]["logit_margin"] is None
    # After one of one and a half epochs the ratio e^-m is two thirds of e^-1.
    expected = 1.0 - np.log(2 / 3)
    assert logged[0]["logit_margin"] == pytest.approx(expected, abs=1e-6)
    assert "delta" not in logged[0]

    margins = np.load(tmp_path / "run" / "margins.npz")
    assert result["margin_unit"] == "logits"
    assert result["logit_margins"]["edges"] == np.arange(-10, 10.5, 0.5).tolist()
    clipped = np.clip(margins["after"], -10, 10)
    counts = np.histogram(clipped, result["logit_margins"]["edges"])[0]
    assert result["logit_margins"]["after"] == counts.tolist()
    assert abs(margins["after"]).max() > 1
    assert sum(result["margins"]["after"]) == 23
    share_right = (margins["after"] > 0).mean()
    assert share_right == pytest.approx(result["validation_accuracy"])
    (answer,) = Predictor(tmp_path / "run")([{"x": 20.0, "y": -20.0}])
    assert answer["margin"] > 1 >= answer["probability"]


def test_one_seed_gives_bit_equal_metrics_and_another_does_not(
    feature_config, change, tmp_path
):
    config = change(feature_config, "model", dropout=0.2)
    for name in ("a", "b"):
        train_and_evaluate(config, tmp_path / name, quiet=True)
    other = Config(**{**vars(config), "seed": 1})
    train_and_evaluate(other, tmp_path / "c", quiet=True)
    a, b, c = (
        [without_seconds(record) for record in records(tmp_path / name)]
        for name in ("a", "b", "c")
    )
    assert a == b
    assert a != c


def test_runs_that_differ_by_seed_compile_once(feature_config, change, tmp_path):
    jax.clear_caches()
    for seed in range(3):
        config = Config(**{**vars(feature_config), "seed": seed})
        train_and_evaluate(config, tmp_path / str(seed), quiet=True)
    assert loop._train_step._cache_size() == 1
    assert evaluation._eval_step._cache_size() == 1


@pytest.mark.parametrize("window", ["settled_ratio", "active_count"])
def test_a_window_makes_fewer_gradient_steps_of_the_same_examples(
    feature_config, change, tmp_path, window
):
    config = change(
        feature_config, "training", window=window, epochs=6, window_target=24
    )
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["mini_steps"] == 36
    assert result["examples_seen"] == 6 * 82
    assert 0 < result["gradient_steps"] < 36
    assert records(tmp_path / "run")[-1]["learning_rate"] == 0.0


def test_a_padded_tail_changes_no_metric(feature_config, change):
    config = change(feature_config, "mesh", data=1)
    data = prepare(config)
    params, means = None, []
    for batch_size in (23, 16, 7):
        recipe = make_recipe(change(config, "training", batch_size=batch_size), data)
        if params is None:
            params = initial_state(recipe, seed=0).params
        evaluation = evaluate(
            recipe.scorer,
            params,
            data.splits["validation"],
            batch_size=batch_size,
        )
        assert evaluation.outputs.shape == (23, 3)
        means.append([evaluation.means[name] for name in sorted(evaluation.means)])
    np.testing.assert_allclose(means[1:], means[:1] * 2, rtol=1e-6)


def test_evaluations_come_when_asked_for_and_at_the_end(
    feature_config, change, tmp_path
):
    config = change(feature_config, "training", evaluate_every=2)
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert [record["epoch"] for record in records(tmp_path / "run")] == [2, 3]


def test_evaluations_come_by_steps_when_asked_for(feature_config, change, tmp_path):
    by_epochs = train_and_evaluate(feature_config, tmp_path / "epochs", quiet=True)
    config = change(feature_config, "training", evaluate_steps=4)
    result = train_and_evaluate(config, tmp_path / "steps", quiet=True)
    # Six mini-steps an epoch; the end is evaluated, too.
    logged = records(tmp_path / "steps")
    assert [record["mini_steps"] for record in logged] == [4, 8, 12, 16, 18]
    assert [record["epoch"] for record in logged] == [0.6667, 1.3333, 2, 2.6667, 3]
    assert [r["examples_seen"] for r in logged] == [64, 82 + 32, 164, 164 + 64, 246]
    # Evaluating changes nothing of the training, and its sums are of all examples.
    assert logged[-1]["validation_loss"] == by_epochs["records"][-1]["validation_loss"]
    seen = np.diff([0, *(record["examples_seen"] for record in logged)])
    total = sum(n * r["train_loss"] for n, r in zip(seen, logged, strict=True))
    other = sum(82 * r["train_loss"] for r in by_epochs["records"])
    assert total == pytest.approx(other, rel=1e-5)
    assert result["best_epoch"] in [record["epoch"] for record in logged]


def test_patience_by_steps_ends_within_an_epoch(feature_config, change, tmp_path):
    config = change(feature_config, "training", evaluate_steps=1, patience=1, epochs=30)
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    last = records(tmp_path / "run")[-1]
    assert last["mini_steps"] < 30 * 6
    assert last["mini_steps"] == len(records(tmp_path / "run"))


def test_evaluations_by_steps_are_of_plain_training(feature_config, change):
    config = change(feature_config, "training", evaluate_steps=4, mode="compact")
    with pytest.raises(ConfigError, match="steps of compact training are not of equal"):
        make_recipe(config, prepare(config))


def test_a_finished_run_is_not_trained_again(feature_config, tmp_path, capsys):
    first = train_and_evaluate(feature_config, tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    assert train_and_evaluate(feature_config, tmp_path / "run") == first
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == before
    assert "finished already" in capsys.readouterr().out


def test_the_best_checkpoint_is_the_one_that_counts(feature_config, change, tmp_path):
    config = change(feature_config, "training", metric="loss")
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    losses = [record["validation_loss"] for record in records(tmp_path / "run")]
    assert result["validation_loss"] == pytest.approx(min(losses), rel=1e-6)
    assert result["best_epoch"] == losses.index(min(losses)) + 1
    assert result["metric"] == "loss"


def test_patience_ends_a_run_that_gets_no_better(feature_config, change, tmp_path):
    still = change(feature_config, "optimizer", learning_rate=0.0)
    config = change(still, "training", epochs=9, patience=2)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert [record["epoch"] for record in result["records"]] == [1, 2, 3]
    assert result["best_epoch"] == 1


def test_refuses_to_group_by_length_what_has_none(feature_config, change, tmp_path):
    config = change(feature_config, "training", group_by_length=True)
    with pytest.raises(ConfigError, match="inputs of features are all of one size"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "group_by_length", [pytest.param(False, marks=pytest.mark.long), True]
)
def test_text_trains_from_scratch(text_folder, tmp_path, group_by_length):
    config = Config(
        task="text",
        data=DataConfig(
            source="files",
            path=str(text_folder),
            train="train.jsonl",
            validation="validation.jsonl",
            max_length=8,
            vocabulary_size=64,
        ),
        model=ModelConfig(width=8, depth=1, heads=2),
        training=TrainingConfig(
            epochs=20,
            batch_size=8,
            group_by_length=group_by_length,
            evaluate_every=20,
        ),
        optimizer=train.config.OptimizerConfig(learning_rate=0.03),
    )
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["validation_accuracy"] == 1.0
    assert "test_accuracy" not in result
    assert (tmp_path / "run" / "tokenizer.json").exists()


def test_ctrl_c_ends_a_run_between_two_steps(feature_config, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    evaluation = RunLog.evaluation

    def interrupted(self, record):
        evaluation(self, record)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunLog, "evaluation", interrupted)
    with pytest.raises(Stopped, match="SIGINT; 6 mini-steps done, 1 evaluations kept"):
        train_and_evaluate(feature_config, tmp_path / "run", quiet=True)
    assert len(records(tmp_path / "run")) == 1
    assert not (tmp_path / "run" / "result.json").exists()
    assert signal.getsignal(signal.SIGINT) is handler


def test_sigterm_ends_the_command_with_its_code(tmp_path):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "train", "--config", "configs/digits.py"]
    command += ["--workdir", str(workdir), "--config.training.epochs=1000"]
    command += ["--config.model.depth=0"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert stderr.startswith("stopped by SIGTERM; ")
    assert "evaluations kept in" in stderr
    assert stderr.count("\n") == 1
    assert records(workdir)
