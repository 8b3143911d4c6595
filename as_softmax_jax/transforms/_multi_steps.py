"""Gradient accumulation over windows whose length follows the settled share."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from as_softmax_jax._core import checks
from as_softmax_jax._core import counts as counting
from as_softmax_jax._core.counts import Count
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.mesh import as_varying, is_tracked, varying_axes
from as_softmax_jax.transforms._windows import WindowCounts, WindowRule


class AdaptiveMultiStepsState(NamedTuple):
    """The state of `adaptive_multi_steps`; counts are over all devices."""

    # Mini-steps in this window as decided, in the last window until decided.
    window_length: jax.Array  # shape=(), dtype=int32
    mini_step: jax.Array  # mini-steps taken in this window, shape=(), dtype=int32
    gradient_step: jax.Array  # steps of the inner optimizer, shape=(), dtype=int32
    # Valid examples in this window, at most 2**31 - 1: there the count stays.
    num_valid: jax.Array  # shape=(), dtype=int32
    num_active: jax.Array  # active ones among them, likewise
    num_skipped: jax.Array  # non-finite mini-steps ever, shape=(), dtype=int32
    # Valid examples beyond `num_valid`, so that each still weighs what it should.
    num_valid_excess: jax.Array  # shape=(), dtype=float32
    emitted: jax.Array  # whether the last update stepped, shape=(), dtype=bool
    # The window's mean gradient so far, in the parameters' shapes, float32 or
    # wider. At `mini_step == 0` nothing reads it: it holds what the last window
    # left, for clearing it would cost a pass over memory. With `axis_name` this
    # device's part of that mean, [1, ...]: see `window_specs`.
    acc_grads: optax.Updates
    inner_state: optax.OptState  # as the inner optimizer has it


def adaptive_multi_steps(
    inner: optax.GradientTransformation,
    window: WindowRule,
    *,
    max_mini_steps: int,
    axis_name: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Accumulates gradients over windows of a length that `window` decides.

    At a window's end `inner` runs once, and at no other time, on

    .. math::
      \bar g = \sum_i n_i g_i \Big/ \sum_i n_i,

    :math:`g_i` the mean gradient of mini-batch :math:`i` over its :math:`n_i`
    valid examples; the other updates are zero. A window without an active example
    closes without a step. A mini-step whose gradient is not finite is dropped: it
    takes its place in the window and is counted in `num_skipped`, but its examples
    are not. Gradients in half precision are accumulated in float32. Schedules in
    `inner` count gradient steps. Counts do not wrap around: what a rule sees stays at
    2**31 - 1, and the weights :math:`n_i` are right beyond it.

    `update` takes `num_valid` and `num_active`, integers, and `flush=True` to close a
    partial window with this mini-batch. Any other keyword goes to `inner`.

    On several devices under `jax.jit`, gradients and counts are over all of them.
    Inside `jax.shard_map` and `jax.pmap` either reduce both before `update`
    (`jax.lax.psum`), or give `axis_name` and each device's own: then gradients
    cross devices once a window, in the step that closes it, and a few integers
    at each mini-step. Parameters and the state of `inner` are the same on all
    devices; the accumulated gradient is each device's own, so that the state
    lies on the mesh as `window_specs` says.

    Args:
      inner: the optimizer to run at a window's end.
      window: `settled_ratio_window`, `active_count_window`, or a `WindowRule`.
      max_mini_steps: the longest window, an integer of at least 1.
      axis_name: the mesh axes over which mini-batches are spread, inside
        `jax.shard_map` or `jax.pmap`; None: gradients and counts are of all devices.

    Returns:
      An optax transformation whose state is an `AdaptiveMultiStepsState`.

    Raises:
      TypeError, ValueError: an argument is not as above, or a count is missing; known
        counts are negative, or more examples active than valid; with `axis_name`,
        gradients that `jax.shard_map` knows to be the same on all devices.

    Examples:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from as_softmax_jax import (
      ...     active_count_window, adaptive_multi_steps)
      >>> tx = adaptive_multi_steps(
      ...     optax.sgd(1.0), active_count_window(8), max_mini_steps=4)
      >>> params = jnp.zeros(2)
      >>> state = tx.init(params)
      >>> for grads, num_valid in ((jnp.ones(2), 30), (3 * jnp.ones(2), 10)):
      ...     updates, state = tx.update(
      ...         grads, state, params, num_valid=num_valid, num_active=5)
      ...     params = optax.apply_updates(params, updates)
      >>> print(params)  # -(30 * 1 + 10 * 3) / (30 + 10)
      [-1.5 -1.5]

    References:
      Lv et al., `Adaptive Sparse Softmax <https://arxiv.org/abs/2508.03175>`_,
      2025: its adaptive gradient accumulation.
    """
    optimizer = _checked_optimizer(inner)
    rule = _checked_rule(window)
    limit = checks.integer(max_mini_steps, "max_mini_steps", at_least=1)
    step_if = functools.partial(_step_if, optimizer)
    if axis_name is not None:
        step_if = functools.partial(_step_across_if, axis_name, optimizer)

    def init_fn(params: optax.Params) -> AdaptiveMultiStepsState:
        state = _initial_state(params, optimizer.init(params))
        if axis_name is None:
            return state
        part = jax.tree.map(lambda acc: _own(acc[None], axis_name), state.acc_grads)
        return state._replace(acc_grads=part)

    def update_fn(
        updates: optax.Updates,
        state: AdaptiveMultiStepsState,
        params: optax.Params | None = None,
        *,
        num_valid: ArrayLike | None = None,
        num_active: ArrayLike | None = None,
        flush: ArrayLike = False,
        **extra: Any,
    ) -> tuple[optax.Updates, AdaptiveMultiStepsState]:
        _check_shapes(updates, state.acc_grads, axis_name)
        own_valid = valid = _count(num_valid, "num_valid")
        active = _count(num_active, "num_active")
        _check_consistent(num_valid, num_active)
        finite = _all_finite(updates)
        if axis_name is not None:
            _refuse_reduced(updates, axis_name)
            words = counting.halves(valid), counting.halves(active)
            counted = (*words, (~finite).astype(jnp.int32))
            *words, num_bad = jax.lax.psum(counted, axis_name)
            valid, active = (counting.from_halves(*word) for word in words)
            finite = num_bad == 0
            updates = jax.tree.map(lambda grad: jnp.asarray(grad)[None], updates)
        in_window, counts = _count_mini_step(state, valid, active, finite, limit)
        length = jnp.clip(_length(rule(counts)), 1, limit)
        closes = (counts.mini_step >= length) | jnp.asarray(flush, bool)
        emits = closes & (counts.num_active > 0) & (counts.num_valid > 0)
        shares = _Shares(own_valid, valid, in_window)
        mean = _accumulate(updates, state, shares, finite)
        updates, acc_grads, inner_state = step_if(
            emits, updates, mean, state.inner_state, params, extra
        )
        state = _count_window(state, in_window, counts, length, closes, emits, finite)
        return updates, state._replace(acc_grads=acc_grads, inner_state=inner_state)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def has_updated(state: optax.OptState) -> jax.Array:
    """Whether the last update stepped the inner optimizer.

    Args:
      state: the state of `adaptive_multi_steps`, or any optimizer state that
        holds exactly one, such as a chain's.

    Returns:
      A scalar, shape (), dtype bool; False before the first update.

    Raises:
      TypeError: `state` holds none, or more than one.

    Examples:
      >>> import optax
      >>> from as_softmax_jax import (
      ...     active_count_window, adaptive_multi_steps, has_updated)
      >>> tx = adaptive_multi_steps(
      ...     optax.sgd(0.1), active_count_window(8), max_mini_steps=4)
      >>> _, state = tx.update(1.0, tx.init(0.0), num_valid=10, num_active=9)
      >>> print(has_updated(state))
      True
    """

    def is_ours(node: Any) -> bool:
        return isinstance(node, AdaptiveMultiStepsState)

    found = [s for s in jax.tree.leaves(state, is_leaf=is_ours) if is_ours(s)]
    if len(found) != 1:
        raise TypeError(
            "`state` must hold exactly one state of adaptive_multi_steps; got "
            f"{len(found)} in a {type(state).__name__}."
        )
    return jnp.asarray(found[0].emitted)


def _checked_optimizer(
    inner: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(
            "`inner` must be an optax.GradientTransformation, such as "
            f"optax.adamw(1e-3); got {inner!r}."
        )
    return optax.with_extra_args_support(inner)


def _checked_rule(window: WindowRule) -> WindowRule:
    if not callable(window):
        raise TypeError(
            "`window` must be a window rule, such as settled_ratio_window(); "
            f"got {window!r}."
        )
    return window


def _check_shapes(
    grads: optax.Updates,
    acc_grads: optax.Updates,
    axis_name: str | tuple[str, ...] | None,
) -> None:
    """Refuses gradients that are not those of the parameters of `init`."""
    grads, acc_grads = (
        {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (grads, acc_grads))
    )
    if axis_name is not None:  # one more axis, of devices
        acc_grads = {path: shape[1:] for path, shape in acc_grads.items()}
    for path in grads | acc_grads:
        if grads.get(path) != acc_grads.get(path):
            raise ValueError(
                f"`updates{path}` must have the shape of its parameter, "
                f"{acc_grads.get(path)}; got {grads.get(path)}."
            )


def _count(value: ArrayLike | None, name: str) -> Count:
    """Returns a count, or refuses it by `name`."""
    if value is None:
        raise TypeError(
            f"adaptive_multi_steps needs `{name}`, as in tx.update(grads, state, "
            "params, num_valid=..., num_active=...). flax's "
            "TrainState.apply_gradients passes neither: call tx.update yourself, "
            "or use flax.nnx.Optimizer.update, which passes both."
        )
    return counting.count(value, name)


def _check_consistent(
    num_valid: ArrayLike | None, num_active: ArrayLike | None
) -> None:
    """Refuses known counts of which more examples are active than valid."""
    given = (n for n in (num_valid, num_active) if n is not None)
    valid, active = map(checks.concrete_value, given)
    if valid is not None and active is not None and active > valid:
        raise ValueError(
            "`num_active` must be at most `num_valid`, for active examples are valid; "
            f"got {active} of {valid}. `count_active(settled, where)` gives both."
        )


def _refuse_reduced(grads: optax.Updates, axis_name: str | tuple[str, ...]) -> None:
    """Refuses gradients that are known to be the same on all devices of an axis."""
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name
    for axis in axes:
        own = not jax.tree.leaves(grads) or axis in varying_axes(grads)
        if not own and is_tracked(axis):
            raise ValueError(
                "`updates` must be each device's own gradient with `axis_name`; these "
                f"are the same along {axis!r}, so reduced already. `jax.grad` by "
                "parameters that devices share sums over them: differentiate by "
                '`jax.lax.pcast(params, axis_name, to="varying")`, or leave '
                "`axis_name` out."
            )


def _length(value: ArrayLike | None) -> jax.Array:
    """Returns a window rule's answer as int32; refuses what is no length."""
    if value is None:
        raise TypeError(
            "The `window` rule must return the window's length, an int32 scalar; got "
            "None. Does it end in a `return`?"
        )
    length = jnp.asarray(value)
    if length.shape or not jnp.issubdtype(length.dtype, jnp.integer):
        raise TypeError(
            "The `window` rule must return the window's length, an int32 scalar; got "
            f"{length.dtype} of shape {length.shape}."
        )
    return length.astype(jnp.int32)


def _initial_state(
    params: optax.Params, inner_state: optax.OptState
) -> AdaptiveMultiStepsState:
    """The state before the first mini-step."""
    # Half precision would lose what a mini-batch adds to a long window.
    acc_grads = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=_wide_dtype(p)), params)
    # Each field has its own buffer: one that is shared cannot be donated.
    return AdaptiveMultiStepsState(
        window_length=jnp.ones([], jnp.int32),
        mini_step=jnp.zeros([], jnp.int32),
        gradient_step=jnp.zeros([], jnp.int32),
        num_valid=jnp.zeros([], jnp.int32),
        num_active=jnp.zeros([], jnp.int32),
        num_skipped=jnp.zeros([], jnp.int32),
        num_valid_excess=jnp.zeros([], jnp.float32),
        emitted=jnp.zeros([], bool),
        acc_grads=acc_grads,
        inner_state=inner_state,
    )


def _wide_dtype(array: ArrayLike) -> Any:
    """The dtype that a leaf is summed in: float32 where its own is narrower."""
    return compute_dtype(jnp.result_type(array))


def _all_finite(grads: optax.Updates) -> jax.Array:
    """Whether every gradient entry is finite."""
    leaves = jax.tree.leaves(grads)
    if not leaves:
        return jnp.ones([], bool)
    # A plain sum is the fastest pass over memory that an inf or a NaN cannot get
    # through. Large finite numbers may overflow it; only then look at each entry.
    sums = [jnp.sum(leaf, dtype=_wide_dtype(leaf)) for leaf in leaves]
    sums_finite = jnp.stack([jnp.isfinite(total) for total in sums]).all()

    def each_entry() -> jax.Array:
        # 0 * inf and 0 * NaN are NaN. (XLA's max on CPU passes over NaN, and a map of
        # what is finite would be written to memory.)
        return jnp.stack([jnp.sum(leaf * 0) == 0 for leaf in leaves]).all()

    return jax.lax.cond(sums_finite, lambda: sums_finite, each_entry)


def _count_mini_step(
    state: AdaptiveMultiStepsState,
    num_valid: Count,
    num_active: Count,
    finite: jax.Array,
    max_mini_steps: int,
) -> tuple[Count, WindowCounts]:
    """The window's counts with this mini-step's in, if it is finite.

    Returns:
      The valid examples, and what a window rule sees.
    """
    valid = Count(state.num_valid, state.num_valid_excess)
    valid = counting.add(valid, counting.where(finite, num_valid))
    active = Count(state.num_active, jnp.zeros([], jnp.float32))
    active = counting.add(active, counting.where(finite, num_active))
    return valid, WindowCounts(
        mini_step=state.mini_step + 1,
        num_valid=valid.low,
        num_active=active.low,
        window_length=state.window_length,
        opening=state.num_valid == 0,
        max_mini_steps=max_mini_steps,
        gradient_step=state.gradient_step,
    )


def _count_window(
    state: AdaptiveMultiStepsState,
    in_window: Count,
    counts: WindowCounts,
    length: jax.Array,
    closes: jax.Array,
    emits: jax.Array,
    finite: jax.Array,
) -> AdaptiveMultiStepsState:
    """The state with this mini-step counted, and all reset if the window closes."""
    # While nothing counts nothing is decided: such a window must not let the next
    # one grow.
    decided = counts.num_valid > 0
    return state._replace(
        window_length=jnp.where(decided, length, state.window_length),
        mini_step=jnp.where(closes, 0, counts.mini_step),
        gradient_step=state.gradient_step + emits.astype(jnp.int32),
        num_valid=jnp.where(closes, 0, counts.num_valid),
        num_active=jnp.where(closes, 0, counts.num_active),
        num_valid_excess=jnp.where(closes, 0, in_window.excess),
        num_skipped=state.num_skipped + (~finite).astype(jnp.int32),
        emitted=emits,
    )


class _Shares(NamedTuple):
    """Counts of which a mini-step's weight in the window's mean is made."""

    own: Count  # valid examples of this mini-step, on this device
    new: Count  # the same, on all devices
    total: Count  # of the window so far, this mini-step included


def _accumulate(
    grads: optax.Updates,
    state: AdaptiveMultiStepsState,
    shares: _Shares,
    finite: jax.Array,
) -> optax.Updates:
    """The window's mean gradient with this mini-step's in, if it is finite.

    The running form of sum(n * g) / sum(n) cannot overflow on finite gradients,
    and gives back the gradient itself in a window of one. On several devices each
    has its own part, and the parts add up to the mean.
    """
    opens = state.mini_step == 0

    def add(grad: jax.Array, acc: jax.Array) -> jax.Array:
        mean = jnp.where(opens, 0, acc)
        own, new, total = (count.astype(acc.dtype) for count in shares)
        total = jnp.maximum(total, 1)  # no mini-batch makes 0 / 0
        added = mean * (1 - new / total)
        added += jnp.asarray(grad).astype(acc.dtype) * (own / total)
        return jnp.where(finite, added, mean)

    return jax.tree.map(add, grads, state.acc_grads)


def _step_if(
    optimizer: optax.GradientTransformationExtraArgs,
    emits: jax.Array,
    grads: optax.Updates,
    mean: optax.Updates,
    inner_state: optax.OptState,
    params: optax.Params | None,
    extra: dict[str, Any],
) -> tuple[optax.Updates, optax.Updates, optax.OptState]:
    """Runs the optimizer on `mean` if `emits`; returns updates, buffer and state.

    The updates leave the branch in the accumulator's own buffer, which the next
    window overwrites. A branch of zeros would be a second buffer, written and
    read at each mini-step that does not step.
    """

    def inner_update(mean: optax.Updates, inner_state: optax.OptState) -> Any:
        mean = jax.tree.map(lambda m, g: m.astype(jnp.result_type(g)), mean, grads)
        return optimizer.update(mean, inner_state, params, **extra)

    def step(mean: optax.Updates, inner_state: optax.OptState) -> Any:
        stepped = inner_update(mean, inner_state)
        # Both branches must agree in dtype; optimizers differ in what they do
        # with gradients and parameters of two dtypes.
        return jax.tree.map(_as_like, stepped, (mean, inner_state))

    def keep(mean: optax.Updates, inner_state: optax.OptState) -> Any:
        return mean, inner_state

    like, _ = jax.eval_shape(inner_update, mean, inner_state)
    buffer, inner_state = jax.lax.cond(emits, step, keep, mean, inner_state)
    # x + -0.0 is x for every x, even -0.0; so the compiler may leave the addition
    # to the parameters out.
    updates = jax.tree.map(
        lambda b, u: jnp.where(emits, b, -0.0).astype(u.dtype), buffer, like
    )
    return updates, buffer, inner_state


def _step_across_if(
    axis_name: str | tuple[str, ...],
    optimizer: optax.GradientTransformationExtraArgs,
    emits: jax.Array,
    grads: optax.Updates,
    part: optax.Updates,
    inner_state: optax.OptState,
    params: optax.Params | None,
    extra: dict[str, Any],
) -> tuple[optax.Updates, optax.Updates, optax.OptState]:
    """As `_step_if`, with the parts of all devices added up inside the branch.

    Every device takes the same branch, for the counts that decide are sums. Updates
    are the same on all devices and parts are not, so they share no buffer here.
    """

    def inner_update(part: optax.Updates, inner_state: optax.OptState) -> Any:
        mean = jax.lax.psum(jax.tree.map(lambda p: p[0], part), axis_name)
        mean = jax.tree.map(lambda m, g: m.astype(jnp.result_type(g)), mean, grads)
        return optimizer.update(mean, inner_state, params, **extra)

    like, _ = jax.eval_shape(inner_update, part, inner_state)

    def step(part: optax.Updates, inner_state: optax.OptState) -> Any:
        return jax.tree.map(
            _as_like, inner_update(part, inner_state), (like, inner_state)
        )

    def keep(part: optax.Updates, inner_state: optax.OptState) -> Any:
        del part
        # x + -0.0 is x for every x, even -0.0.
        zeros = jax.tree.map(lambda u: jnp.full(u.shape, -0.0, u.dtype), like)
        return zeros, inner_state

    updates, inner_state = jax.lax.cond(emits, step, keep, part, inner_state)
    return updates, part, inner_state


def _own(array: jax.Array, axis_name: str | tuple[str, ...]) -> jax.Array:
    """Marks an array as each device's own, where `jax.shard_map` keeps account."""
    axes = (axis_name,) if isinstance(axis_name, str) else axis_name
    return as_varying(array, axes)


def _as_like(value: Any, like: Any) -> Any:
    """Casts `value` to the dtype of `like`."""
    dtype = jnp.result_type(like)
    return value if jnp.result_type(value) == dtype else value.astype(dtype)
