"""Exported folders asked in a process of their own, without the trainer."""

import json
import subprocess
import sys

import numpy as np

# None of what the trainer is made of; what stays is jax and what comes with it.
ABSENT = (
    *("train", "as_softmax_jax", "as_softmax_train", "flax", "optax", "grain"),
    *("orbax", "etils", "sklearn", "pyarrow", "safetensors", "transformers"),
)
ALONE = """
import json, sys
for name in sys.argv[2].split(","):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import numpy as np
from load import predict
given = json.load(sys.stdin)
if given["arrays"]:
    given["inputs"] = [np.array(x, given["arrays"]) for x in given["inputs"]]
print(json.dumps(predict(given["inputs"])))
"""


def answers_alone(exported, inputs, place, absent=ABSENT):
    """What the folder's load.py answers, from an empty folder."""
    arrays = inputs[0].dtype.name if isinstance(inputs[0], np.ndarray) else ""
    given = [x.tolist() if arrays else x for x in inputs]
    place.mkdir()
    ended = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(exported), ",".join(absent)],
        input=json.dumps({"arrays": arrays, "inputs": given}),
        capture_output=True,
        text=True,
        cwd=place,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def card_runs(exported, place):
    """What the last of the card's three lines of Python comes to, run alone."""
    card = (exported / "README.md").read_text()
    lines = card.split("```python\n")[1].split("```")[0].strip().splitlines()
    assert len(lines) == 3
    code = "\n".join([*lines[:2], f"import json; print(json.dumps({lines[2]}))"])
    absent = "; ".join(f"sys.modules[{name!r}] = None" for name in ABSENT)
    place.mkdir()
    ended = subprocess.run(
        [
            *(sys.executable, "-I", "-c"),
            f"import sys; {absent}\n"
            + code.replace("path/to/this/folder", str(exported)),
        ],
        capture_output=True,
        text=True,
        cwd=place,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def assert_same(found, expected):
    """Answers are the same, and their numbers within 1e-4."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            if name in ("probability", "probabilities", "margin", "margins"):
                np.testing.assert_allclose(
                    np.array(one[name], float), np.array(value, float), atol=1e-4
                )
            else:
                assert one[name] == value, name
