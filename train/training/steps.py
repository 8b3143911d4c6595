"""One training step, and the pass that finds active examples: pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from as_softmax_jax import count_active, has_updated

from ..recipe.mesh import constrain_state, replicate
from ..recipe.recipe import Recipe
from .class_sampling import draw_classes, narrow, widen
from .measures import (
    Batch,
    Measures,
    keep_examples,
    keep_run,
    least_leads,
    mean_losses,
    measure,
    measure_blocked,
)
from .state import TrainState
from .sums import Sums, active_rows

# What a mini-step's key is folded with, so that each draw has one of its own; dropout
# takes the key itself.
_AUGMENTATION, _CLASSES, _LOSS = 1, 2, 3


class BatchInfo(NamedTuple):
    """Where a batch stands in training: what its arrays do not say."""

    num_seen: Any  # examples that it stands for, shape=(), dtype=int32
    first: Any  # of its epoch, shape=(), dtype=bool
    last: Any  # of training, shape=(), dtype=bool


class Filtered(NamedTuple):
    """What a pass without gradient says of its batch."""

    sums: Sums
    active: jax.Array  # or settled by less than the slack, shape=(n,), dtype=bool
    lead: jax.Array  # of the label, in the margin's unit, shape=(n,), dtype=float32
    loss: jax.Array  # shape=(n,), dtype=float32


def train_step(
    recipe: Recipe, state: TrainState, batch: Batch, info: BatchInfo
) -> TrainState:
    """Returns the state after one batch: forward, counts, gradient, accumulation.

    Counts are sums over the global batch, so every device decides alike whether the
    window of accumulation closes.

    Args:
      recipe: of the run.
      state: before the batch; the loop donates it.
      batch: `inputs` [n, ...], `labels` with one row an example, `where` bool [n],
        `rows` int32 [n], and maybe `weights` [n] of the losses.
      info: where the batch stands in training.

    Returns:
      The state with one more mini-step, and with the batch in its sums.
    """
    where = recipe.task.target.where(batch)
    keywords = recipe.keywords_at(state.examples_seen)
    keywords = recipe.objective.for_labels(keywords, batch["labels"])
    # The mini-step's number, not a split key: a resumed run draws the same masks.
    key = jax.random.fold_in(state.key, state.mini_step)
    inputs = _augmented(recipe, batch["inputs"], key)
    drawn = draw_classes(
        recipe, jax.random.fold_in(key, _CLASSES), batch["labels"], where
    )
    if drawn is not None:
        batch = batch | {"labels": drawn.labels}
    whole, state = state, narrow(recipe, drawn, state)

    def mean_loss(params: Any) -> tuple[jax.Array, Measures]:
        output = recipe.network.apply(params, inputs, rngs=nnx.Rngs(dropout=key))
        if output.head.blocked:
            measures = measure_blocked(recipe.scorer, output, batch, keywords)
        else:
            measures = measure(
                recipe.scorer,
                output.logits(),
                batch,
                keywords,
                output=output,
                held=state.held,
                key=jax.random.fold_in(key, _LOSS),
                training=True,
                lead="lead" in recipe.remembers,
            )
        weights = _weights_now(recipe, batch.get("weights"), state.examples_seen)
        losses = _weighted(measures.losses, weights)
        loss = jnp.sum(losses) / jnp.maximum(jnp.sum(where), 1)
        return loss, measures

    gradient = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, measures), grads = gradient(state.params)
    # Squares overflow before the gradient would: one as large as that is bad, too.
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))
    counts = count_active(measures.settled, where)
    num_rows = jnp.sum(batch["where"])
    state = _apply_gradients(recipe, state, grads, finite, counts, info, num_rows)
    sums = jax.tree.map(lambda x: jnp.where(finite, x, 0), measures.sums(where))
    held = keep_run(state.held, measures.run, finite)
    state = _count(state, sums, finite, info)._replace(
        held=keep_examples(held, measures.examples, batch, finite),
        seen=keep_examples(state.seen, _seen(recipe, measures, where), batch, finite),
    )
    return constrain_state(recipe.mesh, widen(recipe, drawn, whole, state))


def _weights_now(
    recipe: Recipe, weights: jax.Array | None, examples_seen: jax.Array
) -> jax.Array | None:
    """Returns the weights of a batch's examples, 1 each until they count."""
    if weights is None or not recipe.data.class_weights_from:
        return weights
    start = recipe.data.class_weights_from * jnp.float32(recipe.total_examples)
    early = examples_seen.astype(jnp.float32) < start
    return jnp.where(early, jnp.ones_like(weights), weights)


def _weighted(losses: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Returns losses, [n] or one entry a token, times their examples' weights."""
    if weights is None:
        return losses
    return losses * weights.reshape(-1, *(1,) * (losses.ndim - 1))


def _seen(recipe: Recipe, measures: Measures, where: jax.Array) -> dict[str, jax.Array]:
    """Returns what is remembered of a batch's examples, [n] each."""
    found = {}
    if "loss" in recipe.remembers:
        found["loss"] = mean_losses(measures.losses, where)
    if "lead" in recipe.remembers:
        found["lead"] = least_leads(recipe.scorer, measures.lead, where)
    return found


def _count(
    state: TrainState, sums: Sums, finite: jax.Array, info: BatchInfo
) -> TrainState:
    """Returns the state with one more mini-step, and a batch's sums in its own."""
    before = jax.tree.map(lambda x: jnp.where(info.first, 0, x), state.sums)
    return state._replace(
        sums=before + sums,
        bad=state.bad.counted(finite, state.mini_step),
        mini_step=state.mini_step + 1,
        examples_seen=state.examples_seen + info.num_seen,
    )


def filter_step(
    recipe: Recipe, params: Any, batch: Batch, num_seen: jax.Array, held: Any = None
) -> Filtered:
    """Returns which examples of a batch are active, without gradient or dropout.

    Args:
      recipe: of the run.
      params: of the network.
      batch: as for `train_step`.
      num_seen: examples seen so far, which decide the margin.
      held: extra inputs of the loss, of the training state.

    Returns:
      Sums over the valid rows, and for each row whether to train on it: whether it is
      valid, and active or close to it.
    """
    scorer = recipe.filter_scorer
    target, objective = scorer.target, scorer.objective
    keywords = objective.for_labels(recipe.keywords_at(num_seen), batch["labels"])
    output = scorer.network.apply(params, batch["inputs"], rngs=None)
    measures = measure(
        scorer,
        output.logits(),
        batch,
        keywords,
        output=output,
        held=held,
        training=True,
        lead=True,
    )
    where = target.where(batch)
    near = measures.lead <= objective.active_up_to(keywords) + recipe.slack
    found = Filtered(
        measures.sums(where),
        active_rows(measures.settled & ~near, where),
        least_leads(scorer, measures.lead, where),
        mean_losses(measures.losses, where),
    )
    return replicate(recipe.mesh, found)


def _augmented(recipe: Recipe, inputs: jax.Array, key: jax.Array) -> jax.Array:
    """Returns the inputs, changed at random where the configuration says so."""
    augment = recipe.task.augment
    if augment is None or not recipe.data.augment:
        return inputs
    return augment(inputs, jax.random.fold_in(key, _AUGMENTATION), recipe.data.augment)


def _apply_gradients(
    recipe: Recipe,
    state: TrainState,
    grads: Any,
    finite: jax.Array,
    counts: tuple[jax.Array, jax.Array],
    info: BatchInfo,
    num_rows: jax.Array,
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
            flush=info.last,
            examples_seen=state.examples_seen,
            num_seen=info.num_seen,
            num_rows=num_rows,
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
    share = jnp.where(updated, 1.0 - decay, 0.0)
    # Of what does not move, the average is exactly that.
    return jax.tree.map(lambda a, p: a + share * (p - a), average, params)
