"""Gradients from the active examples alone: a settled one has none to give."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from as_softmax_jax._core import checks, counts
from as_softmax_jax._core.counts import Count
from as_softmax_jax._core.dtypes import compute_dtype
from as_softmax_jax._core.mesh import as_varying, is_tracked, shared_axes, varying_axes
from as_softmax_jax.transforms._draws import draws_by_shared_key

PerExampleLoss = Callable[[Any, Any], Any]
"""`f(params, batch)` -> losses [N, ...], or a pair of those and auxiliary output."""


class LossSums(NamedTuple):
    """What the valid entries of the losses add up to, over all devices."""

    loss: jax.Array  # the sum of the losses, shape=(), float32 or wider
    num_valid: jax.Array  # at most 2**31 - 1, shape=(), dtype=int32
    num_active: jax.Array  # valid and not exactly 0, likewise
    # `loss` once more, of the rows that pass a second time: equal to it, to rounding,
    # unless rows depend on each other; shape=(), as `loss`.
    loss_again: jax.Array


Params = TypeVar("Params")


class CompactValueAndGrad(Protocol):
    """What `compact_value_and_grad` returns."""

    def __call__(
        self, params: Params, batch: Any, *, where: ArrayLike | None = None
    ) -> tuple[LossSums, Params]:
        """Returns the losses' sums, and the gradient in the form of `params`."""


class CompactValueAndGradWithAux(Protocol):
    """What `compact_value_and_grad` returns with `has_aux`."""

    def __call__(
        self, params: Params, batch: Any, *, where: ArrayLike | None = None
    ) -> tuple[tuple[LossSums, Any], Params]:
        """Returns sums and auxiliary output, and the gradient."""


class _Rows(NamedTuple):
    """One batch after its forward pass; masks are of the losses' shape."""

    batch: Any
    valid: jax.Array
    active: jax.Array  # bool [N], rows with an entry that is active


@overload
def compact_value_and_grad(
    per_example_loss: PerExampleLoss,
    *,
    capacities: Sequence[int],
    has_aux: Literal[False] = False,
    axis_name: str | Sequence[str] | None = None,
) -> CompactValueAndGrad: ...


@overload
def compact_value_and_grad(
    per_example_loss: PerExampleLoss,
    *,
    capacities: Sequence[int],
    has_aux: Literal[True],
    axis_name: str | Sequence[str] | None = None,
) -> CompactValueAndGradWithAux: ...


def compact_value_and_grad(
    per_example_loss: PerExampleLoss,
    *,
    capacities: Sequence[int],
    has_aux: bool = False,
    axis_name: str | Sequence[str] | None = None,
) -> CompactValueAndGrad | CompactValueAndGradWithAux:
    r"""Returns a function for the losses, and their gradient by the active rows alone.

    `f(params, batch, where=None)` makes one forward pass without gradient over the N
    rows of `batch`. A row is active when one of its valid losses is not exactly 0. The
    active rows are gathered into the smallest of `capacities` that holds them, N being
    the last resort, and only those pass forward and backward again:

    .. math::
      g = \frac{1}{n} \sum_{i \text{ active}} \nabla_\theta \ell_i
        = \frac{1}{n} \sum_{i \text{ valid}} \nabla_\theta \ell_i ,

    n the number of valid losses. A loss that cannot be negative has no gradient where
    it is 0, so for losses of rows that do not depend on each other this is the gradient
    of the mean, to rounding. It costs a forward pass and that share of a step which the
    capacity is of N, and pays when more is saved: with a forward pass of a quarter of
    a step, when more than a quarter of the rows are settled.

    What ties rows together breaks the equation. Dropout must draw each row's mask by
    a key of the row's own, an entry of `batch`; a draw by one key for all rows, or by
    keys split from it, is refused. Statistics of a batch (BatchNorm) must not be used:
    those kept among the parameters are refused, and those that are taken on the fly
    show in `sums.loss_again`, which then is not `sums.loss`.

    Under `jax.jit`, a batch that is spread over devices is gathered across them. So
    call `f` inside `jax.shard_map`: there each device compacts its own rows, at one
    capacity for all, `capacities` are of one device's rows, and sums and gradient are
    those over all devices. A parameter that is itself spread over these axes keeps its
    own part.

    Args:
      per_example_loss: `(params, batch)` -> losses [N, ...], floating point, such as a
        row of losses of tokens. With `has_aux` a pair: losses, and anything else.
      capacities: numbers of rows to compile the backward pass for, increasing; one of N
        or more, as in a last partial batch, is left out. Each is a program of its own.
      has_aux: whether `per_example_loss` returns a pair.
      axis_name: mesh axes that the batch is spread over; None: those that
        `jax.shard_map` knows it to vary over. Under `check_vma=False` it knows none,
        and no parameter that is spread: name the axes, and keep parameters whole.

    Returns:
      `f(params, batch, *, where=None) -> (sums, grads)`, with `has_aux`
      `((sums, aux), grads)`. `batch` is a pytree of arrays with N rows each; `where`
      is boolean and broadcasts to the losses: the valid ones. A loss of this package
      may be NaN elsewhere, of a label of -100, and has no part in the gradient; of
      another loss, a row of which nothing is valid may be NaN. `sums` are `LossSums`;
      `grads`, in the parameters' structure and dtypes, is of the mean loss over valid
      entries; `aux` is what the forward pass gave for all N rows, of this device inside
      `jax.shard_map`, and no gradient flows through it.

    Raises:
      TypeError, ValueError: an argument is not as above; rows are seen to depend on
        each other.

    Examples:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from as_softmax_jax import as_softmax_loss, compact_value_and_grad
      >>> def losses(params, batch):
      ...     return as_softmax_loss(batch["x"] @ params, batch["y"], delta=0.1)
      >>> f = jax.jit(compact_value_and_grad(losses, capacities=(2,)))
      >>> batch = {"x": jnp.eye(4, 2), "y": jnp.array([0, 1, 1, 0])}
      >>> params = jnp.array([[3.0, 0.0], [1.0, 0.0]])
      >>> sums, grads = f(params, batch)
      >>> print(sums.num_valid, sums.num_active)  # the first row is settled
      4 3
      >>> full = jax.grad(lambda params: losses(params, batch).mean())(params)
      >>> print(jnp.abs(grads - full).max() < 1e-6)
      True

    References:
      Lv et al., `Adaptive Sparse Softmax <https://arxiv.org/abs/2508.03175>`_, 2025,
      for the exact zeros. Jiang et al., `Accelerating Deep Learning by Focusing on
      the Biggest Losers <https://arxiv.org/abs/1910.00762>`_, 2019, for the backward
      pass on some rows, which is an approximation there.
    """
    if not callable(per_example_loss):
        raise TypeError(
            f"`per_example_loss` must be a function; got {per_example_loss!r}."
        )
    sizes = _checked_capacities(capacities)
    wrap = _checked_pair if has_aux else _with_empty_aux
    pair = wrap(per_example_loss)

    def value_and_grad_fn(
        params: Any, batch: Any, *, where: ArrayLike | None = None
    ) -> tuple[Any, Any]:
        num_rows = _count_rows(batch)
        checks.not_spread(batch, "batch")
        axes = _varying_axes(batch, axis_name)
        _refuse_shared_state(params)
        _refuse_shared_draws(pair, params, batch)
        # Nothing of this pass is kept for a backward one.
        losses, aux = pair(jax.lax.stop_gradient(params), batch)
        losses, valid = _checked_losses(losses, where, num_rows)
        active = valid & (losses != 0)
        total = jnp.sum(losses, where=valid, dtype=compute_dtype(losses.dtype))
        total = jax.lax.psum(total, axes) if axes else total
        num_valid, num_active = (_counted(mask, axes) for mask in (valid, active))
        rows = _Rows(batch, valid, _any_entry(active))
        grads, again = _compact_gradient(
            pair, sizes, axes, params, rows, num_valid, total.dtype
        )
        sums = LossSums(total, num_valid.low, num_active.low, again)
        return ((sums, aux) if has_aux else sums), grads

    return value_and_grad_fn


def _compact_gradient(
    pair: PerExampleLoss,
    sizes: tuple[int, ...],
    axes: tuple[str, ...],
    params: Any,
    rows: _Rows,
    num_valid: Count,
    dtype: Any,
) -> tuple[Any, jax.Array]:
    """Returns the gradient of the mean loss, and the sum, over all devices."""
    num_rows = rows.active.shape[0]
    known = isinstance(num_rows, int)  # else symbolic, and every capacity may serve
    sizes = (0, *(s for s in sizes if not known or s < num_rows), num_rows)
    most = jnp.sum(rows.active, dtype=jnp.int32)
    # One capacity for all devices: the branches may hold collectives of their own.
    most = jax.lax.pmax(most, axes) if axes else most
    branch = jnp.sum(most > np.array(sizes[:-1], np.int32), dtype=jnp.int32)
    # The gradient is taken device by device, and added up once, after the branch.
    local = jax.tree.map(functools.partial(as_varying, axes=axes), params)
    nothing = as_varying(jnp.zeros([], dtype), axes)
    gradients = [functools.partial(_gradient_of, pair, size) for size in sizes]
    grads, total = jax.lax.switch(branch, gradients, local, rows, num_valid, nothing)
    grads = jax.tree.map(functools.partial(_add_up, axes=axes), grads, params)
    return grads, jax.lax.psum(total, axes) if axes else total


def _gradient_of(
    pair: PerExampleLoss,
    capacity: int,
    params: Any,
    rows: _Rows,
    num_valid: Count,
    nothing: jax.Array,
) -> tuple[Any, jax.Array]:
    """Returns the gradient by at most `capacity` active rows, and their losses' sum."""
    if isinstance(capacity, int) and capacity == 0:
        return jax.tree.map(jnp.zeros_like, params), nothing
    # What is left of the capacity repeats an active row: another might hold NaN.
    first = jnp.argmax(rows.active)
    (chosen,) = jnp.nonzero(rows.active, size=capacity, fill_value=first)
    real = jnp.arange(capacity) < jnp.sum(rows.active, dtype=jnp.int32)
    batch, valid = jax.tree.map(lambda x: x[chosen], (rows.batch, rows.valid))
    valid &= real.reshape(-1, *[1] * (valid.ndim - 1))

    def mean_loss(params: Any) -> tuple[jax.Array, jax.Array]:
        losses, _ = pair(params, batch)
        total = jnp.sum(losses, where=valid, dtype=compute_dtype(losses.dtype))
        return total / jnp.maximum(num_valid.astype(total.dtype), 1), total

    grads, total = jax.grad(mean_loss, has_aux=True)(params)
    return grads, nothing + total


def _counted(mask: jax.Array, axes: tuple[str, ...]) -> Count:
    """Returns how many entries are True on all devices."""
    own = Count(counts.total(mask), jnp.zeros([], jnp.float32))
    if not axes:
        return own
    return counts.from_halves(*jax.lax.psum(counts.halves(own), axes))


def _any_entry(active: jax.Array) -> jax.Array:
    """Returns bool [N] of bool [N, ...]: one active position makes its row so."""
    return jnp.any(active, axis=tuple(range(1, active.ndim)))


def _varying_axes(batch: Any, axis_name: str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the mesh axes that the rows are spread over, in a fixed order."""
    if axis_name is not None:
        return (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    for axis in jax.sharding.get_abstract_mesh().manual_axes:
        if not is_tracked(axis):
            raise ValueError(
                f"`axis_name` must be given inside a map over {axis!r} that does not "
                "track what varies over devices, `jax.shard_map` with "
                "`check_vma=False` or `jax.pmap`; got None. Name the axes that rows "
                "are spread over; `()` keeps each device to its own."
            )
    return varying_axes(batch)


def _add_up(grad: jax.Array, param: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Adds a gradient up over the axes on which its parameter is the same."""
    shared = shared_axes(param, axes)
    return jax.lax.psum(grad, shared) if shared else grad


def _checked_pair(per_example_loss: PerExampleLoss) -> PerExampleLoss:
    """Returns a loss that is refused unless it gives losses and auxiliary output."""

    def pair(params: Any, batch: Any) -> Any:
        found = per_example_loss(params, batch)
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(
                "`per_example_loss` must return a pair, losses and auxiliary output, "
                f"with `has_aux`; got {type(found).__name__}."
            )
        return found

    return pair


def _with_empty_aux(per_example_loss: PerExampleLoss) -> PerExampleLoss:
    return lambda params, batch: (per_example_loss(params, batch), None)


def _checked_capacities(capacities: Sequence[int]) -> tuple[int, ...]:
    if isinstance(capacities, str) or not isinstance(capacities, Sequence):
        raise TypeError(
            f"`capacities` must be a sequence of integers; got {capacities!r}."
        )
    sizes = tuple(checks.integer(c, "capacities", at_least=1) for c in capacities)
    if not sizes:
        raise ValueError(
            "`capacities` must hold a number of rows; got none. A half and a quarter "
            "of the batch are a good start."
        )
    if any(a >= b for a, b in itertools.pairwise(sizes)):
        raise ValueError(
            f"`capacities` must increase; got {sizes}. Sort them, each once."
        )
    return sizes


def _count_rows(batch: Any) -> int:
    """Returns N; refuses leaves that do not share it."""
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    if not leaves:
        raise ValueError("`batch` must hold an array; got none.")
    counts = {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
    num_rows = next(iter(counts.values()))[:1]
    for path, shape in counts.items():
        if not shape or shape[:1] != num_rows:
            raise ValueError(
                "`batch` must have one leading axis of examples in all its arrays; "
                f"`batch{path}` has shape {shape}, another {num_rows}. Pass what all "
                "examples share by `params` or from outside."
            )
    if num_rows == (0,):
        raise ValueError("`batch` must hold an example; its arrays have 0 rows.")
    return num_rows[0]  # symbolic under `jax.export`


def _checked_losses(
    losses: Any, where: ArrayLike | None, num_rows: int
) -> tuple[jax.Array, jax.Array]:
    """Returns losses and the valid ones among them, of one shape."""
    losses = checks.floating_array(losses, "per_example_loss(params, batch)")
    if losses.shape[:1] != (num_rows,):
        raise ValueError(
            "`per_example_loss` must return a loss an example, of shape "
            f"({num_rows}, ...); got {losses.shape}. Leave out the mean or the sum "
            "over examples."
        )
    valid = checks.boolean_mask(where, losses.shape, "losses", "where")
    return losses, jnp.ones(losses.shape, bool) if valid is None else valid


def _refuse_shared_state(params: Any) -> None:
    """Refuses parameters that tie the rows of a batch together, by name or type."""
    leaves = jax.tree_util.tree_leaves_with_path(
        params, is_leaf=lambda v: bool(_kinds(v))
    )
    for path, leaf in leaves:
        name, kinds = jax.tree_util.keystr(path), _kinds(leaf)
        if "batch_stats" in name or "BatchStat" in kinds:
            raise ValueError(
                f"`params{name}` is a statistic of batches, which changes with the "
                "rows that are left; take a norm within an example, such as GroupNorm."
            )
        if kinds or jnp.issubdtype(jax.typeof(leaf).dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"`params{name}` is a random key for all examples, whose draws would "
                "change with the rows that are left; make keys a part of `batch`, one "
                "an example."
            )


def _kinds(leaf: Any) -> set[str]:
    """Returns which of flax.nnx's kinds of state a variable is, by name."""
    return {c.__name__ for c in type(leaf).__mro__} & {"BatchStat", "RngState"}


def _refuse_shared_draws(pair: PerExampleLoss, params: Any, batch: Any) -> None:
    """Refuses a loss that draws random numbers by one key for all examples."""
    try:
        shared = draws_by_shared_key(pair, params, batch)
        cause = None
    except Exception as error:
        # flax.nnx's own, of a stream of keys that is closed over and drawn from.
        if type(error).__name__ != "TraceContextError":
            raise
        shared, cause = True, error
    if shared:
        raise ValueError(
            "`per_example_loss` must draw no random numbers by one key for all "
            "examples, nor by keys split from one: they would change with the rows "
            "that are left. Turn dropout off, or make keys a part of `batch`, one an "
            "example, and draw under `jax.vmap`."
        ) from cause
