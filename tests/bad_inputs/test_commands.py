"""Bad input to the commands: one line, exit code 2, and every file as it was."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES, GIT_LFS, TRAIN, VALIDATION
from tables import COLUMNS, FAULTS, FORMATS, GOOD, write_json_lines

import train
from train import compare, evaluate, predict
from train.__main__ import main

pytestmark = [
    pytest.mark.standard_promotion(
        reason="optax's chains and flax's layers break under strict promotion"
    ),
]

CONFIG = """
from train.config import *

def get_config():
    return Config(
        task="features",
        data=DataConfig(source="files", train="train.csv", validation="validation.csv"),
        model=ModelConfig(width=4, depth=1, heads=1),
        training=TrainingConfig(epochs=1, batch_size=8),
        mesh=MeshConfig(data=1),
    )
"""
USUAL = {"config.py": CONFIG, "train.csv": TRAIN, "validation.csv": VALIDATION}
LOSSES = {"multi_label": "multi_label_as_softmax"}
SPLITS = ("train", "validation", "test")


def write(folder, files):
    """Writes files by their names: text, bytes, what a function writes, or nothing."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif content is not None:
            data = content.encode() if isinstance(content, str) else content
            path.write_bytes(data)


def contents(*folders):
    """Returns what the files of some folders hold."""
    files = (path for folder in folders for path in folder.rglob("*"))
    return {path: path.read_bytes() for path in files if path.is_file()}


def flags_of(task):
    return [
        *(f"--config.data.{split}={split}" for split in SPLITS[:2]),
        f"--config.task={task}",
        f"--config.loss.name={LOSSES.get(task, 'as_softmax')}",
    ]


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Returns a function: a task's finished run on its good table, trained once."""
    held = {}

    def finished(task):
        if task not in held:
            held[task] = folder = tmp_path_factory.mktemp(task)
            write(folder, {"config.py": CONFIG})
            for split in SPLITS:
                write_json_lines(folder / f"{split}.jsonl", GOOD[task])
            arguments = [f"--config={folder / 'config.py'}", *flags_of(task)]
            arguments += [f"--workdir={folder / 'run'}"]
            assert main([*arguments, f"--config.data.path={folder}"]) == 0
        return held[task] / "run"

    return finished


@pytest.fixture
def run(tmp_path, capsys, finished):
    """Returns a function: a command and flags -> exit code, standard error."""

    def run(command, flags, task="features"):
        flags = [flag.replace("{folder}", str(tmp_path)) for flag in flags]
        data = f"--config.data.path={tmp_path}"
        if command == "train":
            files = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path}/run"]
            call, arguments = main, [*files, data]
        elif command == "evaluate":
            call, arguments = evaluate.main, [f"--workdir={finished(task)}", data]
        else:
            answers = f"--output={tmp_path}/answers.jsonl"
            call, arguments = predict.main, [f"--workdir={finished(task)}", answers]
        capsys.readouterr()
        return call([*arguments, *flags]), capsys.readouterr().err

    return run


@pytest.fixture
def refuses(run, tmp_path, finished):
    """Returns a function that runs a command, and asserts what a refusal is."""

    def refuses(words, command, flags, task="features", code=2):
        folders = [tmp_path] if command == "train" else [tmp_path, finished(task)]
        held = contents(*folders)
        ended, stderr = run(command, flags, task)
        lines = [line for line in stderr.splitlines() if not line.startswith("note: ")]
        assert (ended, len(lines)) == (code, 1), stderr
        assert lines[0].startswith("error: ")
        for word in words:
            assert word in lines[0]
        assert contents(*folders) == held
        assert not (tmp_path / "run").exists()

    return refuses


@pytest.mark.parametrize("name", CASES)
def test_refuses(refuses, tmp_path, name):
    case = CASES[name]
    write(tmp_path, USUAL | dict(case.files))
    refuses(case.words, case.command, case.flags, code=case.code)


def rows_of_faults():
    """Every fault in every format where it comes first, and in the first elsewhere."""
    for name, fault in FAULTS.items():
        for place in fault.places:
            first = place == fault.places[0]
            for form in fault.formats if first else fault.formats[:1]:
                yield pytest.param(fault, place, form, id=f"{name}-{place}-{form}")


def with_fault(fault):
    columns = GOOD[fault.task]
    first, _, third = columns[fault.column]
    return columns | {fault.column: [first, fault.value, third]}


def refuses_table(refuses, folder, fault, columns, place, form):
    """Asserts that a table is refused where it is a split, or input for a run."""
    ending, write_table = FORMATS[form]
    write(folder, {"config.py": CONFIG})
    split = "test" if place == "evaluate" else place
    flags = [f"--config.data.{split}={split}"]
    if place == "predict":
        columns = {n: values for n, values in columns.items() if n != "label"}
        flags = [f"--input={folder}/predict{ending}"]
    for name in SPLITS[:2]:
        write_json_lines(folder / f"{name}.jsonl", GOOD[fault.task])
    (folder / f"{split}.jsonl").unlink(missing_ok=True)
    write_table(folder / f"{split}{ending}", columns)
    command = place if place in ("evaluate", "predict") else "train"
    if command == "train":
        flags += flags_of(fault.task)
    words = [f"{split}{ending}", *fault.words]
    refuses(words, command, flags, fault.task)


@pytest.mark.parametrize(("fault", "place", "form"), list(rows_of_faults()))
def test_refuses_a_value(refuses, tmp_path, fault, place, form):
    refuses_table(refuses, tmp_path, fault, with_fault(fault), place, form)


@pytest.mark.parametrize(
    ("name", "form"), [(n, f) for n, fault in COLUMNS.items() for f in fault.formats]
)
def test_refuses_a_column(refuses, tmp_path, name, form):
    fault = COLUMNS[name]
    columns = GOOD[fault.task] | {fault.column: fault.value}
    refuses_table(refuses, tmp_path, fault, columns, "train", form)


# What is no table at all, in each format and place: content -> the line.
NO_TABLES = {
    "a Git LFS pointer": (GIT_LFS, ["a Git LFS pointer", "git lfs pull"]),
    "a folder": (
        None,
        ["a folder, where a .parquet, .jsonl, .csv, .tsv file is meant"],
    ),
}


@pytest.mark.parametrize("content", NO_TABLES)
@pytest.mark.parametrize("ending", sorted({ending for ending, _ in FORMATS.values()}))
@pytest.mark.parametrize("place", ["train", "validation", "predict"])
def test_refuses_what_is_no_table(refuses, tmp_path, content, ending, place):
    text, words = NO_TABLES[content]
    write(tmp_path, {"config.py": CONFIG})
    for name in SPLITS[:2]:
        write_json_lines(tmp_path / f"{name}.jsonl", GOOD["features"])
    name = f"mine{ending}"
    write(tmp_path, {name: text} if text else {f"{name}/part-0.parquet": b"PAR1"})
    if place == "predict":
        refuses([name, *words], "predict", [f"--input={tmp_path / name}"])
    else:
        flags = [*flags_of("features"), f"--config.data.{place}={name}"]
        refuses([name, *words], "train", flags)


@pytest.fixture
def usual(tmp_path):
    """A folder with the usual files."""
    write(tmp_path, USUAL)
    return tmp_path


def test_refuses_the_workdir_of_another_configuration(run, usual):
    workdir = usual / "run"
    assert run("train", ["--config.loss.delta=0.1"])[0] == 0
    held = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    code, stderr = run("train", ["--config.loss.delta=0.2"])
    assert code == 2
    assert "holds a run of another configuration" in stderr
    assert "loss.delta: 0.1 there, 0.2 asked for" in stderr
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == held


def test_refuses_a_workdir_that_is_a_file(run, usual):
    (usual / "run").write_text("mine")
    code, stderr = run("train", [])
    assert code == 2
    assert "is a file; name a folder" in stderr
    assert (usual / "run").read_text() == "mine"


def test_refuses_a_workdir_under_a_file(run, usual):
    code, stderr = run("train", [f"--workdir={usual / 'train.csv' / 'run'}"])
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


def test_a_tilde_is_the_home_folder_in_every_flag(tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    write(home / "data", USUAL)
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    data = ["--config=~/data/config.py", "--config.data.path=~/data"]
    grid = ["--losses=softmax", "--seeds=0", "--workdir=~/grid"]
    tables = ["--results=~/cells", "--markdown=~/page.md"]
    answers = ["--input=~/data/validation.csv", "--output=~/answers.jsonl"]
    for command, flags in (
        (main, [*data, "--workdir=~/run"]),
        (evaluate.main, ["--workdir=~/run", "--split=validation"]),
        (predict.main, ["--workdir=~/run", *answers]),
        (compare.main, [*data, *grid, *tables]),
    ):
        assert command([*flags, "--compilation-cache=~/cache"]) == 0
    written = {path.name for path in home.iterdir()}
    assert {"run", "answers.jsonl", "grid", "cells", "page.md"} <= written
    assert list(here.iterdir()) == []
