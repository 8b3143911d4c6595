"""The model card: figures of the run, and no word that nobody measured."""

import json

import pytest

from train.errors import DataError, WorkdirError
from train.export import export_run
from train.export import main as export_main
from train.loop import train_and_evaluate

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.fixture
def workdir(feature_config, tmp_path):
    train_and_evaluate(feature_config, tmp_path / "clouds", quiet=True)
    return tmp_path / "clouds"


def card(workdir, folder):
    export_run(workdir, folder, "stablehlo")
    return (folder / "README.md").read_text(encoding="utf-8")


def test_it_has_the_run_s_own_figures(workdir, tmp_path):
    text = card(workdir, tmp_path / "out")
    result = json.loads((workdir / "result.json").read_text())
    head, _, body = text.removeprefix("---\n").partition("---\n")
    assert "pipeline_tag: tabular-classification" in head
    assert body.lstrip().startswith("# clouds\n")
    shares = [f"{100 * result[f'{s}_accuracy']:.2f} %" for s in ("validation", "test")]
    assert f"| accuracy | {shares[0]} | {shares[1]} |" in body
    assert "| | validation (23) | test (17) |" in body
    assert "examples: train 82, validation 23, test 17" in body
    assert f"Temperature of the probabilities: {_temperature(workdir):.4g}." in body
    assert "`class-0`, `class-1`, `class-2`" in body
    assert "test had no part in either" in body
    assert "`as_softmax`" in body
    assert str(tmp_path) not in text
    # Every file of the folder is told of.
    for file in (tmp_path / "out").iterdir():
        assert file.name == "README.md" or file.name in body


def _temperature(workdir):
    return json.loads((workdir / "calibration.json").read_text())["temperature"]


def test_it_says_so_where_no_test_split_is(feature_config, change, tmp_path):
    config = change(feature_config, "data", test="")
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    text = card(tmp_path / "run", tmp_path / "out")
    assert "so its figures flatter; there was no test split" in text
    assert "test (" not in text


def test_another_s_readme_is_not_written_over(workdir, tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "README.md").write_text("# My project\n")
    with pytest.raises(DataError, match="name a folder of its own"):
        export_run(workdir, folder, "stablehlo")
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    # A card is written over by the next one.
    assert card(workdir, tmp_path / "out") == card(workdir, tmp_path / "out")


def test_the_folder_lies_in_the_run_s_where_nobody_names_one(workdir, capsys):
    flags = ["--compilation-cache=", "--format", "stablehlo"]
    assert export_main(["--workdir", str(workdir), *flags]) == 0
    assert (workdir / "stablehlo" / "load.py").exists()
    assert f'sys.path.insert(0, "{workdir}/stablehlo")' in capsys.readouterr().out


def test_a_run_without_its_result_is_refused(workdir, tmp_path):
    (workdir / "result.json").unlink()
    with pytest.raises(WorkdirError, match=r"result\.json is not there"):
        export_run(workdir, tmp_path / "out", "stablehlo")


@pytest.mark.parametrize("flags", [[], ["run", "--workdir=run"]])
def test_one_run_is_named(flags, capsys):
    with pytest.raises(SystemExit):
        export_main([*flags, "--output=out"])
    assert "WORKDIR" in capsys.readouterr().err
