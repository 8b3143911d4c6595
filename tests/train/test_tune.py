"""The search with equal means: what it trains, chooses, says and refuses."""

import json

import pytest

import train.loop
from train.tune import (
    Cost,
    _estimate,
    _in_words,
    _make_search,
    _parser,
    _read_numbers,
    main,
)

pytestmark = pytest.mark.standard_promotion(
    reason="optax's chains and flax's layers break under strict promotion"
)

CONFIG = """
from train.config import *

def get_config():
    return Config(
        task="features",
        data=DataConfig(
            source="files", path={path!r}, train="train", validation="validation",
            test="test",
        ),
        model=ModelConfig(width=4, depth=1, heads=1),
        training=TrainingConfig(epochs=2, batch_size=16),
        mesh=MeshConfig(data=1),
    )
"""


@pytest.fixture
def tuned(feature_folder, tmp_path):
    """Returns a function: the command on a small table, and its exit code."""
    file = tmp_path / "table.py"
    file.write_text(CONFIG.format(path=str(feature_folder)))

    def command(*flags, losses="softmax,as_softmax", trials=2, seeds=2):
        arguments = ["--config", str(file), "--losses", losses]
        arguments += ["--trials", str(trials), "--workdir", str(tmp_path / "run")]
        arguments += ["--seeds", str(seeds)] if seeds else []
        return main([*arguments, "--compilation-cache", "", *flags])

    return command


def results(tmp_path):
    """The results of all runs by the names of their cells."""
    files = (tmp_path / "run" / "results").glob("*.json")
    return {file.stem: json.loads(file.read_text()) for file in files}


def test_a_search_and_fresh_seeds_end_in_a_sentence(tuned, tmp_path, capsys):
    assert tuned() == 0
    found = results(tmp_path)
    search = {name: r for name, r in found.items() if "-search_" in name}
    fresh = {name: r for name, r in found.items() if "-chosen-" in name}
    assert (len(search), len(fresh)) == (4, 4)
    # Nothing looks at the test split before the choice is made.
    assert not any(key.startswith("test_") for r in search.values() for key in r)
    assert all("test_accuracy" in r for r in fresh.values())
    for loss in ("softmax", "as_softmax"):
        own = {n: r for n, r in search.items() if f"-{loss}-" in n}
        best = max(own.values(), key=lambda r: r["validation_accuracy"])
        for name, result in fresh.items():
            if f"-{loss}-" in name:
                assert (
                    result["config"]["optimizer"]["learning_rate"]
                    == best["config"]["optimizer"]["learning_rate"]
                )
                assert result["config"]["seed"] in (1, 2)
    shown = capsys.readouterr().out
    assert "chosen for softmax: learning_rate" in shown
    assert (
        "On table, after 2 trials each, by test accuracy over 2 seeds: as_softmax"
        in shown
    )
    assert "cannot be told from softmax: " in shown
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The search, on one seed, by validation" in page
    assert "Accuracy on validation over learning rate" in page
    assert "Accuracy on validation over logit_margin" in page
    assert "fresh seeds" in page


def test_what_is_there_is_not_trained_again(tuned, tmp_path, capsys, monkeypatch):
    assert tuned(trials=1) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr(train.loop, "train_and_evaluate", None)
    assert tuned("--markdown", str(tmp_path / "page.md"), trials=1) == 0
    again = capsys.readouterr().out
    assert again.count("cells are finished already; nothing to train") == 2
    assert first.rpartition("softmax and as_softmax on table")[2].split("table:")[
        0
    ] in (again.replace(f"\ntables: {tmp_path / 'page.md'}\n", ""))
    page = (tmp_path / "page.md").read_text()
    assert "### softmax and as_softmax on table, 1 trial each" in page
    assert "| chosen |" in page


def test_folds_take_the_place_of_seeds(tuned, tmp_path, capsys):
    assert tuned("--folds", "3", losses="softmax", trials=1, seeds=0) == 0
    fresh = [r["config"] for n, r in results(tmp_path).items() if "-chosen-" in n]
    assert sorted((c["data"]["fold"], c["seed"]) for c in fresh) == [
        (0, 1),
        (1, 2),
        (2, 3),
    ]
    assert "Nothing can be concluded" in capsys.readouterr().out


def test_a_dry_run_says_how_many_runs_and_writes_nothing(tuned, tmp_path, capsys):
    assert tuned("--dry-run", losses="softmax,as_softmax,as_softmax:delta") == 0
    shown = capsys.readouterr().out
    assert "3 losses x (2 trials + 2 fresh seeds) = 12 runs, about" in shown
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("budget", "expected"), [("3h", (6, 5)), ("170s", (4, 5)), ("120s", (3, 3))]
)
def test_a_budget_takes_trials_before_seeds(
    tuned, tmp_path, monkeypatch, budget, expected
):
    monkeypatch.setattr("train.tune._time_a_run", lambda _: Cost(5.0, 2.0))
    file = str(tmp_path / "table.py")
    arguments = ["--config", file, "--losses", "softmax,focal", "--budget", budget]
    flags = _parser().parse_args([*arguments, "--workdir", str(tmp_path / "run")])
    _read_numbers(flags)
    search = _make_search(flags, [])
    trials = {len(t) for t in search.trials.values()}
    assert (trials, len(search.seeds)) == ({expected[0]}, expected[1])
    # Who goes on after a stop has the same plan, whatever the clock says by then.
    monkeypatch.setattr("train.tune._time_a_run", None)
    assert _make_search(flags, []) == search
    assert f"x ({expected[0]} trials" in _estimate(search, Cost(5.0, 2.0))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12.2, "13 seconds"), (100, "2 minutes"), (5400, "1.5 hours")],
)
def test_times_are_in_words(seconds, words):
    assert _in_words(seconds) == words


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--folds", "3"], "error: --folds: each fold has a seed of its own"),
        (["--budget", "soon"], "error: --budget: 'soon'; write 900s, 30m or 2h"),
        (["--section", "x"], "error: --section: there is no file for it"),
        (["--trials", "0"], "error: --trials: '0'; give a whole number from 1 on"),
        (["--config.data.path=/none"], "no such file"),
        (["--config.loss.name=focal"], "--config.loss.name: --losses decides it here"),
        (["--config.seed=3"], "--config.seed: --seeds decides it here"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(
    tuned, tmp_path, capsys, flags, message
):
    assert tuned(*flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_budget_that_is_too_small_says_what_is_needed(tuned, capsys, monkeypatch):
    monkeypatch.setattr("train.tune._time_a_run", lambda _: Cost(100.0, 10.0))
    assert tuned("--budget", "10s", seeds=5) == 2
    assert "one trial and 3 seeds of each loss take about 16 minutes" in (
        capsys.readouterr().err
    )
