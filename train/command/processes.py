"""The processes of one run: one a host, or several; the first alone writes.

The command line reads this before it knows that JAX is needed, so each function imports
it for itself.
"""

import argparse

from ..errors import ConfigError, reason


def add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Adds what tells a process of the others."""
    group = parser.add_argument_group(
        "several processes",
        "The same command on each host, in one folder that all of them see.",
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help="find the other processes: on TPU pods, under Slurm, on Kubernetes",
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="of the first process, elsewhere"
    )
    group.add_argument("--num-processes", type=int, help="with --coordinator")
    group.add_argument("--process-id", type=int, help="with --coordinator, from 0 on")


def join_processes(flags: argparse.Namespace) -> None:
    """Waits for the other processes of the run, where there are any.

    Raises:
      ConfigError: the flags do not say who they are, or they cannot be found.
    """
    named = (flags.coordinator, flags.num_processes, flags.process_id)
    if all(value is None for value in named):
        if flags.distributed:
            _initialize()
        return
    if any(value is None for value in named):
        raise ConfigError(
            "--coordinator, --num-processes and --process-id go together; leave all "
            "out for one process, or give --distributed to have them found"
        )
    if not 0 <= flags.process_id < flags.num_processes:
        raise ConfigError(
            f"--process-id: {flags.process_id} is none of {flags.num_processes} "
            "processes, which count from 0"
        )
    _initialize(*named)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    import jax

    return jax.process_index() == 0


def wait_for_all(where: str) -> None:
    """Returns once every process has come here."""
    import jax
    from jax.experimental import multihost_utils

    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def _initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    import jax

    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--distributed: the other processes were not found: {reason(error)}"
        ) from error
