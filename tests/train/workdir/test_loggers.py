"""Loggers: what each is told of a run, through the loop that tells it."""

import json

import pytest
from tensorboard_events import scalars

from train.config import as_dict
from train.errors import ConfigError
from train.loop import train_and_evaluate
from train.workdir.loggers import grouped, make_loggers

pytestmark = [
    pytest.mark.standard_promotion(
        reason="optax's adamw and flax's layers break under strict promotion"
    ),
]


class Told:
    """Remembers what it is told; stops the run after some evaluations."""

    def __init__(self, stop_after=0):
        self.calls, self.stop_after = [], stop_after

    def on_start(self, workdir, config, before):
        self.calls.append(("start", workdir, config, before))

    def on_evaluation(self, figures):
        self.calls.append(("evaluation", figures))
        if len(self.calls) == self.stop_after + 1:
            raise KeyboardInterrupt

    def on_end(self, result):
        self.calls.append(("end", result))

    def close(self):
        self.calls.append(("close",))

    @property
    def kinds(self):
        return [call[0] for call in self.calls]


def test_a_logger_is_told_of_all_that_happens(feature_config, tmp_path):
    told = Told()
    result = train_and_evaluate(
        feature_config, tmp_path / "run", quiet=True, loggers=[told]
    )
    assert told.kinds == ["start", *["evaluation"] * 3, "end", "close"]
    _, workdir, config, before = told.calls[0]
    assert (workdir, before) == (tmp_path / "run", [])
    assert config["training"] == json.loads(
        json.dumps(as_dict(feature_config)["training"])
    )
    figures = told.calls[3][1]
    last = result["records"][-1]
    assert figures["train/loss"] == last["train_loss"]
    assert figures["validation/accuracy"] == last["validation_accuracy"]
    assert figures["progress/mini_steps"] == last["mini_steps"]
    assert told.calls[4][1]["test_accuracy"] == result["test_accuracy"]


def test_one_that_goes_on_is_told_what_was_before(feature_config, tmp_path):
    first, second = Told(stop_after=2), Told()
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(feature_config, tmp_path / "r", quiet=True, loggers=[first])
    assert first.kinds == ["start", "evaluation", "evaluation", "close"]
    train_and_evaluate(feature_config, tmp_path / "r", quiet=True, loggers=[second])
    # The second evaluation was not saved when its logger failed.
    assert [b["progress/epoch"] for b in second.calls[0][3]] == [1]
    assert second.kinds == ["start", "evaluation", "evaluation", "end", "close"]


def test_numbers_are_in_groups_and_nothing_else_is_there():
    record = {
        "train_loss": 0.5,
        "validation_macro_f1": 0.25,
        "epoch": 2,
        "delta": None,
        "task": "text",
        "good": True,
    }
    assert grouped(record) == {
        "train/loss": 0.5,
        "validation/macro_f1": 0.25,
        "progress/epoch": 2,
    }


def test_tensorboard_has_curves_and_test_figures(feature_config, tmp_path):
    result = train_and_evaluate(feature_config, tmp_path / "run", quiet=True)
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*")
    found = scalars(events)
    steps = [record["mini_steps"] for record in result["records"]]
    assert [step for step, _ in found["validation/accuracy"]] == steps
    ((_, accuracy),) = found["test/accuracy"]
    assert accuracy == pytest.approx(result["test_accuracy"])
    assert b"optimizer.learning_rate" in events.read_bytes()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_weights_and_biases_offline(feature_config, change, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config = change(feature_config, "training", loggers=("wandb",))
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = kept.read_bytes()
    for words in (b"validation/accuracy", b"test/accuracy", b"learning_rate"):
        assert words in content
    assert not list((tmp_path / "run").glob("events.out.tfevents.*"))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of packages that are not ours
def test_mlflow_in_a_folder(feature_config, change, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    config = change(feature_config, "training", loggers=("mlflow", "tensorboard"))
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    own = (tmp_path / "run" / "mlflow_id.txt").read_text()
    (kept,) = (tmp_path / "runs").glob(f"*/{own}")
    curve = (kept / "metrics" / "validation" / "accuracy").read_text().splitlines()
    assert len(curve) == 3 + 1  # and once more with the result
    last = (kept / "metrics" / "test" / "accuracy").read_text().split()
    assert float(last[1]) == pytest.approx(result["test_accuracy"])
    assert (kept / "params" / "training.epochs").read_text() == "3"


def test_refuses_a_logger_that_there_is_not(feature_config, change, tmp_path):
    with pytest.raises(ConfigError, match=r"`training.loggers`: no 'wandbe'; did you"):
        make_loggers(["wandbe"])
    config = change(feature_config, "training", loggers=("tensorbord",))
    with pytest.raises(ConfigError, match="`tensorboard`"):
        train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
