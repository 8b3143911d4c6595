"""What a run says before its first step: on what, how much, how long, and where."""

from pathlib import Path
from typing import Any

import jax

from ..command.lines import escaped
from ..data.examples import TaskData
from ..recipe.layers import trained
from ..recipe.recipe import Recipe
from ..tasks.task import model_name

# So many classes of an order are written out.
_SHOWN = 20


def opening_lines(
    recipe: Recipe, data: TaskData, params: Any, workdir: Path
) -> list[str]:
    """Returns the lines.

    Args:
      recipe: of the run.
      data: what is trained on.
      params: of the network.
      workdir: where the run writes.
    """
    mesh, training = recipe.mesh, recipe.training
    device = mesh.devices.flat[0]
    name = model_name(recipe.task.models, recipe.network.model)
    steps = training.epochs * recipe.mini_steps_per_epoch
    splits = ", ".join(f"{split} {len(rows):,}" for split, rows in data.splits.items())
    margin = dict(recipe.objective.keywords).get(recipe.objective.margin or "")
    own = "" if margin is None else f", {recipe.objective.margin} {margin:g}"
    return [
        f"{mesh.size} x {device.device_kind}; {name} of {_counted(recipe, params)}; "
        f"{recipe.objective.name}{own}",
        f"{splits} examples; {len(data.classes):,} classes; {training.epochs} "
        f"{'epoch' if training.epochs == 1 else 'epochs'}, "
        f"{steps:,} steps of {training.batch_size}; {_compiled(data)}",
        *_about_classes(recipe, data),
        f"writing to {workdir}",
    ]


def _counted(recipe: Recipe, params: Any) -> str:
    """Returns how many parameters there are, and how many of them are trained."""
    moves = jax.tree.leaves(trained(recipe.network.model, params))
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    moving = sum(size for size, moved in zip(sizes, moves, strict=True) if moved)
    text = f"{sum(sizes):,} parameters"
    return text if all(moves) else f"{text}, of which {moving:,} are trained"


def _compiled(data: TaskData) -> str:
    """Returns which steps wait for the compiler."""
    lengths = data.splits["train"].batch_lengths
    if not lengths:
        return "the first of each kind compile"
    return f"the first of each of {len(lengths)} lengths compile"


def _about_classes(recipe: Recipe, data: TaskData) -> list[str]:
    """Returns the order of the classes and how they come, where that matters."""
    names, stages = list(map(str, data.classes)), recipe.data.class_stages
    lines = []
    if recipe.task.target.ordered:
        if len(names) > _SHOWN:
            names = [*names[: _SHOWN - 1], "...", names[-1]]
        lines.append(f"classes in order: {' < '.join(map(escaped, names))}")
    if stages:
        first = -(-len(data.classes) // stages)
        lines.append(
            f"classes come in {stages} stages, the first {first:,} from the start"
        )
    return lines
