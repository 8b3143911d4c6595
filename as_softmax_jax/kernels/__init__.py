"""Kernels behind the `implementation` table, one file an op and a device."""

import contextlib
import contextvars
import logging
from collections.abc import Collection, Iterator

import jax
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.experimental.pallas import tpu as pltpu

from as_softmax_jax._core import checks

_log = logging.getLogger("as_softmax_jax")

# The devices that kernels are for.
_DEVICES = {"mosaic_gpu": "gpu", "mosaic_tpu": "tpu"}
# Of both, what interprets their kernels; jax before 0.12 has none for GPUs.
_INTERPRETERS = {
    "mosaic_gpu": getattr(plgpu, "force_gpu_interpret_mode", None),
    "mosaic_tpu": pltpu.force_tpu_interpret_mode,
}

_interpreted = contextvars.ContextVar("interpreted", default="")


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
    enter = _INTERPRETERS.get(implementation)
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


def choose(implementation: str | None, there: Collection[str], op: str) -> str:
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


def can_interpret(implementation: str) -> bool:
    """Returns whether `interpreted` serves an implementation with this jax."""
    return _INTERPRETERS[implementation] is not None


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
