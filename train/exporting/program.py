"""The network of a run as a function of its weights and one batch, for export."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax import export

from ..evaluation.evaluation import predict_step
from ..workdir.finished_run import FinishedRun

# Where the program may run. Each platform lowers some operations in its own way.
PLATFORMS = ("cpu", "cuda", "tpu")
Run = Callable[[Mapping[str, jax.Array], jax.Array], list[jax.Array]]


class Program(NamedTuple):
    """What computes scores, with sizes that need not be known yet."""

    run: Run  # from weights and inputs to scores, and to those of sets
    weights: dict[str, np.ndarray]  # by name
    inputs: jax.ShapeDtypeStruct  # one batch; its size is a symbol
    longest: int  # of texts, in tokens; 0: inputs have one shape


def make_program(finished: FinishedRun, dtype: np.dtype) -> Program:
    """Returns the program that a run's predictions are made of.

    Its scores are what the target keeps of the logits: not yet divided by the
    temperature, since margins in logits are not.

    Args:
      finished: the run.
      dtype: of the inputs.
    """
    network, scale = finished.scorer.network, finished.scorer.objective.scale
    leaves, tree = jax.tree_util.tree_flatten_with_path(finished.params)
    names = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in leaves]

    def run(weights: Mapping[str, jax.Array], inputs: jax.Array) -> list[jax.Array]:
        params = jax.tree.unflatten(tree, [weights[name] for name in names])
        found = predict_step(network, params, {"inputs": inputs})
        if not finished.scorer.answers_sets or found.other_logits is None:
            return [found.outputs * scale]
        return [found.outputs * scale, found.other_logits]

    weights = dict(
        zip(names, map(np.asarray, [leaf for _, leaf in leaves]), strict=True)
    )
    shape = network.spec.shape
    longest = shape[0] if network.spec.vocabulary_size else 0
    sizes = "n, length" if longest else ", ".join(map(str, ("n", *shape)))
    limits = [f"length <= {longest}"] if longest else []
    symbols = export.symbolic_shape(sizes, constraints=limits)
    return Program(run, weights, jax.ShapeDtypeStruct(symbols, dtype), longest)


def as_stablehlo(program: Program) -> bytes:
    """Returns the program serialised by `jax.export`, its weights as an argument."""
    import flatbuffers  # noqa: F401  # named here as missing, not deep inside jax

    with _nameless():
        exported = export.export(jax.jit(program.run), platforms=PLATFORMS)(
            program.weights, program.inputs
        )
        return bytes(exported.serialize())


@contextlib.contextmanager
def _nameless() -> Iterator[None]:
    """Keeps the paths of source files out of what JAX lowers while inside."""
    limit = jax.config.jax_traceback_in_locations_limit  # type: ignore[attr-defined]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)
