"""Folders that answer without the trainer, in a process that has none of it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from exported_folders import answers_alone, assert_same, card_runs
from small_exports import KINDS, train_kind

from train.export import main as export_main
from train.predict import Predictor

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
ROOT = Path(__file__).parents[3]
# Of each kind of input one at each change, and the others where there is time.
QUICK = ("tokens", "cnn", "mixed")
EVERY = [k if k in QUICK else pytest.param(k, marks=pytest.mark.long) for k in KINDS]


@pytest.fixture(scope="module", params=EVERY)
def finished(request, encoder, tmp_path_factory):
    """A run of a kind, and inputs for it."""
    folder = tmp_path_factory.mktemp(request.param)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return train_kind(request.param, folder, encoder)


def test_it_answers_alone_as_predict_does(finished, tmp_path):
    workdir, inputs = finished
    flags = ["--compilation-cache=", "--format=stablehlo"]
    assert export_main([str(workdir), *flags, f"--output={tmp_path / 'out'}"]) == 0
    predictor = Predictor(workdir)
    # A temperature of 1 would hide that it has no part in the answers.
    if predictor.run.config.task != "next_token":
        assert abs(predictor.run.calibration.temperature - 1) > 1e-3
    found = answers_alone(tmp_path / "out", inputs, tmp_path / "empty")
    assert_same(found, predictor(inputs))


@pytest.fixture(scope="module")
def table(encoder, tmp_path_factory):
    """The folder of a model that reads rows of numbers and categories."""
    folder = tmp_path_factory.mktemp("table")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        workdir, _ = train_kind("mixed", folder, encoder)
    assert (
        export_main([str(workdir), "--compilation-cache=", "--format=stablehlo"]) == 0
    )
    return workdir / "stablehlo"


def test_the_card_s_lines_run(table, tmp_path):
    (answer,) = card_runs(table, tmp_path / "empty")
    assert answer.keys() == {"label", "probability", "margin"}


def test_one_changed_weight_shows(table, tmp_path):
    out, inputs = tmp_path / "out", [{"age": 2, "port": "S"}]
    shutil.copytree(table, out)
    with np.load(out / "weights.npz") as held:
        weights = dict(held)
    classes = json.loads((out / "model.json").read_text())["classes"]
    last = next(w for w in weights.values() if w.shape == (len(classes),))
    last[0] += 0.1
    np.savez(out / "weights.npz", **weights)
    expected = Predictor(table.parent)(inputs)
    assert_same(answers_alone(table, inputs, tmp_path / "kept"), expected)
    with pytest.raises(AssertionError):
        assert_same(answers_alone(out, inputs, tmp_path / "changed"), expected)


def test_several_models_answer_in_one_process(table, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(table, other)
    model = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(model | {"classes": ["a", "b"]}))
    code = (
        f"import sys; sys.path.insert(0, {str(table)!r})\n"
        "from load import Model, predict\n"
        f"models = Model({str(table)!r}), Model({str(other)!r})\n"
        "row = [{'age': 2, 'port': 'S'}]\n"
        "assert predict(row) == models[0](row)\n"
        "print([model(row)[0]['label'] for model in models])"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() in ("[0, 'a']", "[1, 'b']")


def test_the_folder_holds_no_path_of_this_machine(table):
    places = (table.parent.parent, Path(jax.__file__).parents[1], ROOT)
    for file in filter(Path.is_file, table.iterdir()):
        for place in places:
            assert str(place).encode() not in file.read_bytes(), file
    model = json.loads((table / "model.json").read_text())
    assert model["classes"] == [0, 1]
    assert model["reader"] == "read_table"
    assert model["inputs"]["columns"][1]["categories"] == ["C", "Q", "S"]


def test_the_program_is_for_every_platform_and_any_batch(table):
    content = bytearray((table / "model.stablehlo").read_bytes())
    program = jax.export.deserialize(content)
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    (weights, inputs), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
    assert str(inputs.shape[0]) == "n"
    with np.load(table / "weights.npz") as held:
        assert held.keys() == weights.keys()
