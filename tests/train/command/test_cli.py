"""What the commands share: exit codes, the compilation cache, huge pages."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import as_softmax_cli
import as_softmax_jax
from train.command import cli
from train.command.names import command_line
from train.command.signals import Stopped
from train.errors import DataError, TrainerError


@pytest.fixture
def cache_settings():
    """Puts JAX's settings of the cache back."""
    names = ("jax_enable_compilation_cache", "jax_compilation_cache_dir")
    held = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in held.items():
        jax.config.update(name, value)


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("bad\n row"), 2, "error: bad row"),
        (DataError("the  `a\tb` \u200b\xa0"), 2, r"error: the  `a\tb` \u200b"),
        (
            ModuleNotFoundError("no", name="grain.x"),
            2,
            "error: the trainer needs grain",
        ),
        (KeyboardInterrupt(), 130, "stopped by SIGINT; all is kept"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM; all is kept"),
    ],
)
def test_what_ends_a_command_is_one_line_and_a_code(capsys, error, code, line):
    assert cli.run(raising(error), interrupted="all is kept") == code
    stderr = capsys.readouterr().err
    assert stderr.startswith(line)
    assert stderr.count("\n") == 1


def test_a_missing_part_of_ours_is_no_missing_package():
    with pytest.raises(ModuleNotFoundError):
        cli.run(
            raising(ModuleNotFoundError("no", name="train.missing")), interrupted=""
        )


def test_compiled_programs_are_kept_where_it_is_said(tmp_path, cache_settings):
    cli.use_compilation_cache(str(tmp_path / "cache"))
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache")
    assert (tmp_path / "cache").is_dir()
    cli.use_compilation_cache("")
    assert not jax.config.jax_enable_compilation_cache


def test_refuses_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrainerError, match="--compilation-cache: cannot write to"):
        cli.use_compilation_cache(str(tmp_path / "file" / "cache"))


@pytest.fixture
def installed_command(monkeypatch):
    """Calls `as-softmax` with arguments in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["/bin/as-softmax", *arguments])
        return as_softmax_cli.main()

    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("GLIBC_TUNABLES", "")
    return call


def test_the_installed_command_lists_its_commands(installed_command, capsys):
    assert installed_command("--help") == 0
    shown = capsys.readouterr().out
    assert installed_command() == 2
    modules = {path.stem for path in Path(cli.__file__).parents[1].glob("*.py")}
    for command in as_softmax_cli.COMMANDS:
        assert f"\n  {command} " in shown
        assert command == "train" or command in modules


def test_the_installed_command_says_its_version(installed_command, capsys):
    assert installed_command("--version") == 0
    assert capsys.readouterr().out == f"as-softmax {as_softmax_jax.__version__}\n"


def test_the_installed_command_knows_the_nearest(installed_command, capsys):
    assert installed_command("predit") == 2
    assert capsys.readouterr().err == (
        "error: as-softmax has no command 'predit'; did you mean predict?\n"
    )


@pytest.mark.filterwarnings("ignore:.*found in sys.modules.*:RuntimeWarning")
@pytest.mark.parametrize("command", as_softmax_cli.COMMANDS)
def test_each_command_says_how_it_was_called(command, installed_command, capsys):
    with pytest.raises(SystemExit, match=r"\A0\Z"):
        installed_command(command, "--help")
    assert capsys.readouterr().out.startswith(f"usage: as-softmax {command} ")


@pytest.mark.parametrize(
    ("command", "called"),
    [("train", "python -m train"), ("predict", "python -m train.predict")],
)
def test_a_module_says_that_it_was_called_as_one(command, called, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/work/train/predict.py"])
    assert command_line(command) == called


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
@pytest.mark.parametrize(
    ("own", "expected"), [(None, cli.HUGE_PAGES), ("glibc.malloc.arena_max=1", None)]
)
def test_a_command_starts_again_once_with_huge_pages(own, expected):
    code = (
        "import os, sys; from train.command.cli import with_huge_pages\n"
        "print('start', flush=True); with_huge_pages()\n"
        "print(os.environ['GLIBC_TUNABLES'], sys.argv[1:])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    if own:
        environment["GLIBC_TUNABLES"] = own
    ended = subprocess.run(
        [sys.executable, "-c", code, "--flag"],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    lines = ended.stdout.splitlines()
    assert lines.count("start") == (1 if own else 2)
    assert lines[-1] == f"{expected or own} ['--flag']"
