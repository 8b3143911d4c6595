"""The training state: one pytree, which with the data iterator is all of a run."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ..recipe.mesh import constrain_state
from ..recipe.recipe import Recipe
from .bad_steps import BadSteps
from .sums import Sums


class TrainState(NamedTuple):
    """What a step reads and returns."""

    params: Any  # nested dicts of arrays
    optimizer_state: Any  # with the open window of accumulated gradients
    key: jax.Array  # dropout's; each mini-step folds its number in
    mini_step: jax.Array  # shape=(), dtype=int32, batches so far
    gradient_step: jax.Array  # shape=(), dtype=int32, optimizer updates so far
    examples_seen: jax.Array  # shape=(), dtype=int32, padding not counted
    sums: Sums  # since the epoch began
    bad: BadSteps  # mini-steps that were left out
    average: Any = None  # of params over gradient steps, where one is asked for
    # Extra inputs of the loss by keyword: class counts, the state of each example.
    held: Any = None
    # What steps saw last of each example, by name, [rows]; see `Recipe.remembers`.
    seen: Any = None

    @property
    def evaluated(self) -> Any:
        """The parameters that are evaluated and kept."""
        return self.params if self.average is None else self.average


def create_state(
    recipe: Recipe, seed: jax.Array, held: Any = None, *, num_rows: int = 0
) -> TrainState:
    """Returns the state before the first step; under jit, created where it lies.

    Args:
      recipe: of the run.
      seed: uint32, of the parameters and of dropout.
      held: extra inputs of the loss, before the first step.
      num_rows: of the training split, static under jit; 0: nothing is remembered of
        its examples.
    """
    params_key, dropout_key = jax.random.split(jax.random.key(seed))
    params = recipe.network.init(nnx.Rngs(params=params_key))
    state = TrainState(
        params=params,
        optimizer_state=recipe.transformation.init(params),
        key=dropout_key,
        mini_step=jnp.zeros((), jnp.int32),
        gradient_step=jnp.zeros((), jnp.int32),
        examples_seen=jnp.zeros((), jnp.int32),
        sums=Sums.zero(),
        bad=BadSteps.none(),
        average=jax.tree.map(jnp.copy, params) if recipe.optimizer.ema_decay else None,
        held=held,
        seen={n: jnp.full(num_rows, jnp.nan) for n in recipe.remembers if num_rows}
        or None,
    )
    return constrain_state(recipe.mesh, state)
