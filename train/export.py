"""A fine-tuned encoder as a Hugging Face folder, which transformers loads.

python -m train.export --workdir DIR --output FOLDER
"""

import argparse
import os
import sys
from pathlib import Path

from train.command.cli import make_parser, run, use_compilation_cache, user_path
from train.errors import ConfigError, DataError
from train.models.pretrained import export_encoder
from train.workdir.finished_run import read_run


def export_run(workdir: str | os.PathLike, folder: str | Path) -> str:
    """Writes the best checkpoint of a run as a Hugging Face folder.

    Args:
      workdir: the folder that `python -m train` wrote.
      folder: where config.json, model.safetensors and tokenizer.json go.

    Returns:
      Which checkpoint it was.

    Raises:
      ConfigError: the run's model is no pretrained encoder.
      DataError: the folder cannot be written.
    """
    finished = read_run(workdir)
    network = finished.scorer.network
    spec, model = network.spec, network.model
    if spec.encoder is None:
        raise ConfigError(
            f"--workdir: the model of {workdir} is no pretrained encoder, and has no "
            "form that transformers knows; use it by train.predict"
        )
    try:
        export_encoder(
            Path(folder).expanduser(),
            spec.encoder,
            finished.params,
            classes=finished.classes,
            pooling=None if spec.per_token else model.pooling,
            tokenizer=finished.codec.files()["tokenizer.json"],
        )
    except OSError as error:
        raise DataError(
            f"--output: cannot write to {folder}: {error.strerror}; name a folder that "
            "can be written"
        ) from error
    return finished.origin


def main(arguments: list[str] | None = None) -> int:
    """Exports, and returns the process's exit code."""
    parser = make_parser(
        "train.export", "A fine-tuned encoder as a Hugging Face folder."
    )
    parser.add_argument("--workdir", required=True, help="the run's folder")
    parser.add_argument(
        "--output", required=True, type=user_path, help="the folder to write"
    )
    flags = parser.parse_args(arguments)
    return run(lambda: _export(flags), interrupted="the folder may be half-written")


def _export(flags: argparse.Namespace) -> int:
    use_compilation_cache(flags.compilation_cache)
    origin = export_run(flags.workdir, flags.output)
    print(f"{flags.output} holds {origin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
