"""Kernels behind the `implementation` table, one file an op and a device."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
from jax.experimental.pallas import tpu as pltpu

_interpreted = contextvars.ContextVar("interpreted", default=False)


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Runs TPU kernels step by step on any device: slow, for tests.

    Example:
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_loss, kernels
      >>> logits, labels = jnp.array([[1.0, 0.9, -3.0]]), jnp.array([0])
      >>> jnp.set_printoptions(precision=4)
      >>> with kernels.interpreted():
      ...     print(as_softmax_loss(
      ...         logits, labels, delta=0.1, implementation="mosaic_tpu"))
      [0.6444]
    """
    token = _interpreted.set(True)
    try:
        with pltpu.force_tpu_interpret_mode():
            yield
    finally:
        _interpreted.reset(token)


def require_tpu(implementation: str) -> None:
    """Refuses a TPU kernel where no TPU would run it.

    Raises:
      ValueError: the default device is another, and `interpreted` is not on.
    """
    if jax.default_backend() != "tpu" and not _interpreted.get():
        raise ValueError(
            f"`implementation` {implementation!r} runs on a TPU; the default device "
            f"here is a {jax.default_backend()}. Leave `implementation` out, and the "
            "best form for the device is taken."
        )
