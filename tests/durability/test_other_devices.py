"""A run goes on on fewer devices, or more, and no example is lost or seen twice."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest

from train.loop import train_and_evaluate
from train.training.bad_steps import BadStepWatch
from train.workdir.log import RunLog

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.fixture
def end_after(monkeypatch):
    """Returns a function that lets each of the next runs end at such a mini-step."""

    def end_after(*mini_steps):
        original, left = RunLog.mini_step, iter(mini_steps)
        count, end = itertools.count(1), next(left)

        def watched(self, state):
            nonlocal count, end
            original(self, state)
            if next(count) == end:
                count, end = itertools.count(1), next(left, None)
                raise RuntimeError("as if killed: nothing more is saved")

        monkeypatch.setattr(RunLog, "mini_step", watched)

    return end_after


@pytest.mark.parametrize(
    "window", [pytest.param("none", marks=pytest.mark.long), "settled_ratio"]
)
def test_from_eight_devices_to_four_to_one(
    feature_config, change, tmp_path, capsys, end_after, window
):
    # SGD: where the true gradient is 0, AdamW would amplify rounding.
    config = change(feature_config, "optimizer", name="sgd")
    config = change(config, "training", window=window, checkpoint_every=2)
    train_and_evaluate(config, tmp_path / "whole", quiet=True)
    end_after(5, 5)
    for data in (8, 4):
        there = change(config, "mesh", data=data)
        with pytest.raises(RuntimeError):
            train_and_evaluate(there, tmp_path / "run", quiet=True)
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    notes = capsys.readouterr().err
    assert (
        "saved by 1 process(es) with 8 x 1 devices, now 1 process(es) with 4" in notes
    )
    assert "with 4 x 1 devices, now 1 process(es) with 1 x 1" in notes
    found, wanted = (
        [
            [r["train_loss"], r["validation_loss"], r["gradient_steps"]]
            for r in json.loads((tmp_path / name / "result.json").read_text())[
                "records"
            ]
        ]
        for name in ("run", "whole")
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("mode", ["plain", "compact"])
def test_each_example_is_seen_once_an_epoch_across_kills(
    feature_config, change, tmp_path, monkeypatch, end_after, mode
):
    config = change(feature_config, "training", mode=mode, checkpoint_every=3)
    config = change(config, "compact", break_even=0.0)
    seen, original = {}, BadStepWatch.remember

    def watched(self, numbers):
        # A mini-step that was not saved is taken again, and counts once.
        seen[self._mini_step] = numbers
        original(self, numbers)

    monkeypatch.setattr(BadStepWatch, "remember", watched)
    end_after(4, 5, 2)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            train_and_evaluate(config, tmp_path / "run", quiet=True)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert sorted(seen) == list(range(result["mini_steps"]))
    counts = Counter(np.concatenate(list(seen.values())).tolist())
    if mode == "plain":
        assert counts == dict.fromkeys(range(1, 83), 3)
    else:
        first = np.concatenate([seen[step] for step in range(6)])
        np.testing.assert_array_equal(np.sort(first), np.arange(1, 83))
        assert max(counts.values()) <= 3
        assert sum(counts.values()) == result["records"][-1]["examples_trained"]
