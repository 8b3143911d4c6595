"""Kernels behind the `implementation` table, one file an op and a device.

A kernel's file is imported when its implementation is asked for and not before, since
Pallas takes longer to import than the rest of the package.
"""

import contextlib
import contextvars
import importlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from types import ModuleType
from typing import Any, Literal

import jax

from as_softmax_jax._core import checks

__all__ = ("Implementation", "can_interpret", "interpreted")

Implementation = Literal["xla", "mosaic_tpu", "mosaic_gpu", "reference"]
"""The forms that an op may have; see its own `implementation`."""

_log = logging.getLogger("as_softmax_jax")

# The devices that kernels are for.
_DEVICES = {"mosaic_gpu": "gpu", "mosaic_tpu": "tpu"}

_interpreted = contextvars.ContextVar("interpreted", default="")


class Kernels(Mapping[str, ModuleType]):
    """An op's kernels by implementation; looking one up imports its file.

    Args:
      op: the op's name, as its files have it.
    """

    def __init__(self, op: str):
        self._op = op

    def __getitem__(self, implementation: str) -> ModuleType:
        if implementation not in _DEVICES:
            raise KeyError(implementation)
        return importlib.import_module(f"{__name__}._{self._op}_{implementation}")

    def __contains__(self, implementation: object) -> bool:
        return implementation in _DEVICES

    def __iter__(self) -> Iterator[str]:
        return iter(_DEVICES)

    def __len__(self) -> int:
        return len(_DEVICES)


@contextlib.contextmanager
def interpreted(implementation: str) -> Iterator[None]:
    """Runs the kernels of an implementation step by step on any device, for tests.

    Args:
      implementation: ``"mosaic_tpu"``, or ``"mosaic_gpu"`` with jax 0.12 or later.

    Raises:
      ValueError: this jax cannot interpret it.

    Examples:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_loss, kernels
      >>> logits, labels = jnp.array([[1.0, 0.9, -3.0]]), jnp.array([0])
      >>> jnp.set_printoptions(precision=4)
      >>> with kernels.interpreted("mosaic_tpu"):
      ...     print(as_softmax_loss(
      ...         logits, labels, delta=0.1, implementation="mosaic_tpu"))
      [0.6444]
    """
    enter = _interpreter(implementation)
    if enter is None:
        raise ValueError(
            f"jax {jax.__version__} has no interpreter for {implementation!r}."
        )
    token = _interpreted.set(implementation)
    try:
        with enter():
            yield
    finally:
        _interpreted.reset(token)


def choose(
    implementation: Implementation | None, there: Collection[str], op: str
) -> Implementation:
    """Returns the implementation that an op takes, XLA where none is asked for.

    No kernel has won on a device yet, so each must be asked for. What is taken is
    logged to the logger "as_softmax_jax" at level DEBUG, once a trace.

    Args:
      implementation: the name asked for, or None.
      there: the names that the op has.
      op: its name.

    Raises:
      ValueError: the op has no implementation of that name.
    """
    chosen = "xla" if implementation is None else implementation
    checks.one_of(chosen, there, "implementation")
    _log.debug("%s on %s: implementation %s", op, jax.default_backend(), chosen)
    return chosen


@contextlib.contextmanager
def backward_only() -> Iterator[None]:
    """Names the form that serves forward mode, where JAX refuses it."""
    try:
        yield
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            f'Forward mode needs `implementation="reference"`. {error}'
        ) from error


def can_interpret(implementation: str) -> bool:
    """Returns whether `interpreted` serves an implementation with this jax."""
    return _interpreter(implementation) is not None


def require_device(implementation: str) -> None:
    """Refuses a kernel where no device would run it.

    Raises:
      ValueError: the default device is another, and `interpreted` is not on.
    """
    device, there = _DEVICES[implementation], jax.default_backend()
    if there != device and _interpreted.get() != implementation:
        raise ValueError(
            f"`implementation` {implementation!r} runs on a {device.upper()}; the "
            f"default device here is a {there}. Leave `implementation` out, and the "
            "best form for the device is taken."
        )


def _interpreter(implementation: str) -> Callable[[], Any] | None:
    """Returns what interprets an implementation; jax before 0.12 has none for GPUs."""
    if implementation == "mosaic_tpu":
        from jax.experimental.pallas import tpu

        return tpu.force_tpu_interpret_mode
    if implementation == "mosaic_gpu":
        from jax.experimental.pallas import mosaic_gpu

        return getattr(mosaic_gpu, "force_gpu_interpret_mode", None)
    return None
