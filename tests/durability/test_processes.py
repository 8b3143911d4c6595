"""Two processes of four devices each are one process of eight."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import train

ROOT = Path(train.__file__).parents[1]
COMMAND = [
    *(sys.executable, "-m", "train", "--config", "configs/digits.py"),
    *("--config.training.epochs=2", "--config.optimizer.name=sgd"),
    *("--config.data.train_examples=200", "--config.training.window=settled_ratio"),
    *("--config.model.dropout=0.0", "--config.optimizer.learning_rate=0.05"),
]


def start(workdir, devices, *flags, command=COMMAND, **variables):
    """Starts the command on so many CPU devices."""
    environment = (
        os.environ
        | variables
        | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }
    )
    command = [*command, "--workdir", str(workdir), *flags]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(*processes):
    """Waits for all of them, and shows what went wrong."""
    errors = [process.communicate(timeout=200)[1] for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(codes), errors


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def wait_for(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


def records(workdir):
    names = ("train_loss", "validation_loss", "settled_share", "gradient_steps")
    result = json.loads((workdir / "result.json").read_text())
    return np.array([[r[name] for name in names] for r in result["records"]])


def by_flags(workdir, *flags, devices=4, command=COMMAND):
    """Starts two processes that are told of each other."""
    found = ("--coordinator", f"localhost:{free_port()}", "--num-processes", "2")
    return [
        start(
            *(workdir, devices, *found, "--process-id", f"{k}", *flags), command=command
        )
        for k in (0, 1)
    ]


def by_slurm(workdir):
    """Starts two processes with the variables that Slurm sets."""
    variables = {
        "SLURM_JOB_ID": f"{os.getpid()}",  # decides the port
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
    }
    return [
        start(
            workdir,
            4,
            "--distributed",
            SLURM_PROCID=f"{k}",
            SLURM_LOCALID=f"{k}",
            **variables,
        )
        for k in (0, 1)
    ]


@pytest.mark.long
@pytest.mark.parametrize("start_two", [by_flags, by_slurm])
def test_two_processes_are_one(tmp_path, start_two):
    finish(start(tmp_path / "one", 8))
    finish(*start_two(tmp_path / "two"))
    np.testing.assert_allclose(
        records(tmp_path / "two"), records(tmp_path / "one"), rtol=1e-5
    )
    result = json.loads((tmp_path / "two" / "result.json").read_text())
    assert result["machine"]["processes"] == 2
    assert result["machine"]["devices"] == 8


@pytest.mark.long
def test_saving_the_best_and_the_latest_at_once_ends(feature_folder, tmp_path):
    command = [*COMMAND[:4], "configs/csv_features.py"]
    flags = (
        f"--config.data.path={feature_folder}",
        *("--config.training.epochs=20", "--config.training.checkpoint_every=1"),
    )
    finish(*by_flags(tmp_path / "run", *flags, devices=1, command=command))
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--coordinator", "localhost:1"], "go together"),
        (["--num-processes", "2"], "go together"),
        (
            ["--coordinator", "h:1", "--num-processes", "2", "--process-id", "2"],
            "is none of 2",
        ),
    ],
)
def test_refuses_flags_that_name_no_process(tmp_path, capsys, flags, message):
    from train.__main__ import main

    command = ["--config", "configs/digits.py", "--workdir", str(tmp_path / "run")]
    assert main([*command, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_one_process_goes_on_from_two(tmp_path):
    finish(start(tmp_path / "whole", 8))
    saving = "--config.training.checkpoint_every=2"
    two = by_flags(tmp_path / "run", saving)
    latest = tmp_path / "run" / "checkpoints" / "latest"
    wait_for(
        lambda: latest.is_dir() and any(p.name.isdigit() for p in latest.iterdir())
    )
    for process in two:
        process.kill()
    for process in two:
        process.communicate()
    assert not (tmp_path / "run" / "result.json").exists()
    one = start(tmp_path / "run", 4, saving)
    errors = one.communicate(timeout=300)[1]
    assert one.returncode == 0, errors
    assert (
        "saved by 2 process(es) with 8 x 1 devices, now 1 process(es) with 4" in errors
    )
    np.testing.assert_allclose(
        records(tmp_path / "run"), records(tmp_path / "whole"), rtol=1e-5
    )
