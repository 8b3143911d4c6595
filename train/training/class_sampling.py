"""Training the output layer on a share of its classes at a time (`model.class_share`).

A step works on a network cut down to the drawn classes: their part of kernel and bias,
and of what the optimizer keeps for them. The rest stays as it is, decay included.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P

from as_softmax_jax.heads import SampledClasses, sample_classes

from ..recipe.recipe import Recipe
from .state import TrainState


def draw_classes(
    recipe: Recipe, key: jax.Array, labels: jax.Array, where: jax.Array
) -> SampledClasses | None:
    """Returns the classes of a step; None where each step has all.

    Args:
      recipe: of the run.
      key: of the step.
      labels: of the batch, of any shape.
      where: the labels that count.
    """
    network = recipe.network
    share, num_classes = network.model.class_share, network.spec.num_classes
    if share == 1.0:
        return None
    parts = _parts(recipe)
    own = num_classes // parts
    draw = functools.partial(
        sample_classes,
        num_classes=own,
        num_sampled=min(own, max(math.ceil(share * own), labels.size)),
    )
    if parts == 1:
        return draw(key, labels, where=where)

    @functools.partial(
        jax.shard_map,
        mesh=recipe.mesh,
        in_specs=P(),
        out_specs=(P("model"), P()),
    )
    def on_device(key: Any, labels: Any, where: Any) -> tuple[jax.Array, jax.Array]:
        drawn = draw(key, labels, where=where, axis_name="model")
        return drawn.classes, drawn.labels

    return SampledClasses(*on_device(key, labels, where))


def narrow(
    recipe: Recipe, drawn: SampledClasses | None, state: TrainState
) -> TrainState:
    """Returns the state of the network that has the drawn classes alone.

    Args:
      recipe: of the run.
      drawn: what `draw_classes` returned.
      state: of the whole network.
    """
    if drawn is None:
        return state
    columns = _columns(recipe, drawn)
    take = _by_device(recipe, lambda leaf, columns: leaf[..., columns], 1)
    return _map_head(recipe, lambda leaf: take(leaf, columns), state)


def widen(
    recipe: Recipe, drawn: SampledClasses | None, whole: TrainState, part: TrainState
) -> TrainState:
    """Returns the state of the whole network after a step on its drawn classes.

    Args:
      recipe: of the run.
      drawn: what `draw_classes` returned.
      whole: the state before `narrow`.
      part: what the step made of that after it.
    """
    if drawn is None:
        return part
    columns = _columns(recipe, drawn)
    put = _by_device(recipe, lambda old, new, columns: old.at[..., columns].set(new), 2)
    return _map_head(recipe, lambda old, new: put(old, new, columns), whole, part)


def _columns(recipe: Recipe, drawn: SampledClasses) -> jax.Array:
    """Returns the columns of the drawn classes, all of a class side by side."""
    centers = recipe.network.model.sub_centers
    own = jnp.arange(centers, dtype=jnp.int32)
    return (drawn.classes[:, None] * centers + own[None]).reshape(-1)


def _by_device(recipe: Recipe, function: Callable, num_leaves: int) -> Callable:
    """Returns the function of leaves and classes, each device on its own classes."""
    if _parts(recipe) == 1:
        return function

    def spread(*arguments: jax.Array) -> jax.Array:
        leaves = P(*[None] * (arguments[0].ndim - 1), "model")
        return jax.shard_map(
            function,
            mesh=recipe.mesh,
            in_specs=(*[leaves] * num_leaves, P("model")),
            out_specs=leaves,
        )(*arguments)

    return spread


def _map_head(
    recipe: Recipe, function: Callable, state: TrainState, *others: TrainState
) -> TrainState:
    """Returns the last state, with a function of all in place of the head's leaves."""
    marks = jax.tree_util.tree_map_with_path(
        lambda path, _: path[0].key == "head", state.params
    )
    of_optimizer = optax.tree_utils.tree_map_params(
        recipe.transformation,
        lambda _, mark: mark,
        state.optimizer_state,
        marks,
        transform_non_params=lambda _: False,
        # What stands for a parameter that is not trained.
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )

    def mapped(marks: Any, *trees: Any) -> Any:
        return jax.tree.map(
            lambda mark, *leaves: function(*leaves) if mark else leaves[-1],
            marks,
            *trees,
        )

    states = (state, *others)
    averages = [s.average for s in states]
    return states[-1]._replace(
        params=mapped(marks, *[s.params for s in states]),
        optimizer_state=mapped(of_optimizer, *[s.optimizer_state for s in states]),
        average=None if state.average is None else mapped(marks, *averages),
    )


def _parts(recipe: Recipe) -> int:
    """Returns over how many devices the head's classes lie split."""
    parts = recipe.mesh.shape["model"]
    return 1 if recipe.network.spec.num_classes % parts else parts
