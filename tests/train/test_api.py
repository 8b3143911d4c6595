"""The trainer from Python: the same runs as the commands make."""

import json

import numpy as np
import pytest
from small_runs import feature_rows

from train.api import Run, compare, fit
from train.config import Config, load
from train.data.memory import read_memory
from train.errors import ConfigError, DataError, TrainerError
from train.evaluate import evaluate_run
from train.survey.proposal import propose_for

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
SHORT = {"training.epochs": 3, "mesh.data": 1, "optimizer.learning_rate": 0.03}


def table(n, seed=0):
    rows = [row.split(",") for row in feature_rows(n, seed)]
    x, y, kind = zip(*rows, strict=True)
    return {"x": list(map(float, x)), "y": list(map(float, y)), "kind": list(kind)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with _standard_promotion():
        return fit(
            {"train": table(90), "test": table(30, seed=1)},
            label="kind",
            workdir=tmp_path_factory.mktemp("api") / "run",
            settings=SHORT,
            quiet=True,
        )


def _standard_promotion():
    import contextlib

    import jax

    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack


def test_a_run_knows_its_figures(run):
    held = json.loads((run.workdir / "result.json").read_text())
    assert run.result == held
    assert held["test_accuracy"] > 0.7
    assert held["config"]["data"]["source"] == "memory"
    assert held["config"]["training"]["epochs"] == 3
    assert f"test_accuracy {held['test_accuracy']:.6g}" in repr(run)
    assert "<td>test_accuracy</td>" in run._repr_html_()


def test_it_predicts_tables_and_lists(run):
    new = table(9, seed=2)
    answers = run.predict(new, top_k=2)
    assert len(answers) == 9
    assert answers[0].keys() == {"label", "probability", "margin", "top"}
    rows = [{"x": x, "y": y} for x, y in zip(new["x"], new["y"], strict=True)]
    again = run.predict(rows, top_k=2)
    assert [a["label"] for a in again] == [a["label"] for a in answers]


def test_it_evaluates_its_splits_and_other_data(run):
    held = run.result["test_accuracy"]
    assert run.evaluate()["test_accuracy"] == pytest.approx(held)
    assert run.evaluate("train")["examples"] == 90
    assert run.evaluate(table(30, seed=1))["test_accuracy"] == pytest.approx(held)
    with pytest.raises(ConfigError, match="no split 'validation'; there are train"):
        run.evaluate("validation")


def test_it_reports(run):
    page = run.report()
    assert page.name == "report.html"
    assert "test accuracy" in page.read_text()


def test_it_is_exported(run, tmp_path):
    folder = run.export(tmp_path / "model", "stablehlo")
    assert {"load.py", "model.stablehlo"} <= {path.name for path in folder.iterdir()}
    with pytest.raises(ConfigError, match="--format stablehlo takes every model"):
        run.export(tmp_path / "other")


def test_it_is_found_again(run):
    again = Run(run.workdir)
    assert again.result == run.result
    assert again.predict({"x": [2.0], "y": [0.0]})[0]["label"]
    with pytest.raises(DataError, match="were in memory; give them in Python again"):
        evaluate_run(run.workdir, "test")
    assert again.evaluate(table(30, seed=1))["examples"] == 30


def test_the_same_call_trains_nothing_anew(run, capsys):
    data = {"train": table(90), "test": table(30, seed=1)}
    again = fit(data, label="kind", workdir=run.workdir, settings=SHORT)
    assert "finished already" in capsys.readouterr().out
    assert again.result == run.result
    with pytest.raises(TrainerError, match="data"):
        fit(
            {"train": table(90, seed=3), "test": table(30, seed=1)},
            label="kind",
            workdir=run.workdir,
            settings=SHORT,
        )


def test_files_and_configurations_do_as_in_the_commands(tmp_path, feature_folder):
    run = fit(feature_folder, workdir=tmp_path / "a", settings=SHORT, quiet=True)
    assert run.result["config"]["data"]["path"] == str(feature_folder)
    assert run.evaluate("validation")["examples"] == 23
    images = np.zeros((60, 8, 8), np.uint8)
    images[1::2, :4] = 255
    named = fit(
        (images, np.arange(60) % 2),
        config="digits",
        workdir=tmp_path / "b",
        settings={**SHORT, "training.epochs": 1},
        quiet=True,
    )
    assert named.result["config"]["model"]["dropout"] == load("digits").model.dropout
    assert len(named.predict(images[:3])) == 3


def test_images_in_an_array_are_images():
    images = np.zeros((60, 8, 8, 3), np.uint8)
    for given in (images, list(images)):
        config = propose_for(read_memory((given, np.arange(60) % 2))).config
        assert config.task == "image"
        assert config.data.label_column == "label"


def test_losses_are_compared(tmp_path):
    found = compare(
        table(90),
        label="kind",
        losses=("softmax", "as_softmax"),
        seeds=(0, 1),
        grid={"loss.logit_margin": [1, 2]},
        workdir=tmp_path / "grid",
        settings=SHORT,
    )
    assert len(found.comparison.runs) == 2 + 2 * 2
    assert "as_softmax logit_margin=2" in found.table
    assert repr(found) == found.table
    assert found._repr_markdown_().count("| as_softmax") == 2
    assert (tmp_path / "grid" / "report.html").exists()


def test_refuses_what_contradicts(tmp_path):
    with pytest.raises(ConfigError, match="give `data`, `config`, or both"):
        fit(workdir=tmp_path / "run")
    with pytest.raises(ConfigError, match="say how to make a configuration"):
        fit(table(9), config=Config(), label="kind", workdir=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"unknown key `training\.epoch`"):
        fit(
            table(9),
            label="kind",
            workdir=tmp_path / "run",
            settings={"training.epoch": 1},
        )
    assert not (tmp_path / "run").exists()
