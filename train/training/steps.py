"""One training step and one evaluation step: pure functions, jitted by the loop."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from as_softmax_jax import count_active, has_updated, heads
from train.models.head import LinearLogits, Logits
from train.recipe.mesh import constrain_state, replicate
from train.recipe.recipe import Network, Recipe
from train.tasks import find_task
from train.training.class_sampling import draw_classes, narrow, widen
from train.training.state import TrainState
from train.training.sums import Sums, active_rows

Batch = dict[str, jax.Array]


class Moment(NamedTuple):
    """Where a mini-step stands in training; what the batch itself does not say."""

    num_seen: Any  # examples that the batch stands for, shape=(), dtype=int32
    first: Any  # of its epoch, shape=(), dtype=bool
    last: Any  # of training, shape=(), dtype=bool


class Filtered(NamedTuple):
    """What a pass without gradient says of its batch."""

    sums: Sums
    active: jax.Array  # or settled by less than the slack, shape=(n,), dtype=bool
    lead: jax.Array  # of the label, in probability, shape=(n,), dtype=float32


class Evaluated(NamedTuple):
    """What an evaluation step says of its batch."""

    sums: Sums
    reading: jax.Array  # what the target reads off the logits, shape=(n, ...)


class _Measures(NamedTuple):
    """What a batch comes to, of the loss's shape: [n], or one entry a token."""

    losses: jax.Array  # 0 in padding
    settled: jax.Array  # bool
    correct: jax.Array  # bool

    def sums(self, where: jax.Array) -> Sums:
        """Returns the sums over what is valid."""
        return Sums.of(
            self.losses, settled=self.settled, correct=self.correct, where=where
        )


def train_step(
    recipe: Recipe, state: TrainState, batch: Batch, moment: Moment
) -> TrainState:
    """Returns the state after one batch: forward, counts, gradient, accumulation.

    Counts are sums over the global batch, so every device decides alike whether the
    window of accumulation closes.

    Args:
      recipe: static under jit.
      state: before the batch; the loop donates it.
      batch: `inputs` [n, ...], `labels` with one row an example, `where` bool [n].
      moment: where the batch stands in training.

    Returns:
      The state with one more mini-step, and with the batch in its sums.
    """
    where = recipe.task.target.where(batch)
    delta = recipe.objective.delta_at(state.examples_seen)
    # The mini-step's number, not a split key: a resumed run draws the same masks.
    key = jax.random.fold_in(state.key, state.mini_step)
    inputs = _augmented(recipe, batch["inputs"], key)
    drawn = draw_classes(recipe, jax.random.fold_in(key, 2), batch["labels"], where)
    if drawn is not None:
        batch = batch | {"labels": drawn.labels}
    whole, state = state, narrow(recipe, drawn, state)

    def mean_loss(params: Any) -> tuple[jax.Array, _Measures]:
        output = recipe.network.output(params, inputs, rngs=nnx.Rngs(dropout=key))
        measures = _measure(recipe, output, batch, delta)
        loss = jnp.sum(measures.losses) / jnp.maximum(jnp.sum(where), 1)
        return loss, measures

    gradient = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, measures), grads = gradient(state.params)
    # Squares overflow before the gradient would: one as large as that is bad, too.
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
    counts = count_active(measures.settled, where)
    state = _apply_gradients(recipe, state, grads, finite, counts, moment.last)
    before = jax.tree.map(lambda x: jnp.where(moment.first, 0, x), state.sums)
    sums = jax.tree.map(lambda x: jnp.where(finite, x, 0), measures.sums(where))
    state = state._replace(
        sums=before + sums,
        bad=state.bad.counted(finite, state.mini_step),
        mini_step=state.mini_step + 1,
        examples_seen=state.examples_seen + moment.num_seen,
    )
    return constrain_state(recipe.mesh, widen(recipe, drawn, whole, state))


def filter_step(
    recipe: Recipe, params: Any, batch: Batch, num_seen: jax.Array
) -> Filtered:
    """Returns which examples of a batch are active, without gradient or dropout.

    Args:
      recipe: static under jit.
      params: of the network.
      batch: as for `train_step`.
      num_seen: examples seen so far, which decide the margin.

    Returns:
      Sums over the valid rows, and for each row whether to train on it: whether it is
      valid, and active or close to it.
    """
    target, objective = recipe.task.target, recipe.objective
    logits = recipe.filter_network.logits(params, batch["inputs"], rngs=None)
    delta = objective.delta_at(num_seen)
    measures = _measure(recipe, logits, batch, delta)
    where = target.where(batch)
    logits = logits.astype(jnp.float32) * objective.scale
    lead = target.lead(logits, batch["labels"], where)
    near = batch["where"] & (lead <= delta + recipe.compact.slack)
    active = active_rows(measures.settled, where) | near
    return replicate(recipe.mesh, Filtered(measures.sums(where), active, lead))


def eval_step(recipe: Recipe, params: Any, batch: Batch) -> Evaluated:
    """Returns the sums of a batch, and what the target reads off its logits.

    The loss is the training loss under the final delta, so that evaluations before
    and after a margin warm-up compare.

    Args:
      recipe: static under jit.
      params: of the network.
      batch: as for `train_step`.

    Returns:
      Sums over the valid rows; readings of all, padding included.
    """
    target, objective = recipe.task.target, recipe.objective
    logits = recipe.network.logits(params, batch["inputs"], rngs=None)
    measures = _measure(recipe, logits, batch, jnp.float32(objective.delta))
    reading = target.reading(
        logits.astype(jnp.float32) * objective.scale, batch["labels"]
    )
    sums = measures.sums(target.where(batch))
    return replicate(recipe.mesh, Evaluated(sums, reading))


def predict_step(network: Network, params: Any, batch: Batch) -> jax.Array:
    """Returns what the target reads off the logits of inputs without labels.

    Args:
      network: static under jit.
      params: of the network.
      batch: `inputs` [n, ...].
    """
    logits = network.logits(params, batch["inputs"], rngs=None).astype(jnp.float32)
    return find_task(network.task).target.reading(logits, None)


def _measure(
    recipe: Recipe,
    output: Logits,
    batch: Batch,
    delta: jax.Array,
) -> _Measures:
    """Returns the losses of a batch, what is settled in it and what is right."""
    target, objective = recipe.task.target, recipe.objective
    where, labels = target.where(batch), batch["labels"]
    if isinstance(output, LinearLogits):
        found = heads.measure_on_mesh(
            recipe.mesh,
            output.features,
            output.kernel,
            labels,
            delta=objective.blocked_delta(delta),
            bias=output.bias,
            where=where,
        )
        return _Measures(found.loss, found.settled, found.lead >= 0)
    arguments = {"where": where, "delta": delta}
    return _Measures(
        objective.losses(output, labels, **arguments),
        objective.settled(output, labels, **arguments),
        target.correct(output, labels),
    )


def _augmented(recipe: Recipe, inputs: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the inputs, changed at random where the configuration says so."""
    augment = recipe.task.augment
    if augment is None or not recipe.augment:
        return inputs
    return augment(inputs, jax.random.fold_in(key, 1), recipe.augment)


def _apply_gradients(
    recipe: Recipe,
    state: TrainState,
    grads: Any,
    finite: jax.Array,
    counts: tuple[jax.Array, jax.Array],
    last: jax.Array,
) -> TrainState:
    """Hands the mini-batch's gradient to the optimizer, which steps when it is time.

    A gradient that is not finite, or that of such a loss, leaves everything as it was;
    in a window it takes its place.
    """

    def update(grads: Any, params: Any, optimizer_state: Any) -> tuple[Any, Any]:
        updates, optimizer_state = recipe.transformation.update(
            grads,
            optimizer_state,
            params,
            num_valid=counts[0],
            num_active=counts[1],
            # The end of training closes the window that is open.
            flush=last,
            examples_seen=state.examples_seen,
        )
        return optax.apply_updates(params, updates), optimizer_state

    def keep(grads: Any, params: Any, optimizer_state: Any) -> tuple[Any, Any]:
        del grads
        return params, optimizer_state

    old = state.params, state.optimizer_state
    if recipe.training.window == "none":
        # A branch: to select between old and new would keep both.
        params, optimizer_state = jax.lax.cond(finite, update, keep, grads, *old)
        updated = finite
    else:
        # The window leaves out what it sees not to be finite.
        grads = jax.tree.map(lambda g: jnp.where(finite, g, jnp.nan), grads)
        params, optimizer_state = update(grads, *old)
        updated = has_updated(optimizer_state)
    step = state.gradient_step + updated.astype(jnp.int32)
    return state._replace(
        params=params,
        optimizer_state=optimizer_state,
        gradient_step=step,
        average=_averaged(recipe, state.average, params, step, updated),
    )


def _averaged(
    recipe: Recipe, average: Any, params: Any, step: jax.Array, updated: jax.Array
) -> Any:
    """Returns the moving average of the parameters, moved where they have."""
    if average is None:
        return None
    # At first it follows closely: it would else keep what chance began with.
    times = step.astype(jnp.float32)
    decay = jnp.minimum(recipe.optimizer.ema_decay, times / (times + 9.0))

    moved = optax.incremental_update(params, average, 1.0 - decay)
    return jax.tree.map(lambda a, b: jnp.where(updated, a, b), moved, average)
