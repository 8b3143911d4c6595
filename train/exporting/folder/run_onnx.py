"""The network by ONNX Runtime: it needs onnxruntime and numpy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime


def program(folder: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Returns a function from inputs to scores, and to those of sets."""
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=onnxruntime.get_available_providers()
    )
    return lambda inputs: session.run(None, {"inputs": inputs})
