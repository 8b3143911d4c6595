"""Bad input to the command: one line, exit code 2, nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import train
from train.__main__ import main

pytestmark = pytest.mark.standard_promotion(
    reason="optax's chains and flax's layers break under strict promotion"
)

CONFIG = """
from train.config import *

def get_config():
    return Config(
        task="features",
        data=DataConfig(source="files", train="train.csv", validation="validation.csv"),
        model=ModelConfig(width=4, depth=1),
        training=TrainingConfig(epochs=1, batch_size=8),
        mesh=MeshConfig(data=1),
    )
"""
TRAIN = "x,y,label\n1,2,a\n3,4,b\n"
VALIDATION = "x,y,label\n1,3,a\n"

# name -> (files that differ, flags, what the line says)
CASES = {
    "no such file": (
        {},
        ["--config.data.validation=valid.csv"],
        ["valid.csv: no such file", "--config.data.validation"],
    ),
    "no such folder": (
        {},
        ["--config.data.path=/no/such/folder"],
        ["/no/such/folder/train.csv: no such file", "--config.data.path"],
    ),
    "empty split": (
        {"validation.csv": "x,y,label\n"},
        [],
        ["validation.csv", "the validation split is empty"],
    ),
    "no label column": (
        {},
        ["--config.data.label_column=class"],
        ["train.csv: no column `class`", "`x`, `y`, `label`"],
    ),
    "no feature column": (
        {"validation.csv": "x,label\n1,a\n"},
        [],
        ["validation.csv: no column `y`", "`x`, `label`"],
    ),
    "no text column": (
        {},
        ["--config.task=text"],
        ["train.csv: no column `text`", "`x`, `y`, `label`"],
    ),
    "label that training never has": (
        {"validation.csv": "x,y,label\n1,2,c\n1,2,c\n1,2,d\n"},
        [],
        ["validation split has label 'c' in 2 rows", "1 more", "training never has"],
    ),
    "labels of mixed types": (
        {"train.csv": "x,y,label\n1,2,a\n3,4,7\n"},
        [],
        ["train.csv", "`label`", "1 str, 1 int"],
    ),
    "text that is not UTF-8": (
        {"train.csv": "x,y,label\n1,2,caf\xe9\n".encode("latin-1")},
        [],
        ["train.csv:2: not UTF-8"],
    ),
    "a feature that is not a number": (
        {"train.csv": "x,y,label\n1,2,a\n3,four,b\n"},
        [],
        ["train.csv", "`y` has 'four' in row 2", "--config.data.feature_columns"],
    ),
    "a feature that is missing": (
        {"train.csv": "x,y,label\n1,,a\n3,4,b\n"},
        [],
        ["train.csv", "`y` has '' in row 1"],
    ),
    "a feature that is NaN": (
        {"train.csv": "x,y,label\n1,2,a\nnan,4,b\ninf,4,b\n"},
        [],
        ["train.csv", "`x` has 2 values that are not finite", "row 2"],
    ),
    "no feature at all": (
        {"train.csv": "label\na\nb\n"},
        [],
        ["train.csv: no column beside the label"],
    ),
    "images out of a table": (
        {"train.csv": "image,label\n1,a\n", "validation.csv": "image,label\n1,a\n"},
        ["--config.task=image"],
        ["train.csv", "column `image`", "No such file", "row 1"],
    ),
    "config with a syntax error": (
        {"config.py": "def get_config():\n    return (\n"},
        [],
        ["config.py:2: syntax error"],
    ),
    "config that is not there": ({"config.py": None}, [], ["cannot read", "config.py"]),
    "unknown key": (
        {},
        ["--config.loss.dleta=0.1"],
        ["unknown key `loss.dleta`; did you mean `loss.delta`?"],
    ),
    "wrong type": ({}, ["--config.seed=one"], ["`seed`", "a whole number", "'one'"]),
    "delta out of range": ({}, ["--config.loss.delta=1.5"], ["`loss.delta`", "1.5"]),
    "delta below 0": ({}, ["--config.loss.delta=-0.1"], ["`loss.delta`", "-0.1"]),
    "unknown task": (
        {},
        ["--config.task=txt"],
        ["`task`: no 'txt'; did you mean `text`?"],
    ),
    "unknown loss": (
        {},
        ["--config.loss.name=as-softmax"],
        ["`loss.name`: no 'as-softmax'; did you mean `as_softmax`?"],
    ),
    "unknown model": ({}, ["--config.model.name=cnn"], ["no 'cnn'", "`mlp`"]),
    "more devices than there are": (
        {},
        ["--config.mesh.data=64"],
        ["64 x 1 devices", "`mesh.data`"],
    ),
    "more examples than are counted": (
        {},
        ["--config.training.epochs=2000000000"],
        ["`training.epochs`", "2^31"],
    ),
}


@pytest.fixture
def run(tmp_path, capsys):
    """Returns a function: files and flags -> exit code, standard error, workdir."""

    def run(files, flags):
        contents = {
            "config.py": CONFIG,
            "train.csv": TRAIN,
            "validation.csv": VALIDATION,
        }
        for name, content in (contents | files).items():
            if content is not None:
                data = content.encode() if isinstance(content, str) else content
                (tmp_path / name).write_bytes(data)
        arguments = [f"--config={tmp_path / 'config.py'}"]
        arguments += [f"--workdir={tmp_path / 'run'}"]
        arguments += [f"--config.data.path={tmp_path}", *flags]
        code = main(arguments)
        return code, capsys.readouterr().err, tmp_path / "run"

    return run


@pytest.mark.parametrize("case", CASES)
def test_refuses(run, case):
    files, flags, words = CASES[case]
    code, stderr, workdir = run(files, flags)
    assert code == 2
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    for word in words:
        assert word in stderr
    assert not workdir.exists()


def test_refuses_the_workdir_of_another_configuration(run):
    code, _, workdir = run({}, [])
    assert code == 0
    held = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    code, stderr, _ = run({}, ["--config.loss.delta=0.2"])
    assert code == 2
    assert "holds a run of another configuration" in stderr
    assert "loss.delta: 0.1 there, 0.2 asked for" in stderr
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == held


def test_refuses_a_workdir_that_is_a_file(run, tmp_path):
    (tmp_path / "run").write_text("mine")
    code, stderr, workdir = run({}, [])
    assert code == 2
    assert "is a file; name a folder" in stderr
    assert workdir.read_text() == "mine"


def test_refuses_a_workdir_under_a_file(run, tmp_path):
    code, stderr, _ = run({}, [f"--workdir={tmp_path / 'train.csv' / 'run'}"])
    assert code == 2
    assert "cannot write to" in stderr
    assert stderr.count("\n") == 1


def test_names_the_extra_when_a_package_is_missing(tmp_path):
    code = (
        "import sys; sys.modules['grain'] = None\n"
        "from train.__main__ import main\n"
        f"sys.exit(main(['--config=configs/digits.py', '--workdir={tmp_path}/run']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(train.__file__).parents[1],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: the trainer needs grain: pip install 'as_softmax_jax[train]'\n"
    )
    assert not (tmp_path / "run").exists()
