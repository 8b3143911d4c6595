"""One training step and one evaluation step: pure functions, jitted by the loop."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from as_softmax_jax import count_active, has_updated
from train.metrics import Sums
from train.recipe import Network, Recipe
from train.sharding import constrain_state, replicate
from train.state import TrainState

Batch = dict[str, jax.Array]


class Evaluated(NamedTuple):
    """What an evaluation step says of its batch."""

    sums: Sums
    logits: jax.Array  # shape=(n, ..., classes), dtype=float32


def train_step(recipe: Recipe, state: TrainState, batch: Batch) -> TrainState:
    """Returns the state after one batch: forward, counts, gradient, accumulation.

    Counts are sums over the global batch, so every device decides alike whether the
    window of accumulation closes.

    Args:
      recipe: static under jit.
      state: before the batch; the loop donates it.
      batch: `inputs` [n, ...], `labels` with one row an example, `where` bool [n].

    Returns:
      The state with one more mini-step, and with the batch in its sums.
    """
    target, objective = recipe.task.target, recipe.objective
    where, labels = target.where(batch), batch["labels"]
    arguments = {"where": where, "delta": objective.delta_at(state.mini_step)}
    # The mini-step's number, not a split key: a resumed run draws the same masks.
    key = jax.random.fold_in(state.key, state.mini_step)
    inputs = _augmented(recipe, batch["inputs"], key)

    def mean_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        logits = recipe.network.logits(params, inputs, rngs=nnx.Rngs(dropout=key))
        losses = objective.losses(logits, labels, **arguments)
        return jnp.sum(losses) / jnp.maximum(jnp.sum(where), 1), (logits, losses)

    grads, (logits, losses) = jax.grad(mean_loss, has_aux=True)(state.params)
    settled = objective.settled(logits, labels, **arguments)
    correct = target.correct(logits, labels)
    sums = Sums.of(losses, correct=correct, settled=settled, where=where)
    num_valid, num_active = count_active(settled, where)
    state = _apply_gradients(recipe, state, grads, num_valid, num_active)
    num_examples = jnp.sum(batch["where"], dtype=jnp.int32)
    state = state._replace(
        sums=_restarted(recipe, state) + sums,
        mini_step=state.mini_step + 1,
        examples_seen=state.examples_seen + num_examples,
    )
    return constrain_state(recipe.mesh, state)


def eval_step(recipe: Recipe, params: Any, batch: Batch) -> Evaluated:
    """Returns the sums and the logits of a batch.

    The loss is the training loss under the final delta, so that evaluations before
    and after a margin warm-up compare.

    Args:
      recipe: static under jit.
      params: of the network.
      batch: as for `train_step`.

    Returns:
      Sums over the valid rows; logits of all, padding included.
    """
    target, objective = recipe.task.target, recipe.objective
    where, labels = target.where(batch), batch["labels"]
    logits = recipe.network.logits(params, batch["inputs"], rngs=None)
    arguments = {"where": where, "delta": objective.delta}
    sums = Sums.of(
        objective.losses(logits, labels, **arguments),
        correct=target.correct(logits, labels),
        settled=objective.settled(logits, labels, **arguments),
        where=where,
    )
    logits = logits.astype(jnp.float32) * objective.scale
    return replicate(recipe.mesh, Evaluated(sums, logits))


def predict_step(network: Network, params: Any, batch: Batch) -> jax.Array:
    """Returns the network's output for inputs without labels, float32.

    Args:
      network: static under jit.
      params: of the network.
      batch: `inputs` [n, ...].
    """
    return network.logits(params, batch["inputs"], rngs=None).astype(jnp.float32)


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
    num_valid: jax.Array,
    num_active: jax.Array,
) -> TrainState:
    """Hands the mini-batch's gradient to the optimizer, which steps when it is time."""
    updates, optimizer_state = recipe.transformation.update(
        grads,
        state.optimizer_state,
        state.params,
        num_valid=num_valid,
        num_active=num_active,
        # The end of training closes the window that is open.
        flush=state.mini_step + 1 == recipe.total_mini_steps,
        examples_seen=state.examples_seen,
    )
    windowed = recipe.training.window != "none"
    updated = has_updated(optimizer_state) if windowed else jnp.array(True)
    return state._replace(
        params=optax.apply_updates(state.params, updates),
        optimizer_state=optimizer_state,
        gradient_step=state.gradient_step + updated.astype(jnp.int32),
    )


def _restarted(recipe: Recipe, state: TrainState) -> Sums:
    """Returns the running sums, or zeros on the first batch after an evaluation."""
    first = state.mini_step % recipe.mini_steps_per_evaluation == 0
    return jax.tree.map(lambda x: jnp.where(first, jnp.zeros_like(x), x), state.sums)
