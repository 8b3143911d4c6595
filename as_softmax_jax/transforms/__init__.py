"""Gradient transformations and schedules that go with AS-Softmax."""

from as_softmax_jax.transforms._compact import LossSums, compact_value_and_grad
from as_softmax_jax.transforms._multi_steps import (
    AdaptiveMultiStepsState,
    adaptive_multi_steps,
    has_updated,
)
from as_softmax_jax.transforms._schedules import delta_schedule
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

__all__ = [
    "AdaptiveMultiStepsState",
    "LossSums",
    "WindowCounts",
    "WindowRule",
    "active_count_window",
    "adaptive_multi_steps",
    "compact_value_and_grad",
    "delta_schedule",
    "has_updated",
    "reduce_window",
    "settled_ratio_window",
    "spread_window",
    "window_specs",
]
