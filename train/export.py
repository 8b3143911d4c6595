"""A fine-tuned encoder as a Hugging Face folder, which transformers loads.

python -m train.export --workdir DIR --output FOLDER
"""

import argparse
import os
import sys
from pathlib import Path

from scipy.special import expit
from tokenizers import Tokenizer

from .command.cli import make_parser, run, use_compilation_cache, user_path
from .command.names import command_line
from .errors import ConfigError, DataError
from .models.heads import as_linear
from .models.huggingface import FAMILIES
from .models.pretrained import export_encoder
from .recipe.network import HEAD
from .workdir.finished_run import FinishedRun, read_run


def export_run(workdir: str | os.PathLike, folder: str | Path) -> FinishedRun:
    """Writes the best checkpoint of a run as a Hugging Face folder.

    Args:
      workdir: the folder that the trainer wrote.
      folder: where config.json, model.safetensors, the tokenizer's two files and,
        except for tags, the code that pools go.

    Returns:
      What the run's folder holds.

    Raises:
      ConfigError: the run's model is no pretrained encoder of text.
      DataError: the folder cannot be written, or is one that the run needs.
    """
    finished = read_run(workdir)
    network = finished.scorer.network
    spec, model = network.spec, network.model
    if spec.encoder is None:
        raise ConfigError(
            f"--workdir: the model of {workdir} is no pretrained encoder, and has no "
            f"form that transformers knows; use it by {command_line('predict')}"
        )
    if FAMILIES[spec.encoder.model_type].reads != "text":
        raise ConfigError(
            f"--workdir: the encoder of {workdir} reads no text, and others are not "
            f"written for transformers yet; use it by {command_line('predict')}"
        )
    folder = Path(folder).expanduser()
    _check_place(folder, finished)
    temperature, threshold = finished.calibration
    params = dict(network.merged(finished.params))
    params[HEAD] = as_linear(network.head, params[HEAD])
    several = finished.scorer.objective.row.target == "multi_hot"
    try:
        export_encoder(
            folder,
            spec.encoder,
            params,
            classes=finished.classes,
            pooling=None if spec.per_token else model.pooling,
            tokenizer=Tokenizer.from_str(finished.codec.files()["tokenizer.json"]),
            max_length=finished.config.data.max_length,
            temperature=temperature,
            threshold=expit(threshold / temperature).item() if several else None,
        )
    except OSError as error:
        raise DataError(
            f"--output: cannot write to {folder}: {error.strerror}; name a folder that "
            "can be written"
        ) from error
    return finished


def _check_place(folder: Path, finished: FinishedRun) -> None:
    """Refuses to write over the files that the run was read from, or began from."""
    pretrained = Path(finished.config.model.pretrained).expanduser()
    for taken in (Path(finished.workdir), pretrained):
        if folder.exists() and taken.exists() and folder.samefile(taken):
            raise DataError(
                f"--output: {folder} is the folder of the run or of the encoder that "
                "it began from, which has files of the same names; name another one"
            )


def main(arguments: list[str] | None = None) -> int:
    """Exports, and returns the process's exit code."""
    parser = make_parser("export", "A fine-tuned encoder as a Hugging Face folder.")
    parser.add_argument("--workdir", required=True, help="the run's folder")
    parser.add_argument(
        "--output", required=True, type=user_path, help="the folder to write"
    )
    flags = parser.parse_args(arguments)
    return run(lambda: _export(flags), interrupted="the folder may be half-written")


def _export(flags: argparse.Namespace) -> int:
    use_compilation_cache(flags.compilation_cache)
    finished = export_run(flags.workdir, flags.output)
    per_token = finished.scorer.network.spec.per_token
    task = "token-classification" if per_token else "text-classification"
    trust = "" if per_token else ", trust_remote_code=True"
    print(f"{flags.output} holds {finished.origin}")
    print(f"transformers: pipeline({task!r}, {str(flags.output)!r}{trust})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
