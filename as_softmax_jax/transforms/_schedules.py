"""Schedules for the margin `delta`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks


def delta_schedule(
    delta: float, *, warmup_steps: int, init: float = 1.0
) -> Callable[[ArrayLike], jax.Array]:
    r"""The margin's warm-up: from `init` linearly to `delta`, then constant.

    .. math::
      \delta(s) = \mathrm{init} + (\delta - \mathrm{init})
      \min(s / \mathrm{warmup\_steps}, 1)

    At the default `init` of 1 training starts as softmax cross-entropy and drops
    classes more eagerly step by step. An optax schedule: a function of the step.

    Args:
      delta: the final margin, in [0, 1].
      warmup_steps: steps until `delta` is reached, an integer of at least 0;
        0 gives the constant `delta`.
      init: the margin at step 0, in [0, 1].

    Returns:
      A function from a step, an integer of any shape, to the margin at it, of
      that shape, dtype float32.

    Raises:
      TypeError, ValueError: an argument is not as above.

    Examples:
      >>> from as_softmax_jax import delta_schedule
      >>> schedule = delta_schedule(0.2, warmup_steps=100)
      >>> [round(float(schedule(step)), 2) for step in (0, 50, 100, 1000)]
      [1.0, 0.6, 0.2, 0.2]

    References:
      Lv et al., `Adaptive Sparse Softmax <https://arxiv.org/abs/2508.03175>`_,
      2025: its margin warm-up.
    """
    delta = checks.unit_interval_float(delta, "delta")
    init = checks.unit_interval_float(init, "init")
    warmup_steps = checks.integer(warmup_steps, "warmup_steps", at_least=0)

    def schedule(count: ArrayLike) -> jax.Array:
        step = jnp.asarray(count).astype(jnp.float32)
        if warmup_steps == 0:
            return jnp.full_like(step, delta)
        done = jnp.clip(step / warmup_steps, 0.0, 1.0)
        # Both ends come out exact in this form. The bounds keep rounding from
        # passing 1, which a loss refuses by NaN.
        value = init * (1.0 - done) + delta * done
        return jnp.clip(value, min(init, delta), max(init, delta))

    return schedule
