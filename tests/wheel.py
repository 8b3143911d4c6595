"""Builds the wheel, installs it and uses what it brings (make wheel).

The wheel is built from the sdist and goes into an empty environment outside the
checkout, with the library's own dependencies and nothing else. There this file runs
once more, by that environment's Python, looks at what was installed and runs its
examples. Then the extra `train` is added, and `as-softmax` trains, predicts and exports
from an empty folder.
"""

import doctest
import importlib
import importlib.util
import os
import pkgutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

PACKAGE = "as_softmax_jax"
ROOT = Path(__file__).parents[1]
# What the library does without.
ABSENT = ("flax", "train")
# The part of the library that needs an extra.
OPTIONAL = f"{PACKAGE}.flax"
# The settings of tests/conftest.py.
STRICT = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 "
    "--xla_backend_optimization_level=0",
    "JAX_PLATFORMS": "cpu",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
}


def main():
    """Builds and installs the wheel; returns how its check there ended."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = build(Path(folder, "dist"))
        python = install(wheel, Path(folder, "venv"))
        # -I: neither the checkout nor PYTHONPATH is importable.
        command = [python, "-I", "-W", "error", Path(__file__).resolve(), "installed"]
        subprocess.run(command, cwd=folder, env=os.environ | STRICT, check=True)
        refuse_without_the_extra(python.with_name("as-softmax"))
        pip_install(python, f"{wheel}[train]")
        refuse_to_serve(python.with_name("as-softmax"))
        use_the_trainer(python.with_name("as-softmax"), Path(folder, "empty"))
    return 0


def build(folder):
    """Returns the wheel's path, built from the sdist."""
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, ROOT],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    print(*sorted(path.name for path in folder.iterdir()), sep="\n")
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel, folder):
    """Returns the Python of a new environment that holds the wheel alone."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip_install(python, wheel)
    return python


def pip_install(python, package):
    """Installs a package for a Python."""
    subprocess.run([python, "-m", "pip", "install", "--quiet", package], check=True)


def refuse_without_the_extra(command):
    """Checks that the command says what to install."""
    ended = subprocess.run(
        [command, "predict", "--workdir", "x", "--input", "x", "--output", "y"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended
    assert "pip install 'as_softmax_jax[train]'" in ended.stderr, ended.stderr


def refuse_to_serve(command):
    """Checks that serving says which extra it takes."""
    ended = subprocess.run([command, "serve", "x"], capture_output=True, text=True)
    assert ended.returncode == 2, ended
    assert "pip install 'as_softmax_jax[serve]'" in ended.stderr, ended.stderr


def use_the_trainer(command, folder):
    """Runs the installed command in a folder that holds nothing but data.

    Args:
      command: `as-softmax` of an environment.
      folder: does not exist yet.
    """
    write_inputs(folder)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def call(line):
        arguments = [command, *line.split()]
        subprocess.run(arguments, cwd=folder, env=environment, check=True)

    call("train --config digits --config.training.epochs=2")
    call("predict --workdir runs/digits --input pictures --output seen.csv")
    assert len((folder / "seen.csv").read_text().splitlines()) == 4
    call("export runs/digits --format stablehlo --output pictures_model")
    load = [command.with_name("python"), "pictures_model/load.py", "pictures/0.png"]
    subprocess.run(load, cwd=folder, env=environment, check=True)
    call("init table.csv")
    call("train --config table.py --config.training.epochs=2 --workdir run")
    call("predict --workdir run --input table.csv --output rows.jsonl")
    assert len((folder / "rows.jsonl").read_text().splitlines()) == 60
    call("init text.jsonl --pretrained encoder")
    call("train --config text.py --config.training.epochs=1")
    call("export --workdir runs/text --output exported")
    assert (folder / "exported" / "model.safetensors").stat().st_size


def write_inputs(folder):
    """Writes pictures, a table, texts and a small encoder, by the checkout's code."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import json

    import numpy as np
    from PIL import Image
    from small_inputs import write_encoder
    from small_runs import feature_rows, write_csv

    (folder / "pictures").mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    write_csv(folder / "table.csv", feature_rows(60, seed=0))
    texts = [
        {"text": f"turn {('on', 'off')[k % 2]} lamp {k}", "label": k % 2}
        for k in range(40)
    ]
    (folder / "text.jsonl").write_text("\n".join(map(json.dumps, texts)))
    write_encoder(folder / "encoder")


def check_installed():
    """Checks where the package is, what is in it, and what its examples print."""
    site = Path(sysconfig.get_path("purelib"))
    package = importlib.import_module(PACKAGE)
    assert Path(package.__file__).is_relative_to(site), package.__file__
    sources = [*(ROOT / PACKAGE).rglob("*.py"), ROOT / PACKAGE / "py.typed"]
    files = sorted(str(path.relative_to(ROOT)) for path in sources)
    missing = [file for file in files if not (site / file).exists()]
    assert not missing, f"not in the wheel: {missing}"
    there = [name for name in ABSENT if importlib.util.find_spec(name)]
    assert not there, f"importable beside the wheel: {there}"
    return run_all_examples(package)


def run_all_examples(package):
    """Runs the examples of every module; returns whether one failed."""
    modules = [
        module.name
        for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE}.")
        if module.name != OPTIONAL and not module.name.startswith(f"{OPTIONAL}.")
    ]
    failed = attempted = 0
    for name in [PACKAGE, *modules]:
        results = run_examples(name)
        failed, attempted = failed + results.failed, attempted + results.attempted
    assert attempted > 0
    print(
        f"{PACKAGE} {package.__version__} alone: {1 + len(modules)} modules, "
        f"{attempted} lines of examples, {failed} failed"
    )
    return failed > 0


def run_examples(name):
    """Runs the examples of a module as tests/test_docs.py does."""
    import numpy as np

    module = importlib.import_module(name)
    with np.printoptions():
        return doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)


if __name__ == "__main__":
    sys.exit(check_installed() if sys.argv[1:] == ["installed"] else main())
