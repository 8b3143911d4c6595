"""What the commands share: refusals in one line, exit codes, the compilation cache."""

import argparse
import os
import platform
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import TrainerError
from .lines import one_line
from .names import command_line
from .screen import forgiving_screen

HUGE_PAGES = "glibc.malloc.hugetlb=1"


def make_parser(
    command: str, description: str, epilog: str = ""
) -> argparse.ArgumentParser:
    """Returns a parser with the flags that every command has."""
    parser = argparse.ArgumentParser(
        prog=command_line(command),
        description=description,
        epilog=epilog,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--compilation-cache",
        default=default_cache(),
        metavar="DIR",
        help="where compiled programs are kept for the next run; empty: nowhere "
        "(default: %(default)s)",
    )
    return parser


def with_huge_pages() -> None:
    """Starts this command again with huge pages for large arrays, where glibc has them.

    XLA allocates its temporaries anew at each step, and on a CPU the page faults cost
    a sixth of the time of a fine-tuning step. glibc reads the setting before Python
    starts, so the process replaces itself, once; one's own setting is left alone.
    """
    if "GLIBC_TUNABLES" in os.environ or platform.libc_ver()[0] != "glibc":
        return
    os.environ["GLIBC_TUNABLES"] = HUGE_PAGES
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def user_path(text: str) -> Path:
    """Returns a flag's path; a `~` that the shell left alone is the user's folder."""
    return Path(text).expanduser()


def run(work: Callable[[], int], *, interrupted: str) -> int:
    """Returns the exit code of a command; a refusal is one line and code 2.

    Args:
      work: the command.
      interrupted: what to say after Ctrl-C.
    """
    with forgiving_screen():
        return _run(work, interrupted)


def _run(work: Callable[[], int], interrupted: str) -> int:
    try:
        return work()
    except TrainerError as refusal:
        print(f"error: {one_line(str(refusal))}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in (__name__.partition(".")[0], "as_softmax_jax"):
            raise
        print(
            f"error: the trainer needs {package}: pip install 'as_softmax_jax[train]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal_number", signal.SIGINT)
        print(
            f"stopped by {signal.Signals(number).name}; {interrupted}", file=sys.stderr
        )
        return 128 + number


def use_compilation_cache(folder: str) -> None:
    """Lets JAX keep compiled programs in a folder and find them there again."""
    import jax

    if not folder:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    folder = str(user_path(folder))
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainerError(
            f"--compilation-cache: cannot write to {folder}: {error.strerror}; name "
            "another folder, or none with --compilation-cache="
        ) from error
    jax.config.update("jax_compilation_cache_dir", str(Path(folder).absolute()))


def default_cache() -> str:
    """Returns where compiled programs are kept where nobody says."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    own = Path(root) / "as_softmax_jax" / "xla"
    return os.environ.get("JAX_COMPILATION_CACHE_DIR", str(own))
