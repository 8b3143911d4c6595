"""A run as a folder that answers without the trainer: program, constants, code."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage import as_json, as_npz
from ..workdir.finished_run import FinishedRun
from .inputs import Reading, reading
from .loading import HERE, Loading
from .onnx import as_onnx
from .program import as_stablehlo, make_program

_FOLDER = Path(__file__).parent / "folder"


def write_stablehlo(finished: FinishedRun, folder: Path) -> Loading:
    """Writes a folder that jax runs, on a CPU, a CUDA GPU or a TPU."""
    read = reading(finished.codec)
    program = make_program(finished, read.dtype)
    contents = {
        "model.stablehlo": as_stablehlo(program),
        "weights.npz": as_npz(program.weights, compressed=False),
    }
    _write(folder, finished, read, contents, "run_jax.py")
    files = (
        ("model.stablehlo", "the network, by `jax.export`, for any size of a batch"),
        ("weights.npz", "its parameters by name"),
    )
    packages = ("jax", "numpy", "flatbuffers", *read.packages)
    return _loading("jax", packages, read, "run_jax.py", files)


def write_onnx(finished: FinishedRun, folder: Path) -> Loading:
    """Writes a folder that ONNX Runtime runs.

    Raises:
      ConfigError: the network has a part that jax2onnx does not know.
    """
    read = reading(finished.codec)
    program = make_program(finished, read.dtype)
    contents = {"model.onnx": as_onnx(program)}
    _write(folder, finished, read, contents, "run_onnx.py")
    files = (("model.onnx", "the network with its parameters, by jax2onnx"),)
    packages = ("onnxruntime", "numpy", *read.packages)
    return _loading("onnx", packages, read, "run_onnx.py", files)


def _write(
    folder: Path,
    finished: FinishedRun,
    read: Reading,
    contents: Mapping[str, bytes],
    runner: str,
) -> None:
    """Writes what a format has of its own, and what all have: constants and code."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    model = _model(finished, read) | {"runner": Path(runner).stem}
    for name, text in {"model.json": as_json(model), **read.files}.items():
        (folder / name).write_text(text, encoding="utf-8")
    own = (_FOLDER / name for name in ("load.py", "answers.py", runner))
    for file in (*own, *read.code):
        shutil.copyfile(file, folder / file.name)


def _model(finished: FinishedRun, read: Reading) -> dict[str, Any]:
    """Returns what model.json holds: all that turns scores into answers."""
    return {
        "task": finished.config.task,
        "answer": _answer(finished),
        "classes": list(finished.classes),
        **finished.calibration._asdict(),
        "unit": finished.scorer.objective.unit,
        "reader": read.code[0].stem,
        "inputs": read.options,
    }


def _answer(finished: FinishedRun) -> str:
    """Returns the kind of answer, by the name that it has in it."""
    spec = finished.scorer.network.spec
    if spec.per_token:
        return "next" if spec.causal else "tags"
    return "label" if finished.scorer.target.one_label else "labels"


def _loading(
    library: str,
    packages: tuple[str, ...],
    read: Reading,
    runner: str,
    files: tuple[tuple[str, str], ...],
) -> Loading:
    lines = (
        f'import sys; sys.path.insert(0, "{HERE}")',
        "from load import predict",
        f"predict([{read.example}])",
    )
    notes = (
        "The answers are those of the trainer's `predict`, the temperature included. "
        "From a shell: `python load.py INPUT ...`.",
    )
    code = ["load.py", "answers.py", runner, *(file.name for file in read.code)]
    own = (
        ("model.json", "classes, temperature, threshold, and how inputs are read"),
        *((name, "goes with model.json") for name in read.files),
        (", ".join(code), "the code, to be read"),
    )
    return Loading(library, packages, lines, notes, read.inputs, (*files, *own))
