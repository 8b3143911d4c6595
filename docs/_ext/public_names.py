"""What is public: the modules whose `__all__` the pages of the API document."""

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import train.api

# The name that an installed trainer has.
sys.modules["as_softmax_train"] = train
sys.modules["as_softmax_train.api"] = train.api

DOORS = (
    "as_softmax_jax",
    "as_softmax_jax.losses",
    "as_softmax_jax.heads",
    "as_softmax_jax.regularizers",
    "as_softmax_jax.scores",
    "as_softmax_jax.transforms",
    "as_softmax_jax.kernels",
    "as_softmax_jax.flax.nnx",
    "as_softmax_jax.flax.linen",
    "as_softmax_train.api",
)


def public_names() -> Iterator[str]:
    """Yields the full name of everything public, at each door where it stands."""
    for door in DOORS:
        for name in importlib.import_module(door).__all__:
            yield f"{door}.{name}"


def find(full: str) -> Any:
    """Returns the object of a full name.

    Raises:
      AttributeError: there is none.
    """
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError:
        module, _, name = full.rpartition(".")
        return getattr(find(module), name)
