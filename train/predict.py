"""Answers for new inputs, from a finished run.

python -m train.predict --workdir DIR --input FILE --output FILE

FILE in is Parquet, JSON Lines or CSV with the column that the run was trained on, or
with the one that `--config.data.input_column=NAME` names. FILE out is JSON Lines, one
answer a row: label, labels or tags, their probability and their margin. In Python:

    from train.predict import Predictor
    predictor = Predictor("runs/clinc150")
    answers = predictor(["what is on my calendar", "turn the lamp off"])
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from train.command.cli import (
    make_parser,
    run,
    use_compilation_cache,
    user_path,
    with_huge_pages,
)
from train.command.lines import escaped
from train.data.examples import Encoded, Examples, Sequences, in_order
from train.data.files import read_file
from train.data.names import shown
from train.data.pipeline import evaluation_batches
from train.data.records import Records, object_column
from train.errors import DataError
from train.evaluation.evaluation import predict_step
from train.storage import write_text
from train.workdir.finished_run import read_run

_predict_step = jax.jit(predict_step, static_argnums=0)


class Predictor:
    """The best checkpoint of a run, ready to answer.

    Args:
      workdir: the folder that `python -m train` wrote.
      overrides: flags for what is other of the inputs than in training, such as
        `--config.data.input_column=body` or `--config.data.bad_files=skip`.

    Attributes:
      run: what the folder holds.

    Raises:
      WorkdirError: the folder holds no finished run.
    """

    def __init__(self, workdir: str | os.PathLike, overrides: Sequence[str] = ()):
        self.run = read_run(workdir, overrides)

    def __call__(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """Returns an answer for each input.

        Args:
          inputs: what the run's input column holds: texts, lists of words, or images
            and audio as paths, as bytes or as arrays; or dicts by column, as features
            must be.

        Returns:
          Dicts with `label`, `probability` and `margin`, or their plurals. The
          probability is calibrated by the temperature that fitted validation best;
          the margin is the lead over the runner-up, in logits where the margin of the
          run's loss is (`loss.logit_margin`), else in probability. For several labels
          a margin in logits is the least distance from the threshold.

        Raises:
          DataError: an input cannot be read.
        """
        if isinstance(inputs, str | bytes | dict | os.PathLike):
            raise DataError(
                f"inputs must be a list of them; got one {type(inputs).__name__}: put "
                "it in a list"
            )
        if hasattr(inputs, "columns") or not hasattr(inputs, "__len__"):
            raise DataError(
                f"inputs must be a list; got a {type(inputs).__name__}: make a list of "
                "its rows, each a value or a dict by column"
            )
        if not len(inputs):
            return []
        return self.answers(_as_records(inputs, self.run.codec.columns))

    def answers(self, records: Records) -> list[dict[str, Any]]:
        """Returns an answer for each row; `error` alone for one that has none.

        Those are what cannot be decoded, where the configuration leaves such out, and
        what the network has no finite output for.

        Raises:
          DataError: a row cannot be read and the run's configuration refuses such.
        """
        run, encoded = self.run, self.run.codec.encode(records)
        outputs = self._outputs(encoded) * run.scorer.objective.scale
        bad = {row for row, held in enumerate(outputs) if not np.isfinite(held).all()}
        outputs[list(bad)] = 0.0
        answers = run.task.target.answers(
            outputs,
            encoded,
            run.classes,
            run.calibration,
            unit=run.scorer.objective.unit,
        )
        answers = [
            {"error": "the network's output is not finite"} if row in bad else answer
            for row, answer in enumerate(answers)
        ]
        if encoded.kept is None:
            return answers
        rows: list[dict[str, Any]] = [{"error": "cannot be decoded"}] * len(records)
        for row, answer in zip(encoded.kept, answers, strict=True):
            rows[row] = answer
        return rows

    def _outputs(self, encoded: Encoded) -> np.ndarray:
        """Returns what the target keeps of the logits of all rows, in their order."""
        unknown = np.empty((len(encoded.inputs), 0))
        examples = Examples(encoded.inputs, unknown)
        if encoded.lengths is not None:
            examples = Sequences(encoded.inputs, unknown, encoded.lengths)
        size = self.run.config.training.batch_size
        outputs = [
            _predict_step(self.run.scorer.network, self.run.params, batch)
            for batch in evaluation_batches(examples, batch_size=size)
        ]
        return in_order(examples, jax.device_get(outputs))


def _as_records(inputs: Sequence[Any], columns: Sequence[str]) -> Records:
    """Returns the inputs as named columns.

    An input is a dict by column, or the value of the only column.
    """
    values: dict[str, list[Any]] = {name: [] for name in columns}
    for row, value in enumerate(inputs, start=1):
        if isinstance(value, Mapping) and values.keys() <= value.keys():
            named = value
        elif len(columns) == 1:
            named = {columns[0]: value}
        else:
            raise DataError(
                f"input {row} must be a dict with {', '.join(map(escaped, columns))}; "
                f"got {shown(value)}"
            )
        for name, held in values.items():
            held.append(named[name])
    arrays = {name: object_column(held) for name, held in values.items()}
    return Records("input", "the inputs", arrays)


def main(arguments: list[str] | None = None) -> int:
    """Predicts, and returns the process's exit code."""
    parser = make_parser(
        "train.predict",
        "Answers for new inputs from a finished run.",
        "Where the inputs are other than in training: --config.data.input_column=NAME, "
        "--config.data.bad_files=skip",
    )
    parser.add_argument("--workdir", required=True, help="the run's folder")
    parser.add_argument(
        "--input",
        required=True,
        type=user_path,
        help="a .parquet, .jsonl, .csv or .tsv file",
    )
    parser.add_argument(
        "--output", required=True, type=user_path, help="the .jsonl file to write"
    )
    flags, overrides = parser.parse_known_args(arguments)
    return run(lambda: _predict(flags, overrides), interrupted="nothing is written")


def _predict(flags: argparse.Namespace, overrides: list[str]) -> int:
    """Reads, answers, writes."""
    _check_output(flags.output, flags.input)
    use_compilation_cache(flags.compilation_cache)
    predictor = Predictor(flags.workdir, overrides)
    answers = predictor.answers(read_file(flags.input, "input"))
    lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    try:
        flags.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(flags.output, lines)
    except OSError as error:
        raise DataError(
            f"--output: cannot write {flags.output}: {error.strerror}; name a file "
            "that can be written"
        ) from error
    print(f"{len(answers)} answers in {flags.output}, from {predictor.run.origin}")
    return 0


def _check_output(output: Path, source: Path) -> None:
    """Refuses an output that is a folder, or would replace the input."""
    if output.is_dir():
        raise DataError(
            f"--output: {output} is a folder; name the .jsonl file to write"
        )
    if output.exists() and source.exists() and output.samefile(source):
        raise DataError(
            f"--output: {output} is the --input, which would be lost; name another file"
        )


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
