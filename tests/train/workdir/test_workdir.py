"""The working directory: whose it is, and files that are whole or not there."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from train.config import Config, MeshConfig, TrainingConfig
from train.errors import WorkdirError
from train.storage import write_arrays, write_json
from train.workdir.workdir import check_workdir, hold_workdir, open_workdir

DATA = ("a", "b"), {"notes.txt": "mine"}


def test_an_open_workdir_says_what_runs_in_it(tmp_path):
    workdir = tmp_path / "deep" / "run"
    open_workdir(workdir, Config(), *DATA)
    assert sorted(path.name for path in workdir.iterdir()) == [
        "classes.json",
        "config.json",
        "notes.txt",
    ]
    assert json.loads((workdir / "classes.json").read_text()) == ["a", "b"]


def test_only_a_finished_run_of_the_configuration_has_a_result(tmp_path):
    assert check_workdir(tmp_path / "none", Config()) is None
    open_workdir(tmp_path, Config(), *DATA)
    assert check_workdir(tmp_path, Config()) is None
    write_json(tmp_path / "result.json", {"accuracy": 1.0})
    assert check_workdir(tmp_path, Config()) == {"accuracy": 1.0}


def test_refuses_another_run_and_names_the_difference(tmp_path):
    open_workdir(tmp_path, Config(), *DATA)
    other = dataclasses.replace(Config(), seed=3)
    with pytest.raises(WorkdirError, match="seed: 0 there, 3 asked for"):
        check_workdir(tmp_path, other)


def test_a_run_may_go_on_on_other_devices(tmp_path):
    open_workdir(tmp_path, Config(), *DATA)
    mesh = MeshConfig(data=4, model=2)
    assert check_workdir(tmp_path, dataclasses.replace(Config(), mesh=mesh)) is None


def test_a_key_that_came_later_has_its_default(tmp_path):
    open_workdir(tmp_path, Config(), *DATA)
    file = tmp_path / "config.json"
    held = json.loads(file.read_text())
    del held["training"]["keep_checkpoints"]
    write_json(file, held)
    assert check_workdir(tmp_path, Config()) is None
    training = TrainingConfig(keep_checkpoints=3)
    with pytest.raises(WorkdirError, match="keep_checkpoints: 2 there, 3 asked for"):
        check_workdir(tmp_path, dataclasses.replace(Config(), training=training))


def test_refuses_a_folder_whose_configuration_is_damaged(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WorkdirError, match=r"config\.json cannot be read as JSON"):
        check_workdir(tmp_path, Config())


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"accuracy": 1.0})
    with pytest.raises(TypeError):
        write_json(path, {"accuracy": object()})
    assert json.loads(path.read_text()) == {"accuracy": 1.0}


def test_arrays_are_kept_by_their_names_and_nothing_else_is(tmp_path):
    write_arrays(tmp_path / "m.npz", before=np.arange(3.0), after=np.zeros(0))
    with np.load(tmp_path / "m.npz") as found:
        assert sorted(found) == ["after", "before"]
        np.testing.assert_array_equal(found["before"], [0.0, 1.0, 2.0])


def test_a_workdir_is_held_by_one_run_until_its_process_ends(tmp_path):
    program = (
        "import pathlib, sys, time\n"
        "from train.workdir.workdir import hold_workdir\n"
        "with hold_workdir(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        refused = pytest.raises(WorkdirError, match="another run is writing to")
        with refused, hold_workdir(tmp_path):
            pass
        other.kill()
    with hold_workdir(tmp_path):
        pass


@pytest.mark.parametrize("name", ["classes.json", "metrics.jsonl", "notes", "a.txt"])
def test_refuses_a_folder_of_somebodys_own_files(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(WorkdirError, match=f"holds '{name}' and no run"):
        check_workdir(tmp_path, Config())
    assert (tmp_path / name).read_text() == "mine"


def test_what_a_run_killed_early_leaves_is_no_obstacle(tmp_path):
    (tmp_path / "checkpoints" / "latest").mkdir(parents=True)
    for name in (".lock", ".DS_Store"):
        (tmp_path / name).write_text("")
    assert check_workdir(tmp_path, Config()) is None


@pytest.mark.parametrize("name", ["run[1]", "run]", "a\\b", "[x]/run"])
def test_refuses_a_path_that_no_checkpoint_is_read_from(tmp_path, name):
    with pytest.raises(WorkdirError, match="has a bracket or a backslash"):
        check_workdir(tmp_path / name, Config())


@pytest.mark.parametrize("name", ["a b", "50%", "#1", "why?", "a*", "{x}", "é", "'q'"])
def test_other_paths_are_fine(tmp_path, name):
    assert check_workdir(tmp_path / name, Config()) is None
