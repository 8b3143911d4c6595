"""A run that was stopped or killed goes on as if nothing had been."""

import dataclasses
import json
import os
import shutil
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
from train.config import CompactConfig
from train.errors import WorkdirError
from train.loop import train_and_evaluate
from train.workdir.log import RunLog

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)

ROOT = Path(train.__file__).parents[1]
COMPACT = CompactConfig(
    break_even=0.0,
    min_batch_size=4,
    max_skipped_epochs=2,
    audit_share=0.5,
    decide_every=32,
    look_rows=40,
)


CLOCKED = (
    *("seconds", "plain_seconds", "look_seconds", "step_seconds"),
    *("look_cost", "speed_ratio", "speed_ceiling"),
)


@pytest.fixture
def config(feature_config, change, request):
    """Three epochs with dropout; the mode as the test is parametrised."""
    config = change(feature_config, "model", dropout=0.2)
    config = change(config, "optimizer", ema_decay=0.5)
    config = change(config, "training", **getattr(request, "param", {}))
    return dataclasses.replace(config, compact=COMPACT)


@pytest.fixture
def final_states(monkeypatch):
    """The states that runs end with, in the order of the runs."""
    states, original = [], loop._train

    def watched(run, state, history):
        state = original(run, state, history)
        held = state._replace(key=jax.random.key_data(state.key))
        states.append(jax.device_get(held))
        return state

    monkeypatch.setattr(loop, "_train", watched)
    return states


def train_with_end(config, workdir, monkeypatch, *, after, end):
    """Trains until so many mini-steps were taken, and then calls `end`."""
    original, count = RunLog.mini_step, iter(range(1, 10**6))

    def watched(self, state):
        original(self, state)
        if next(count) == after:
            end()

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "mini_step", watched)
        train_and_evaluate(config, workdir, quiet=True)


def stop():
    signal.raise_signal(signal.SIGTERM)


def kill():
    raise RuntimeError("as if killed: nothing more is saved")


def figures(workdir):
    """The result without what depends on the clock."""
    result = json.loads((workdir / "result.json").read_text())
    del result["seconds"]
    for record in result["records"]:
        for name in CLOCKED:
            record.pop(name, None)
    return result


# What resumes by code that others have, too.
RARE = ("selective_backprop",)
MODES = {
    "plain": {},
    "windows": {"window": "settled_ratio"},
    "by_steps": {"evaluate_steps": 5},
    "compact": {"mode": "compact", "epochs": 4},
    "selective_backprop": {"mode": "selective_backprop"},
    "infobatch": {"mode": "infobatch", "epochs": 4},
}


@pytest.mark.parametrize(("end", "error"), [(stop, Stopped), (kill, RuntimeError)])
@pytest.mark.parametrize("after", [pytest.param(2, marks=pytest.mark.long), 8])
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(mode, id=name, marks=[pytest.mark.long] if name in RARE else [])
        for name, mode in MODES.items()
    ],
    indirect=True,
)
def test_a_run_goes_on_bit_by_bit(
    config, tmp_path, monkeypatch, final_states, after, end, error
):
    train_and_evaluate(config, tmp_path / "whole", quiet=True)
    with pytest.raises(error):
        train_with_end(config, tmp_path / "run", monkeypatch, after=after, end=end)
    assert not (tmp_path / "run" / "result.json").exists()
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")
    whole, resumed = final_states
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(figures(tmp_path / "run")["records"])


def test_a_stopped_run_says_where_it_goes_on(config, tmp_path, monkeypatch, capsys):
    with pytest.raises(Stopped, match="SIGTERM; 8 mini-steps done, 1 evaluations kept"):
        train_with_end(config, tmp_path / "run", monkeypatch, after=8, end=stop)
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert "going on after 8 mini-steps" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints" / "latest").exists()


def test_checkpoints_come_between_evaluations_when_asked_for(
    config, change, tmp_path, monkeypatch, capsys
):
    config = change(config, "training", checkpoint_every=2)
    with pytest.raises(RuntimeError):
        train_with_end(config, tmp_path / "run", monkeypatch, after=5, end=kill)
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert "going on after 4 mini-steps" in capsys.readouterr().err


def empty_all(folder):
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def halve_the_largest(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])


def remove_all(folder):
    shutil.rmtree(folder)


# Orbax leaves open what it was reading when the first of many reads failed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [empty_all, halve_the_largest, remove_all])
def test_a_damaged_checkpoint_is_left_out(
    config, change, tmp_path, monkeypatch, capsys, damage
):
    # Large enough that its arrays lie in files of their own.
    config = change(config, "model", width=512)
    with pytest.raises(RuntimeError):
        train_with_end(config, tmp_path / "run", monkeypatch, after=14, end=kill)
    newest = tmp_path / "run" / "checkpoints" / "latest" / "12"
    damage(newest / "state")
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    notes = capsys.readouterr().err
    assert f"{newest}: cannot be read, put aside as unread-12" in notes
    assert (tmp_path / "run" / "checkpoints" / "unread-12").exists()
    assert "going on after 6 mini-steps" in notes


def test_without_its_checkpoint_a_run_begins_anew(config, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError):
        train_with_end(config, tmp_path / "run", monkeypatch, after=8, end=kill)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    train_and_evaluate(config, tmp_path / "whole", quiet=True)
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


@pytest.mark.parametrize(
    ("old", "new", "file"),
    [("class-1", "class-9", "classes.json"), ("0.", "7.", "features.json")],
)
def test_a_run_does_not_go_on_on_other_data(
    config, tmp_path, monkeypatch, feature_folder, old, new, file
):
    with pytest.raises(Stopped):
        train_with_end(config, tmp_path / "run", monkeypatch, after=8, end=stop)
    before = (tmp_path / "run" / file).read_text()
    for table in feature_folder.iterdir():
        table.write_text(table.read_text().replace(old, new))
    with pytest.raises(WorkdirError, match=f"holds a run on other data: its {file}"):
        train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / file).read_text() == before


def test_patience_has_run_out_in_a_resumed_run_too(
    config, change, tmp_path, monkeypatch
):
    config = change(config, "optimizer", learning_rate=0.0)
    config = change(config, "training", epochs=9, patience=1)
    train_and_evaluate(config, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(loop, "final_figures", lambda *_: kill())
    with pytest.raises(RuntimeError):
        train_and_evaluate(config, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")
    assert len(figures(tmp_path / "run")["records"]) == 2


@pytest.mark.long
@pytest.mark.parametrize("mode", ["plain", "compact"])
def test_a_killed_command_goes_on_bit_by_bit(tmp_path, mode):
    command = [sys.executable, "-m", "train", "--config", "configs/digits.py"]
    command += [f"--config.training.mode={mode}", "--config.training.epochs=6"]
    command += ["--config.training.checkpoint_every=5", "--config.data.source=digits"]

    def start(workdir):
        return subprocess.Popen([*command, "--workdir", str(workdir)], cwd=ROOT)

    assert start(tmp_path / "whole").wait(timeout=300) == 0
    killed = 0
    while killed < 3:
        process = start(tmp_path / "run")
        latest = tmp_path / "run" / "checkpoints" / "latest"
        there = set(os.listdir(latest)) if latest.exists() else set()
        while process.poll() is None and not (
            latest.exists() and set(os.listdir(latest)) - there
        ):
            time.sleep(0.05)
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        killed += 1
    assert killed
    assert start(tmp_path / "run").wait(timeout=300) == 0
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def exchanged(train_file):
    """Exchanges two class names in a file of rows."""
    text = train_file.read_text()
    for old, new in (("class-0", "?"), ("class-1", "class-0"), ("?", "class-1")):
        text = text.replace(old, new)
    train_file.write_text(text)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_run_does_not_go_on_where_labels_have_changed(
    config, feature_folder, tmp_path, monkeypatch, split
):
    with pytest.raises(Stopped):
        train_with_end(config, tmp_path / "run", monkeypatch, after=8, end=stop)
    exchanged(feature_folder / f"{split}.csv")
    with pytest.raises(WorkdirError, match=r"its data\.json is not that of the data"):
        train_and_evaluate(config, tmp_path / "run", quiet=True)
    exchanged(feature_folder / f"{split}.csv")
    assert train_and_evaluate(config, tmp_path / "run", quiet=True)["best_epoch"]


def test_a_finished_run_says_that_its_data_have_changed(
    config, feature_folder, tmp_path
):
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    exchanged(feature_folder / "train.csv")
    with pytest.raises(WorkdirError, match=r"its data\.json is not that of the data"):
        train_and_evaluate(config, tmp_path / "run", quiet=True)
    # A result may outlive its data.
    shutil.rmtree(feature_folder)
    assert train_and_evaluate(config, tmp_path / "run", quiet=True) == result
