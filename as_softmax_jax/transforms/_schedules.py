"""Schedules for the margin of AS-Softmax."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core.margin import check_one_given

Schedule = Callable[[ArrayLike], jax.Array]


def margin_schedule(
    *,
    delta: float | jax.Array | None = None,
    logit_margin: float | jax.Array | None = None,
    init: float | jax.Array | None = None,
    warmup_steps: int | jax.Array = 0,
    end: float | jax.Array | None = None,
    cooldown_steps: int | jax.Array = 0,
    total_steps: int | jax.Array | None = None,
) -> Schedule:
    r"""A margin over training: from `init` to its value, and in the end to `end`.

    A margin :math:`\delta` of probabilities moves linearly; one of logits, m, so that
    :math:`e^{-m}` does, the ratio :math:`p_i / p_t` from which on a class is kept. With
    a the margin at the beginning of a stretch of n steps and b the one at its end,

    .. math::
      \delta(s) = a + (b - a) \, \frac{s}{n}, \qquad
      m(s) = -\log\Bigl(e^{-a} + (e^{-b} - e^{-a}) \, \frac{s}{n}\Bigr)

    At their defaults `init` and `end` are those of softmax cross-entropy, where every
    class is kept: training drops classes more eagerly step by step, and may end on all
    of them again. An optax schedule: a function of the step.

    An argument may be traced, so that one compiled program serves every value; it is
    then taken as it is, and numbers of steps are at least 1.

    Args:
      delta: the margin of probabilities, in [0, 1]; or else
      logit_margin: the margin of logits, in [0, inf]. Exactly one of the two is given.
      init: the margin at step 0, of the same unit; None: 1, or inf.
      warmup_steps: steps from `init` to the margin, an integer of at least 0.
      end: the margin at step `total_steps`, of the same unit; None: 1, or inf.
      cooldown_steps: the last steps, in which the margin goes to `end`.
      total_steps: of training; needed where there are `cooldown_steps`, and no fewer
        than both stretches.

    Returns:
      A function from a step, an integer of any shape, to the margin at it, of
      that shape, dtype float32.

    Raises:
      TypeError: an argument is no number.
      ValueError: an argument is out of range, or not exactly one margin is given.

    Examples:
      >>> from as_softmax_jax import margin_schedule
      >>> schedule = margin_schedule(
      ...     logit_margin=2.0, warmup_steps=100, cooldown_steps=50, total_steps=500)
      >>> [round(float(schedule(step)), 2) for step in (0, 50, 100, 450, 475, 500)]
      [inf, 2.69, 2.0, 2.0, 2.69, inf]

    References:
      Lv et al., `Adaptive Sparse Softmax <https://arxiv.org/abs/2508.03175>`_,
      2025: its margin warm-up, with ``delta`` and ``warmup_steps``.
    """
    check_one_given(delta, logit_margin, "margin_schedule")
    unit = _PROBABILITY if logit_margin is None else _LOGITS
    given = delta if logit_margin is None else logit_margin
    margin = _checked(unit.check, given, unit.keyword)
    init = _checked(unit.check, unit.softmax if init is None else init, "init")
    end = _checked(unit.check, unit.softmax if end is None else end, "end")
    warmup_steps = _checked(_steps, warmup_steps, "warmup_steps")
    cooldown_steps = _checked(_steps, cooldown_steps, "cooldown_steps")
    last = _check_total(total_steps, warmup_steps, cooldown_steps)

    def schedule(count: ArrayLike) -> jax.Array:
        step = jnp.asarray(count).astype(jnp.float32)
        value = jnp.full_like(step, margin)
        if _is_traced(warmup_steps) or warmup_steps:
            value = _between(unit, init, margin, step / warmup_steps)
        if _is_traced(cooldown_steps) or cooldown_steps:
            start = last - cooldown_steps
            back = _between(unit, margin, end, (step - start) / cooldown_steps)
            value = jnp.where(step > start, back, value)
        return value

    return schedule


def delta_schedule(delta: float, *, warmup_steps: int, init: float = 1.0) -> Schedule:
    r"""The margin's warm-up: from `init` linearly to `delta`, then constant.

    .. math::
      \delta(s) = \mathrm{init} + (\delta - \mathrm{init})
      \min(s / \mathrm{warmup\_steps}, 1)

    At the default `init` of 1 training starts as softmax cross-entropy and drops
    classes more eagerly step by step. It is `margin_schedule` of a `delta`.

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
    return margin_schedule(delta=delta, init=init, warmup_steps=warmup_steps)


class _Unit(NamedTuple):
    """What a margin is measured in."""

    keyword: str
    softmax: float  # the margin at which every class is kept
    check: Callable[..., float]  # refuses a number that is no margin
    mix: Callable[[Any, Any, jax.Array], jax.Array]  # at a share of the way


def _mixed_linearly(a: Any, b: Any, share: jax.Array) -> jax.Array:
    return a * (1.0 - share) + b * share


def _mixed_by_ratio(a: Any, b: Any, share: jax.Array) -> jax.Array:
    return -jnp.logaddexp(jnp.log1p(-share) - a, jnp.log(share) - b)


_PROBABILITY = _Unit("delta", 1.0, checks.unit_interval_float, _mixed_linearly)
_LOGITS = _Unit("logit_margin", math.inf, checks.not_negative_float, _mixed_by_ratio)


def _steps(value: Any, name: str) -> int:
    """Returns a number of steps, or refuses it by `name`."""
    return checks.integer(value, name, at_least=0)


def _is_traced(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer)


def _checked(check: Callable[..., Any], value: Any, name: str) -> Any:
    """Returns a number that has been checked, or a traced one as it is."""
    return value if _is_traced(value) else check(value, name)


def _between(unit: _Unit, a: ArrayLike, b: ArrayLike, share: jax.Array) -> jax.Array:
    """Returns the margin a share of the way from a to b; exact at both ends."""
    share = jnp.clip(share, 0.0, 1.0)
    # The bounds keep rounding from leaving the range, which a loss refuses by NaN.
    value = jnp.clip(unit.mix(a, b, share), jnp.minimum(a, b), jnp.maximum(a, b))
    return jnp.where(share == 0.0, a, jnp.where(share == 1.0, b, value))


def _check_total(
    total_steps: int | jax.Array | None,
    warmup_steps: int | jax.Array,
    cooldown_steps: int | jax.Array,
) -> int | jax.Array:
    """Returns the last step; refuses stretches that overlap."""
    if total_steps is None:
        if _is_traced(cooldown_steps) or cooldown_steps:
            raise ValueError(
                "`cooldown_steps` are the last ones of training: give `total_steps`."
            )
        return 0
    last = _checked(_steps, total_steps, "total_steps")
    known = not any(map(_is_traced, (last, warmup_steps, cooldown_steps)))
    if known and warmup_steps + cooldown_steps > last:
        raise ValueError(
            f"`warmup_steps` and `cooldown_steps` must fit into `total_steps`; got "
            f"{warmup_steps} + {cooldown_steps} of {last}."
        )
    return last
