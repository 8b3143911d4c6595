"""What is written to a screen that is gone, or that lacks a character, ends nothing."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tqdm

import train
from train.command import cli

ROOT = Path(train.__file__).parents[1]


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_goes_away_ends_nothing(monkeypatch, name):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, name, pipe)

        def work():
            for _ in range(3):
                print("a line", file=getattr(sys, name), flush=True)
                tqdm.tqdm.write("another", file=getattr(sys, name))
            return 7

        assert cli.run(work, interrupted="") == 7
        assert getattr(sys, name) is pipe


def test_what_an_encoding_lacks_is_a_question_mark(monkeypatch):
    held = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding="ascii"))

    def work():
        print("39.55 → 0.57")
        return 0

    assert cli.run(work, interrupted="") == 0
    assert held.getvalue() == b"39.55 ? 0.57\n"


@pytest.mark.long
def test_a_run_goes_on_without_its_screen(tmp_path):
    command = [
        *(sys.executable, "-m", "train", "--config", "configs/digits.py"),
        *("--workdir", str(tmp_path / "run"), "--config.training.epochs=3"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("epoch   1") for line in lines)
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
    assert process.returncode == 0
    assert (tmp_path / "run" / "result.json").exists()
