"""A disk that is full, or not to be written: a clear line, and nothing lost."""

import shutil
import subprocess
from collections import namedtuple

import pytest

from train.errors import WorkdirError
from train.loop import train_and_evaluate

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a folder, and mounts it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        again = "remount," if folder.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", folder]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this user may not mount a small disk")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", ["48k", "1100k", "1200k"])
def test_a_full_disk_ends_a_run_that_goes_on_when_there_is_room(
    feature_config, change, tmp_path, disk, size
):
    config = change(feature_config, "training", checkpoint_every=2)
    whole = train_and_evaluate(config, tmp_path / "whole", quiet=True)
    folder = disk(f"size={size}")
    with pytest.raises(WorkdirError, match="what was saved before is whole"):
        train_and_evaluate(config, folder / "run", quiet=True)
    disk("size=50m")
    result = train_and_evaluate(config, folder / "run", quiet=True)
    assert result["test_loss"] == whole["test_loss"]


def test_room_is_asked_for_before_a_checkpoint_is_begun(
    feature_config, tmp_path, monkeypatch
):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 4096))
    with pytest.raises(WorkdirError) as refusal:
        train_and_evaluate(feature_config, tmp_path / "run", quiet=True)
    assert "and 4,096 are free" in str(refusal.value)
    assert not list((tmp_path / "run" / "checkpoints" / "best").iterdir())


def test_what_is_full_in_the_middle_of_a_write_is_named(
    feature_config, tmp_path, monkeypatch
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("train.loop.write_json", fail)
    with pytest.raises(WorkdirError, match="no space is left"):
        train_and_evaluate(feature_config, tmp_path / "run", quiet=True)
    monkeypatch.undo()
    train_and_evaluate(feature_config, tmp_path / "run", quiet=True)


def test_refuses_a_disk_that_is_not_to_be_written(feature_config, disk):
    folder = disk("size=1m")
    disk("ro")
    with pytest.raises(WorkdirError, match="Read-only file system; name a folder"):
        train_and_evaluate(feature_config, folder / "run", quiet=True)
