"""Window rules: how many mini-steps one gradient step is accumulated over."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from as_softmax_jax._core import checks


class WindowCounts(NamedTuple):
    """What a window rule sees at a mini-step, that mini-step included.

    A mini-batch *counts* when its gradient is finite and it holds a valid
    example. The window is `opening` up to and with the first one that counts.
    """

    mini_step: jax.Array  # mini-steps in this window, shape=(), dtype=int32
    # Valid examples in it, at most 2**31 - 1: there the count stays.
    num_valid: jax.Array  # shape=(), dtype=int32
    num_active: jax.Array  # active ones among them, likewise
    # The length decided for this window; the last window's while `opening`.
    window_length: jax.Array  # shape=(), dtype=int32
    opening: jax.Array  # whether none counted before, shape=(), dtype=bool
    max_mini_steps: int  # the longest window allowed
    # Steps of the inner optimizer before this window, for lengths by schedule.
    gradient_step: jax.Array | int = 0  # shape=(), dtype=int32


WindowRule = Callable[[WindowCounts], jax.Array]
"""Any function from `WindowCounts` to the window's length, an int32 scalar.

The window closes at the mini-step that reaches the length. The rule is asked at
each mini-step and must decide by its argument alone, so that every device and a
resumed run decide alike; the answer is clipped to [1, max_mini_steps].
"""


def settled_ratio_window(scale: float = 1.0, max_growth: int = 1) -> WindowRule:
    r"""The paper's rule: a window as long as the share of settled examples asks.

    Decided once, on the first mini-batch of the window that counts:

    .. math::
      k = \mathrm{round}(\mathrm{scale} \cdot n_{valid} / n_{active}), \qquad
      k_{last} \le k \le \min(k_{last} + \mathrm{max\_growth},
      \mathrm{max\_mini\_steps}),

    with :math:`k_{last} = 1` before the first window. Halves round down, as in the
    authors' code, which adds 1e-8 to :math:`n_{active}`. Without any active example,
    :math:`k` is the largest allowed. A window whose mini-batches so far were all empty
    or non-finite is open until that largest length at most, and leaves
    :math:`k_{last}` as it was.

    Args:
      scale: the paper's lambda, above 0.
      max_growth: by how many mini-steps a window may exceed the last one, an
        integer of at least 0; 0 keeps every window at one mini-step.

    Returns:
      A window rule for `adaptive_multi_steps`.

    Raises:
      TypeError, ValueError: `scale` or `max_growth` is not as above.

    Examples:
      >>> import optax
      >>> from as_softmax_jax import (
      ...     adaptive_multi_steps, settled_ratio_window)
      >>> rule = settled_ratio_window(scale=1.0, max_growth=4)
      >>> tx = adaptive_multi_steps(optax.sgd(1.0), rule, max_mini_steps=8)
      >>> state = tx.init(0.0)
      >>> _, state = tx.update(0.0, state, num_valid=32, num_active=10)  # 3.2
      >>> int(state.window_length)
      3

    References:
      Lv et al., `Adaptive Sparse Softmax <https://arxiv.org/abs/2508.03175>`_,
      2025: its adaptive gradient accumulation.
    """
    scale = checks.positive_float(scale, "scale")
    max_growth = checks.integer(max_growth, "max_growth", at_least=0)

    # What float32 makes of a scale may lie above it, and a half then above a half.
    exact = float(np.float32(scale)) == scale
    shrink = 1.0 if exact else 1.0 - 2.0**-22

    def rule(counts: WindowCounts) -> jax.Array:
        _check_counts(counts)
        last, limit = counts.window_length, counts.max_mini_steps
        # Growth is cut first: `last + max_growth` could pass the int32 range.
        largest = last + jnp.minimum(min(max_growth, limit), limit - last)
        active = jnp.maximum(counts.num_active, 1).astype(jnp.float32)
        ratio = scale * counts.num_valid.astype(jnp.float32) / active * shrink
        # Bounded before the cast, for a huge float has no int32; the limits
        # themselves are applied as integers, which float32 could not hold.
        k = jnp.minimum(jnp.ceil(ratio - 0.5), 2.0**30).astype(jnp.int32)
        k = jnp.where(counts.num_active > 0, jnp.clip(k, last, largest), largest)
        return jnp.where(counts.opening, k, last)

    return rule


def active_count_window(target: int) -> WindowRule:
    r"""A window that closes once it holds `target` active examples.

    .. math::
      \text{close} \iff \sum_{\text{window}} n_{active} \ge \mathrm{target}
      \ \text{ or } \ \mathrm{mini\_step} = \mathrm{max\_mini\_steps}

    Each gradient step then averages over about the same number of examples that
    have a gradient, however many are settled.

    Args:
      target: active examples a gradient step, over all devices, an integer of
        at least 1.

    Returns:
      A window rule for `adaptive_multi_steps`.

    Raises:
      TypeError, ValueError: `target` is not as above.

    Examples:
      >>> import optax
      >>> from as_softmax_jax import (
      ...     active_count_window, adaptive_multi_steps, has_updated)
      >>> rule = active_count_window(target=16)
      >>> tx = adaptive_multi_steps(optax.sgd(1.0), rule, max_mini_steps=8)
      >>> state = tx.init(0.0)
      >>> for num_active in (10, 5, 1):
      ...     _, state = tx.update(0.0, state, num_valid=32, num_active=num_active)
      ...     print(has_updated(state))
      False
      False
      True
    """
    target = checks.integer(target, "target", at_least=1)

    def rule(counts: WindowCounts) -> jax.Array:
        _check_counts(counts)
        full = counts.num_active >= target
        return jnp.where(full, counts.mini_step, counts.max_mini_steps)

    return rule


def _check_counts(counts: WindowCounts) -> None:
    """Refuses what is asked of a rule by who takes it for something else."""
    if not isinstance(counts, WindowCounts):
        raise TypeError(
            "A window rule must be called with `WindowCounts`, by the transform; "
            f"got {type(counts).__name__}. `optax.inject_hyperparams` takes the rule "
            'for a schedule: give it `static_args=("window", "max_mini_steps")`.'
        )
