"""A run's model as a folder that others load: Hugging Face, StableHLO or ONNX.

python -m train.export DIR --format stablehlo --output FOLDER
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .command.cli import make_parser, run, use_compilation_cache, user_path
from .errors import DataError
from .exporting.card import CARD, check_card, model_card
from .exporting.encoder import write_sentence_transformers, write_transformers
from .exporting.loading import HERE, Loading
from .exporting.standalone import write_onnx, write_stablehlo
from .storage import is_local
from .workdir.finished_run import FinishedRun, read_run

# What writes each format; the first is the one that nobody has to name.
FORMATS: dict[str, Callable[[FinishedRun, Path], Loading]] = {
    "transformers": write_transformers,
    "sentence-transformers": write_sentence_transformers,
    "stablehlo": write_stablehlo,
    "onnx": write_onnx,
}
_DEFAULT = next(iter(FORMATS))


def export_run(
    workdir: str | os.PathLike, folder: str | Path, format: str = _DEFAULT
) -> FinishedRun:
    """Writes the best checkpoint of a run as a folder, with a model card.

    Args:
      workdir: the folder that the trainer wrote.
      folder: made where it is not there.
      format: `transformers`, a pretrained encoder for `transformers.pipeline`;
        `sentence-transformers`, the same for `SentenceTransformer`; `stablehlo`, any
        model for jax and NumPy; `onnx`, most models for ONNX Runtime.

    Returns:
      What the run's folder holds.

    Raises:
      ConfigError: the run's model has no such form.
      DataError: the folder cannot be written, or is one that the run needs.
    """
    finished = read_run(workdir)
    _export(finished, Path(folder).expanduser(), format)
    return finished


def _export(finished: FinishedRun, folder: Path, format: str) -> Loading:
    """Writes the folder, and returns how it is loaded."""
    _check_place(folder, finished)
    try:
        loading = FORMATS[format](finished, folder)
        card = model_card(finished, loading)
        (folder / CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"--output: cannot write to {folder}: {error.strerror}; name a folder that "
            "can be written"
        ) from error
    return loading


def _check_place(folder: Path, finished: FinishedRun) -> None:
    """Refuses to write over the files that the run was read from, or began from."""
    taken = [Path(finished.workdir)]
    if finished.config.model.pretrained:
        taken.append(Path(finished.config.model.pretrained).expanduser())
    for other in taken:
        if folder.exists() and other.exists() and folder.samefile(other):
            raise DataError(
                f"--output: {folder} is the folder of the run or of the encoder that "
                "it began from, which has files of the same names; name another one"
            )
    check_card(folder)


def main(arguments: list[str] | None = None) -> int:
    """Exports, and returns the process's exit code."""
    parser = make_parser(
        "export", "A run's model as a folder that others load, with a model card."
    )
    add = parser.add_argument
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("place", nargs="?", metavar="WORKDIR", help="the run's folder")
    place.add_argument("--workdir", help="the same")
    add(
        "--output",
        type=user_path,
        metavar="FOLDER",
        help="the folder to write (default: WORKDIR/FORMAT)",
    )
    add(
        "--format",
        choices=FORMATS,
        default=_DEFAULT,
        help="transformers and sentence-transformers take pretrained encoders, "
        "stablehlo (jax alone) every model, onnx most of them (default: %(default)s)",
    )
    flags = parser.parse_args(arguments)
    return run(lambda: _main(flags), interrupted="the folder may be half-written")


def _main(flags: argparse.Namespace) -> int:
    use_compilation_cache(flags.compilation_cache)
    finished = read_run(flags.workdir or flags.place)
    folder = flags.output or _default_folder(finished, flags.format)
    loading = _export(finished, folder, flags.format)
    print(f"{folder} holds {finished.origin}")
    print(f"it takes {', '.join(loading.packages)}:")
    for line in loading.lines:
        print(f"  {line.replace(HERE, str(folder))}")
    return 0


def _default_folder(finished: FinishedRun, format: str) -> Path:
    """Returns the folder for a format inside the run's."""
    if not is_local(finished.workdir):
        raise DataError(
            f"--output: {finished.workdir} is an address; name a folder of this "
            "machine to write to"
        )
    return Path(finished.workdir) / format


if __name__ == "__main__":
    sys.exit(main())
