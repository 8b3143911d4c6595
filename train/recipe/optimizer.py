"""The optimizer from the configuration: an optax chain, windowed when asked for."""

from typing import Any

import jax
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
      A transformation whose update takes `examples_seen=`, and with a window rule
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


def learning_rate_schedule(
    config: OptimizerConfig, *, total_examples: int
) -> optax.Schedule:
    """Returns the learning rate as a function of examples seen.

    Examples, not steps: a window that grows makes fewer gradient steps of the same
    data, and the decay must still reach its end with the data.
    """
    warmup = round(config.warmup * total_examples)
    rest = max(total_examples - warmup, 1)
    decays = {
        "constant": optax.constant_schedule(config.learning_rate),
        "linear": optax.linear_schedule(config.learning_rate, 0.0, rest),
        "cosine": optax.cosine_decay_schedule(config.learning_rate, rest),
    }
    decay = decays[config.schedule]
    if not warmup:
        return decay
    rise = optax.linear_schedule(0.0, config.learning_rate, warmup)
    return optax.join_schedules([rise, decay], [warmup])


def scale_by_examples_seen(
    schedule: optax.Schedule,
) -> optax.GradientTransformationExtraArgs:
    """Scales updates by minus the schedule at the update's `examples_seen=`."""

    def init_fn(params: optax.Params) -> optax.EmptyState:
        del params
        return optax.EmptyState()

    def update_fn(
        updates: optax.Updates,
        state: optax.EmptyState,
        params: optax.Params | None = None,
        *,
        examples_seen: jax.Array,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, extra
        rate = schedule(examples_seen)
        return jax.tree.map(lambda u: -rate * u, updates), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def decay_mask(params: Any) -> Any:
    """Returns True for the parameters that decay: all but biases and norm scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key not in _UNDECAYED, params
    )
