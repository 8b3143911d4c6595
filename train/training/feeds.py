"""The feed that a configuration asks for."""

from ..data.examples import Examples
from ..recipe.recipe import Recipe
from .compact import CompactFeed
from .feed import PlainFeed
from .selection import (
    InfoBatchFeed,
    RandomFeed,
    SelectiveBackpropFeed,
)

# By `training.mode`.
FEEDS: dict[str, type[PlainFeed]] = {
    "plain": PlainFeed,
    "compact": CompactFeed,
    "random": RandomFeed,
    "selective_backprop": SelectiveBackpropFeed,
    "infobatch": InfoBatchFeed,
}


def make_feed(recipe: Recipe, examples: Examples, *, seed: int) -> PlainFeed:
    """Returns what the recipe's mode trains on.

    Args:
      recipe: of the run.
      examples: the training split.
      seed: of the order.
    """
    return FEEDS[recipe.training.mode](recipe, examples, seed=seed)
