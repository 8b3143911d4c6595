"""Ctrl-C and SIGTERM end a run between two steps, not in the middle of one."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end; like Ctrl-C, no `except Exception` stops it.

    Attributes:
      signal_number: which one; the exit code is 128 more.
    """

    def __init__(self, signal_number: int, kept: str = ""):
        self.signal_number = signal_number
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name}; {kept}")


class StopRequest:
    """Remembers the first signal; a second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def has_come(self, mini_step: int) -> bool:
        """Whether to stop after this mini-step, of this process's count.

        Where there are several processes they agree on the step, which JAX's runtime
        sees to: whichever of them gets SIGTERM, all stop there.
        """
        if jax.process_count() == 1:
            return self.signal_number is not None
        if multihost_utils.reached_preemption_sync_point(mini_step):
            self.signal_number = signal.SIGTERM
        return self.signal_number is not None

    def check(self, kept: str) -> None:
        """Raises `Stopped`, which says what is kept, once a signal has come."""
        if self.signal_number is not None:
            raise Stopped(self.signal_number, kept)

    def _remember(self, signal_number: int, frame: FrameType | None) -> None:
        del frame
        self.signal_number = signal_number
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catches SIGINT and SIGTERM inside; only a main thread can, others never stop."""
    request = StopRequest()
    several = jax.process_count() > 1  # then the signals are the runtime's
    if several or threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, request._remember) for n in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
