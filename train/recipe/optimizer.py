"""The optimizer from the configuration: an optax chain, windowed when asked for."""

import dataclasses
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

from ..config import OptimizerConfig, TrainingConfig
from .layers import scale_by_layer

# Decay pulls weights that multiply towards zero; a bias or a norm's scale has no
# reason to be small, so they are left alone, as BERT does. Embeddings do decay. These
# are the endings of their names.
_UNDECAYED = ("bias", "scale")


def make_optimizer(
    config: OptimizerConfig,
    training: TrainingConfig,
    rate: "LearningRate",
    *,
    rescale: bool = False,
    trained: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Returns clipping, direction, decay and learning rate, in that order.

    Args:
      config: which optimizer, and its other settings.
      training: which window rule; with one, the chain runs at a window's end only.
      rate: by the examples seen.
      rescale: whether a batch that stands for more examples than it holds has a larger
        rate.
      trained: from parameters to which of them are trained; the others do not move,
        count in no norm and have no moments. None: all are.

    Returns:
      A transformation whose update takes `examples_seen=`, `num_seen=` and `num_rows=`,
      the examples before its batch, those that the batch stands for and those in it,
      and with a window rule `num_valid=`, `num_active=` and `flush=`.
    """
    clip = clip_by_global_norm(config.clip_norm)
    momentum = optax.trace(config.momentum)
    chain = optax.chain(
        clip if config.clip_norm else optax.identity(),
        optax.scale_by_adam() if config.name == "adamw" else momentum,
        optax.add_decayed_weights(config.weight_decay, mask=decay_mask),
        scale_by_examples_seen(rate, rescale=rescale),
        optax.identity()
        if config.layer_decay == 1
        else scale_by_layer(config.layer_decay),
    )
    if trained is not None:
        groups = {"trained": chain, "frozen": optax.set_to_zero()}

        def group(params: Any) -> Any:
            return jax.tree.map(
                lambda moves: "trained" if moves else "frozen", trained(params)
            )

        chain = optax.partition(groups, group)
    if training.window == "none":
        return optax.with_extra_args_support(chain)
    if training.window == "settled_ratio":
        window = settled_ratio_window(training.window_scale, training.window_max_growth)
    else:
        window = active_count_window(training.window_target)
    return adaptive_multi_steps(chain, window, max_mini_steps=training.max_mini_steps)


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Clips as optax's function of that name does, to rounding.

    By one factor: XLA fuses a product into whoever reads it, and writes optax's
    quotient to memory first, all parameters long.
    """

    def update_fn(
        updates: optax.Updates, state: optax.EmptyState, params: Any = None
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params
        norm = optax.tree.norm(updates)
        factor = jnp.where(norm < max_norm, 1.0, max_norm / norm)
        return jax.tree.map(lambda u: u * factor.astype(u.dtype), updates), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update_fn)


# With steps that are shares of all: where numbers of steps are traced, optax cannot ask
# whether there are any.
_DECAYS = {
    "constant": optax.constant_schedule(1.0),
    "linear": optax.linear_schedule(1.0, 0.0, 1),
    "cosine": optax.cosine_decay_schedule(1.0, 1),
}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LearningRate:
    """The learning rate by examples seen; a pytree whose numbers may be traced.

    Examples, not steps: a window that grows makes fewer gradient steps of the same
    data, and the decay must still reach its end with the data. The rise counts a
    step's own batch and the decay does not, so no step has a rate of 0: not the first,
    and not the only one of a short run.

    Attributes:
      decay: constant, linear or cosine.
      peak: the rate between rise and decay.
      warmup: examples of the rise.
      rest: examples of the decay.
    """

    decay: str = dataclasses.field(metadata={"static": True})
    peak: Any
    warmup: Any
    rest: Any

    def at(self, before: Any, after: Any) -> jax.Array:
        """Returns the rate of a batch.

        Args:
          before: examples seen before it.
          after: examples seen with it.
        """
        share = jnp.maximum(before - self.warmup, 0) / self.rest
        rise = jnp.minimum(after / jnp.maximum(self.warmup, 1), 1.0)
        factor = jnp.where(after < self.warmup, rise, _DECAYS[self.decay](share))
        return self.peak * factor


def make_learning_rate(config: OptimizerConfig, *, total_examples: int) -> LearningRate:
    """Returns the learning rate over training.

    Args:
      config: peak, warm-up and decay.
      total_examples: examples seen at the end.
    """
    warmup = round(config.warmup * total_examples)
    rest = max(total_examples - warmup, 1)
    return LearningRate(config.schedule, config.learning_rate, warmup, rest)


def scale_by_examples_seen(
    learning_rate: LearningRate, *, rescale: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Scales updates by minus the learning rate at the examples seen.

    Args:
      learning_rate: by examples seen.
      rescale: whether the rate of a batch that stands for k times the examples that it
        holds is sqrt(k) times as large, the square root being Adam's rule for batches
        (Malladi et al., arXiv 2205.10287); 2 times at most.
    """

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
        num_rows: jax.Array | int = 1,
        **extra: Any,
    ) -> tuple[optax.Updates, optax.EmptyState]:
        del params, extra
        rate = learning_rate.at(examples_seen, examples_seen + num_seen)
        if rescale:
            rate *= jnp.clip(jnp.sqrt(num_seen / jnp.maximum(num_rows, 1)), 1.0, 2.0)
        return jax.tree.map(lambda u: -rate * u, updates), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def decay_mask(params: Any) -> Any:
    """Returns True for the parameters that decay: all but biases and norm scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not str(path[-1].key).endswith(_UNDECAYED), params
    )
