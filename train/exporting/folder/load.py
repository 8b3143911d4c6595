"""The exported model, without its trainer.

    from load import predict

    predict([INPUT, INPUT])

`python load.py INPUT ...` prints an answer a line; an INPUT that starts with { or [ is
JSON. What inputs are, and which packages it takes, README.md says. Several models in
one process are `Model(FOLDER)` each.
"""

import functools
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from answers import answer  # it lies beside this file

# Inputs at once.
LARGEST = 64


class Model:
    """The model of a folder; `model(inputs)` answers as the trainer's `predict` does.

    Args:
      folder: that was exported.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.about = json.loads((self.folder / "model.json").read_text("utf-8"))
        sys.path.append(str(self.folder))
        self.encode = importlib.import_module(self.about["reader"]).encode
        self.run = importlib.import_module(self.about["runner"]).program(self.folder)

    def __call__(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Returns an answer for each input."""
        found = []
        for start in range(0, len(inputs), LARGEST):
            some = inputs[start : start + LARGEST]
            arrays, places = self.encode(some, self.about["inputs"], self.folder)
            outputs = [output.astype(np.float64) for output in self.run(arrays)]
            for row, place in enumerate(places):
                scores, *sets = (output[row] for output in outputs)
                found.append(answer(self.about, scores, place, *sets))
        return found


@functools.cache
def _here() -> Model:
    return Model(Path(__file__).parent)


def predict(inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns this folder's answer for each input."""
    return _here()(inputs)


if __name__ == "__main__":
    given = [json.loads(x) if x[:1] in ("{", "[") else x for x in sys.argv[1:]]
    print(*(json.dumps(found) for found in predict(given)), sep="\n")
