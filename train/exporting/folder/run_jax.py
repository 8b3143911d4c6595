"""The network by jax: it needs jax, numpy and flatbuffers, by which jax reads it."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax import export


def program(folder: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Returns a function from inputs to scores, and to those of sets.

    It compiles once for each power of two of inputs, and for each length of texts.
    """
    weights = jax.device_put(dict(np.load(folder / "weights.npz")))
    content = bytearray((folder / "model.stablehlo").read_bytes())
    run = jax.jit(export.deserialize(content).call)

    def scores(inputs: np.ndarray) -> list[np.ndarray]:
        rows = 1 << (len(inputs) - 1).bit_length()
        padded = np.resize(inputs, (rows, *inputs.shape[1:]))
        return [np.asarray(output)[: len(inputs)] for output in run(weights, padded)]

    return scores
