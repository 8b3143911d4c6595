"""Gradient transformations and schedules that go with AS-Softmax.

- `adaptive_multi_steps` wraps an optax optimizer and is one, a state and two functions;
  its `update` takes ``num_valid`` and ``num_active``, counts of the mini-batch over all
  devices, and `has_updated` tells whether the optimizer stepped. How many mini-steps a
  step takes is for a window rule to say: `settled_ratio_window`, `active_count_window`,
  or any `WindowRule`. With ``axis_name`` gradients cross devices once a window, and
  `window_specs`, `reduce_window` and `spread_window` say where its state lies.
- `compact_value_and_grad` wraps a function of losses, as `jax.value_and_grad` does.
- `margin_schedule` and its case `delta_schedule` are schedules, functions of the step.

An argument out of range is refused with a TypeError or a ValueError when the transform
is made. Counts are int32 scalars; accumulated gradients are float32 or wider.
"""

from as_softmax_jax.transforms._compact import LossSums, compact_value_and_grad
from as_softmax_jax.transforms._multi_steps import (
    AdaptiveMultiStepsState,
    adaptive_multi_steps,
    has_updated,
)
from as_softmax_jax.transforms._schedules import delta_schedule, margin_schedule
from as_softmax_jax.transforms._window_sharding import (
    reduce_window,
    spread_window,
    window_specs,
)
from as_softmax_jax.transforms._windows import (
    WindowCounts,
    WindowRule,
    active_count_window,
    settled_ratio_window,
)

__all__ = (
    "AdaptiveMultiStepsState",
    "LossSums",
    "WindowCounts",
    "WindowRule",
    "active_count_window",
    "adaptive_multi_steps",
    "compact_value_and_grad",
    "delta_schedule",
    "has_updated",
    "margin_schedule",
    "reduce_window",
    "settled_ratio_window",
    "spread_window",
    "window_specs",
)
