"""A workdir at an address: its files but checkpoints; memory is the bucket."""

import dataclasses
import json
from typing import ClassVar
from unittest.mock import MagicMock

import fsspec
import numpy as np
import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from train.compare import main as compare
from train.config import Config
from train.errors import WorkdirError
from train.storage import as_folder, check_space, is_local, write_arrays, write_json
from train.workdir.log import RunLog
from train.workdir.workdir import check_workdir, hold_workdir, open_workdir


@pytest.fixture
def bucket(monkeypatch):
    """The address of an empty bucket."""

    class Bucket(MemoryFileSystem):
        protocol = ("gcs", "gs")
        store: ClassVar = {}
        pseudo_dirs: ClassVar = [""]

        def __init__(self, finalize_on_close=True, **options):
            super().__init__(**options)

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(str(path).removeprefix("gs:/"))

    for name in ("gcs", "gs"):
        fsspec.register_implementation(name, Bucket, clobber=True)
    epath.backend.fsspec_backend._get_filesystem.cache_clear()
    # TensorBoard's writer speaks to buckets by itself.
    monkeypatch.setattr("train.workdir.loggers.tensorboardX.SummaryWriter", MagicMock())
    return "gs://bucket"


def test_a_run_keeps_its_files_there(bucket):
    workdir = as_folder(f"{bucket}/runs/one")
    assert not is_local(workdir)
    assert check_workdir(workdir, Config()) is None
    with hold_workdir(workdir):
        open_workdir(workdir, Config(), ("a", "b"), {"notes.txt": "mine"})
        check_space(workdir, 2**60)
        write_arrays(workdir / "margins.npz", before=np.ones(3))
    assert json.loads((workdir / "classes.json").read_text()) == ["a", "b"]
    assert (workdir / "notes.txt").read_text() == "mine"
    assert not (workdir / ".lock").exists()
    with pytest.raises(WorkdirError, match="seed: 0 there, 3 asked for"):
        check_workdir(workdir, dataclasses.replace(Config(), seed=3))
    write_json(workdir / "result.json", {"accuracy": 1.0})
    assert check_workdir(workdir, Config()) == {"accuracy": 1.0}


def test_records_are_written_as_they_come(bucket):
    workdir = as_folder(f"{bucket}/run")
    workdir.mkdir(parents=True, exist_ok=True)
    with RunLog(workdir, metric="loss", total_examples=1, quiet=True) as log:
        for step in (1, 2):
            log._write({"mini_steps": step})
            lines = (workdir / "metrics.jsonl").read_text().splitlines()
            assert json.loads(lines[-1]) == {"mini_steps": step}
            assert len(lines) == step


def test_a_grid_is_local(capsys):
    flags = ["--config=configs/digits.py", "--losses=softmax", "--seeds=0"]
    code = compare([*flags, "--workdir=gs://bucket/x"])
    assert code == 2
    assert "is an address; a grid's folder must be local" in capsys.readouterr().err
