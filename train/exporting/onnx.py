"""A program as ONNX, by jax2onnx, and held to what JAX computes."""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from ..errors import ConfigError, reason
from .program import Program

_CURE = "--format stablehlo takes every network"
# Of scores; answers are asked to agree to as much.
_TOLERANCE = 1e-4
_ROWS = 3


def as_onnx(program: Program) -> bytes:
    """Returns the program with its weights as an ONNX model, its input `inputs`.

    Raises:
      ConfigError: jax2onnx is not there, does not know a part of the network, or gives
        a model that ONNX Runtime does not run to the same scores.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "--format onnx: it takes jax2onnx and onnxruntime; pip install "
            f"'as_softmax_jax[onnx]', or {_CURE}"
        ) from error

    def run(inputs: jax.Array) -> tuple[jax.Array, ...]:
        weights = jax.tree.map(jnp.asarray, program.weights)
        return tuple(program.run(weights, inputs))

    # jax2onnx changes flax's layers while it traces; what is traced before, it cannot.
    traced = jaxpr_as_fun(jax.make_jaxpr(run)(program.inputs))
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    try:
        model = jax2onnx.to_onnx(
            lambda inputs: tuple(traced(inputs)),
            [program.inputs],
            input_names=["inputs"],
        )
        content = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # It tells what it raises a second time.
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        inputs = _some_inputs(program)
        found = session.run(None, {"inputs": inputs})
    # Both raise what they like, down to the C++ that they are made of.
    except Exception as error:
        raise ConfigError(
            "--format onnx: this network has a part that ONNX does not get from "
            f"jax2onnx ({reason(error)}); {_CURE}"
        ) from error
    _check(found, jax.device_get(jax.jit(run)(inputs)))
    return content


def _check(found: list[Any], expected: tuple[Any, ...]) -> None:
    """Refuses scores that are not those of JAX."""
    for theirs, ours in zip(found, expected, strict=True):
        if not np.allclose(theirs, ours, rtol=_TOLERANCE, atol=_TOLERANCE):
            apart = np.abs(theirs - ours).max()
            raise ConfigError(
                "--format onnx: ONNX Runtime's scores of this network are up to "
                f"{apart:.2g} from JAX's; {_CURE}"
            )


def _some_inputs(program: Program) -> np.ndarray:
    """Returns a batch at random; of texts, one is shorter than the others."""
    random, dtype = np.random.default_rng(0), program.inputs.dtype
    if program.longest:
        tokens = random.integers(0, 8, (_ROWS, program.longest)).astype(dtype)
        tokens[0, program.longest // 2 + 1 :] = -1
        return tokens
    shape = (_ROWS, *program.inputs.shape[1:])
    if dtype == np.uint8:
        return random.integers(0, 256, shape).astype(dtype)
    return random.normal(size=shape).astype(dtype)
