"""The optimizer from the configuration: an optax chain, windowed when asked for."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from as_softmax_jax import (
    active_count_window,
    adaptive_multi_steps,
    settled_ratio_window,
)
from train.config import OptimizerConfig, TrainingConfig

# Decay pulls weights that multiply towards zero; a bias or a norm's scale has no
# reason to be small, so they are left alone, as BERT does. Embeddings do decay.
_UNDECAYED = ("bias", "scale")


def make_optimizer(
    config: OptimizerConfig, training: TrainingConfig, *, total_examples: int
) -> optax.GradientTransformationExtraArgs:
    """Returns clipping, direction, decay and learning rate, in that order.

    Args:
      config: which optimizer and which schedule.
      training: which window rule; with one, the chain runs at a window's end only.
      total_examples: examples seen at the end of training.

    Returns:
      A transformation whose update takes `examples_seen=` and `num_seen=`, the examples
      before its batch and those that the batch stands for, and with a window rule
      `num_valid=`, `num_active=` and `flush=`.
    """
    schedule = learning_rate_schedule(config, total_examples=total_examples)
    clip = optax.clip_by_global_norm(config.clip_norm)
    momentum = optax.trace(config.momentum)
    chain = optax.chain(
        clip if config.clip_norm else optax.identity(),
        optax.scale_by_adam() if config.name == "adamw" else momentum,
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        scale_by_examples_seen(schedule),
    )
    if training.window == "none":
        return optax.with_extra_args_support(chain)
    if training.window == "settled_ratio":
        window = settled_ratio_window(training.window_scale, training.window_max_growth)
    else:
        window = active_count_window(training.window_target)
    return adaptive_multi_steps(chain, window, max_mini_steps=training.max_mini_steps)


Schedule = Callable[[Any, Any], Any]
"""The learning rate of a batch, from the examples seen before it and with it."""


def learning_rate_schedule(config: OptimizerConfig, *, total_examples: int) -> Schedule:
    """Returns the learning rate as a function of examples seen.

    Examples, not steps: a window that grows makes fewer gradient steps of the same
    data, and the decay must still reach its end with the data. The rise counts a
    step's own batch and the decay does not, so no step has a rate of 0: not the first,
    and not the only one of a short run.
    """
    warmup = round(config.warmup * total_examples)
    rest = max(total_examples - warmup, 1)
    decays = {
        "constant": optax.constant_schedule(config.learning_rate),
        "linear": optax.linear_schedule(config.learning_rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, rest),
    }
    decay = decays[config.schedule]
    rise = optax.linear_schedule(0.0, config.learning_rate, max(warmup, 1))

    def rate(before: Any, after: Any) -> Any:
        decayed = decay(jnp.maximum(before - warmup, 0))
        return jnp.where(after < warmup, rise(after), decayed)

    return rate


def scale_by_examples_seen(
    schedule: Schedule,
) -> optax.GradientTransformationExtraArgs:
    """Scales updates by minus the schedule at the examples seen."""

    def init_fn(params: optax.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update_fn(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        examples_seen: jax.Array,
        num_seen: jax.Array,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, extra
        rate = schedule(examples_seen, examples_seen + num_seen)
        return jax.tree.map(lambda u: -rate * u, updates), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def decay_mask(params: Any) -> Any:
    """Returns True for the parameters that decay: all but biases and norm scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in _UNDECAYED, params
    )
