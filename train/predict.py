"""Answers for new inputs, from a finished run.

python -m train.predict --workdir DIR --input FILE --output FILE

FILE in is Parquet, JSON Lines, CSV or TSV with the column that the run was trained on,
or with the one that `--config.data.input_column=NAME` names; or a folder of pictures or
recordings; or `-`, standard input. FILE out is CSV or Parquet by its ending, JSON Lines
by any other, or `-`; one answer a row: label, labels or tags, their probability and
their margin. In Python:

    from .predict import Predictor
    predictor = Predictor("runs/clinc150")
    answers = predictor(["what is on my calendar", "turn the lamp off"])
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from .command.cli import (
    make_parser,
    run,
    use_compilation_cache,
    user_path,
    with_huge_pages,
)
from .command.lines import escaped
from .data.examples import Encoded, Examples, Sequences, in_order, joined
from .data.names import shown
from .data.pipeline import evaluation_batches
from .data.records import Records, object_column
from .errors import DataError
from .evaluation.answer_sets import answer_sets
from .evaluation.evaluation import predict_step
from .evaluation.exchange import PIPE, check_output, read_inputs, write_answers
from .evaluation.outside import look, unit_rows
from .storage import finite
from .tasks.ordinal import reads_media
from .workdir.finished_run import read_run

_predict_step = jax.jit(predict_step, static_argnums=0)


class Asked(NamedTuple):
    """A request, encoded, and what is wanted beside the answers."""

    encoded: Encoded
    rows: int  # of the request, those that cannot be decoded among them
    top_k: int = 0
    all_probabilities: bool = False


class Predictor:
    """The best checkpoint of a run, ready to answer.

    Args:
      workdir: the folder that the trainer wrote.
      overrides: flags for what is other of the inputs than in training, such as
        `--config.data.input_column=body` or `--config.data.bad_files=skip`.

    Attributes:
      run: what the folder holds.

    Raises:
      WorkdirError: the folder holds no finished run.
    """

    def __init__(self, workdir: str | os.PathLike, overrides: Sequence[str] = ()):
        self.run = read_run(workdir, overrides)

    def __call__(
        self,
        inputs: Sequence[Any],
        *,
        top_k: int = 0,
        all_probabilities: bool = False,
        batch_size: int = 0,
    ) -> list[dict[str, Any]]:
        """Returns an answer for each input.

        Args:
          inputs: what the run's input column holds: texts, lists of words, or images
            and audio as paths, as bytes or as arrays; or dicts by column, as features
            must be.
          top_k: adds `top`, so many classes, the likeliest first, with their
            probabilities; 0: does not.
          all_probabilities: adds `probabilities_by_class`, a dict.
          batch_size: of inputs at once; 0: as in training.

        Returns:
          Dicts with `label`, `probability` and `margin`, or their plurals. The
          probability is calibrated by the temperature that fitted validation best;
          the margin is the lead over the runner-up, in logits where the margin of the
          run's loss is (`loss.logit_margin`), else in probability. For several labels
          a margin in logits is the least distance from the threshold.

        Raises:
          DataError: an input cannot be read.
        """
        inputs = _as_list(inputs)
        if not len(inputs):
            return []
        return self.answers(
            as_records(inputs, self.run.codec.columns),
            top_k=top_k,
            all_probabilities=all_probabilities,
            batch_size=batch_size,
        )

    def embed(self, inputs: Sequence[Any], *, batch_size: int = 0) -> np.ndarray:
        """Returns the features that the output layer is on, scaled to length 1.

        Inputs of one class lie near each other, of classes that training did not have,
        too: the dot product of two rows is their cosine.

        Args:
          inputs: as of a call.
          batch_size: of inputs at once; 0: as in training.

        Returns:
          float32 [n, width].

        Raises:
          DataError: an input cannot be read, or has an answer for each of its words.
        """
        inputs = _as_list(inputs)
        if not len(inputs):
            return np.zeros((0, 0), np.float32)
        records = as_records(inputs, self.run.codec.columns)
        rows = self.embeddings(records, batch_size=batch_size)
        if bad := [row for row, found in enumerate(rows, 1) if "error" in found]:
            raise DataError(
                f"input {bad[0]}: {rows[bad[0] - 1]['error']}; leave it out"
            )
        return np.array([found["embedding"] for found in rows], np.float32)

    def embeddings(
        self, records: Records, *, batch_size: int = 0
    ) -> list[dict[str, Any]]:
        """Returns the `embedding` of each row, see `embed`; or its `error`.

        Raises:
          DataError: a row cannot be read and the run's configuration refuses such, or
            an example has an answer for each of its words.
        """
        run = self.run
        if run.scorer.network.spec.per_token:
            raise DataError(
                f"{run.config.task} has features of each word, so there are none of "
                "the whole; take a run of a task with one answer an example"
            )
        encoded = run.codec.encode(records)
        size = batch_size or run.config.training.batch_size
        found = look(run.scorer, run.params, _examples(encoded), batch_size=size)
        rows = [
            {"embedding": row.tolist()}
            if np.isfinite(row).all()
            else {"error": "the network's output is not finite"}
            for row in unit_rows(found.features)
        ]
        return _in_place(rows, encoded, len(records))

    def answers(
        self,
        records: Records,
        *,
        top_k: int = 0,
        all_probabilities: bool = False,
        batch_size: int = 0,
    ) -> list[dict[str, Any]]:
        """Returns an answer for each row; `error` alone for one that has none.

        Those are what cannot be decoded, where the configuration leaves such out, and
        what the network has no finite output for. Options are those of a call.

        Raises:
          DataError: a row cannot be read and the run's configuration refuses such, or
            probabilities are asked for where an example has many answers.
        """
        asked = Asked(
            self.run.codec.encode(records), len(records), top_k, all_probabilities
        )
        return self.together([asked], batch_size=batch_size)[0]

    def together(
        self, requests: Sequence[Asked], *, batch_size: int = 0
    ) -> list[list[dict[str, Any]]]:
        """Returns the answers to several requests, computed in shared batches.

        Args:
          requests: at least one, each of at least one input.
          batch_size: as for a call.

        Raises:
          DataError: as for `answers`.
        """
        encoded = joined([asked.encoded for asked in requests])
        outputs, sets = self._outputs(encoded, batch_size)
        found, start = [], 0
        for asked in requests:
            rows = slice(start, start := start + len(asked.encoded.inputs))
            own_sets = None if sets is None else sets[rows]
            found.append(self._answers(asked, outputs[rows], own_sets))
        return found

    def _answers(
        self, asked: Asked, outputs: np.ndarray, sets: np.ndarray | None
    ) -> list[dict[str, Any]]:
        """Returns an answer for each row of a request."""
        run, encoded = self.run, asked.encoded
        outputs = outputs * run.scorer.objective.scale
        bad = {row for row, held in enumerate(outputs) if not np.isfinite(held).all()}
        outputs[list(bad)] = 0.0
        answers = run.task.target.answers(
            outputs,
            encoded,
            run.classes,
            run.calibration,
            unit=run.scorer.objective.unit,
        )
        if sets is not None:
            found = answer_sets(sets, run.calibration.threshold)
            for answer, classes in zip(answers, found, strict=True):
                answer["set"] = [run.classes[k] for k in classes]
        if asked.top_k or asked.all_probabilities:
            more = self._probabilities(
                outputs, asked.top_k, every=asked.all_probabilities
            )
            answers = [a | b for a, b in zip(answers, more, strict=True)]
        answers = [
            {"error": "the network's output is not finite"} if row in bad else answer
            for row, answer in enumerate(answers)
        ]
        return _in_place(answers, encoded, asked.rows)

    def _probabilities(
        self, outputs: np.ndarray, top_k: int, *, every: bool
    ) -> list[dict[str, Any]]:
        """Returns what is asked for of the classes' probabilities, a dict a row."""
        run, classes = self.run, self.run.classes
        found = run.task.target.class_probabilities(outputs, run.calibration)
        if found is None:
            raise DataError(
                f"{run.config.task} has an answer for each word, so there are no "
                "probabilities of the whole; leave --top-k and --all-probabilities out"
            )
        rows: list[dict[str, Any]] = []
        for row in found:
            best = np.argsort(-row, kind="stable")[:top_k].tolist()
            top = [{"label": classes[k], "probability": float(row[k])} for k in best]
            more: dict[str, Any] = {"top": top} if top_k else {}
            if every:
                named = zip(map(str, classes), row.tolist(), strict=True)
                more["probabilities_by_class"] = dict(named)
            rows.append(more)
        return rows

    def _outputs(
        self, encoded: Encoded, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns what the target keeps of the logits of all rows, in their order.

        And the logits of a second output layer, where it answers with sets.
        """
        examples = _examples(encoded)
        size = batch_size or self.run.config.training.batch_size
        found = [
            _predict_step(self.run.scorer.network, self.run.params, batch)
            for batch in evaluation_batches(examples, batch_size=size)
        ]
        found = jax.device_get(found)
        outputs = in_order(examples, [step.outputs for step in found])
        if not self.run.scorer.answers_sets:
            return outputs, None
        return outputs, in_order(examples, [step.other_logits for step in found])


def _examples(encoded: Encoded) -> Examples:
    """Returns encoded inputs as examples without labels."""
    unknown = np.empty((len(encoded.inputs), 0))
    if encoded.lengths is None:
        return Examples(encoded.inputs, unknown)
    return Sequences(encoded.inputs, unknown, encoded.lengths)


def _in_place(
    answers: list[dict[str, Any]], encoded: Encoded, num_rows: int
) -> list[dict[str, Any]]:
    """Returns an answer for each row, `error` where it could not be decoded."""
    if encoded.kept is None:
        return answers
    rows: list[dict[str, Any]] = [{"error": "cannot be decoded"}] * num_rows
    for row, answer in zip(encoded.kept.tolist(), answers, strict=True):
        rows[row] = answer
    return rows


def _as_list(inputs: Any) -> Sequence[Any]:
    """Returns the inputs of a call; refuses one alone, and a table.

    Raises:
      DataError: they are no list.
    """
    if isinstance(inputs, str | bytes | dict | os.PathLike):
        raise DataError(
            f"inputs must be a list of them; got one {type(inputs).__name__}: put it "
            "in a list"
        )
    if hasattr(inputs, "columns") or not hasattr(inputs, "__len__"):
        raise DataError(
            f"inputs must be a list; got a {type(inputs).__name__}: make a list of its "
            "rows, each a value or a dict by column"
        )
    return inputs


def as_records(inputs: Sequence[Any], columns: Sequence[str]) -> Records:
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
        "predict",
        "Answers for new inputs from a finished run.",
        "Where the inputs are other than in training: --config.data.input_column=NAME, "
        "--config.data.bad_files=skip",
    )
    parser.add_argument("--workdir", required=True, help="the run's folder")
    add = parser.add_argument
    add(
        "--input",
        required=True,
        type=user_path,
        help="a .parquet, .jsonl, .csv or .tsv file, a folder of pictures or "
        "recordings, or - for standard input",
    )
    add(
        "--output",
        required=True,
        type=user_path,
        help="the .jsonl, .csv or .parquet file to write, or - for standard output",
    )
    add("--id-column", metavar="NAME", help="a column of the input that answers keep")
    add("--with-input", action="store_true", help="answers keep what they answer")
    add("--top-k", type=int, default=0, help="the likeliest classes, so many")
    add("--all-probabilities", action="store_true", help="of every class")
    add(
        "--embed",
        action="store_true",
        help="the features of each input, of length 1, in place of an answer",
    )
    add("--batch-size", type=int, default=0, help="(default: that of training)")
    flags, overrides = parser.parse_known_args(arguments)
    return run(lambda: _predict(flags, overrides), interrupted="nothing is written")


def _predict(flags: argparse.Namespace, overrides: list[str]) -> int:
    """Reads, answers, writes."""
    for name in ("top_k", "batch_size"):
        if getattr(flags, name) < 0:
            flag = name.replace("_", "-")
            raise DataError(f"--{flag}: {getattr(flags, name)}; give 0 or more")
    check_output(flags.output, flags.input)
    use_compilation_cache(flags.compilation_cache)
    predictor = Predictor(flags.workdir, overrides)
    columns = predictor.run.codec.columns
    media = reads_media(predictor.run.config.task)
    records = read_inputs(flags.input, columns, media=media)
    kept = [flags.id_column] if flags.id_column else []
    kept += [c for c in columns if flags.with_input and c not in kept]
    if "file" in records.columns and flags.input.is_dir():
        kept = ["file"]
    answers = _answers(predictor, records, flags)
    held = {name: records.column(name).tolist() for name in kept}
    rows = [
        {name: _plain(values[row], name) for name, values in held.items()} | answer
        for row, answer in enumerate(answers)
    ]
    write_answers(flags.output, rows)
    where = "standard output" if flags.output == PIPE else flags.output
    kind = "embeddings" if flags.embed else "answers"
    print(
        f"{len(answers)} {kind} in {where}, from {predictor.run.origin}",
        file=sys.stderr if flags.output == PIPE else sys.stdout,
    )
    return 0


def _answers(
    predictor: Predictor, records: Records, flags: argparse.Namespace
) -> list[dict[str, Any]]:
    """Returns what is asked for of each row."""
    if not flags.embed:
        return predictor.answers(
            records,
            top_k=flags.top_k,
            all_probabilities=flags.all_probabilities,
            batch_size=flags.batch_size,
        )
    if flags.top_k or flags.all_probabilities:
        raise DataError(
            "--embed: features are no probabilities; leave --top-k and "
            "--all-probabilities out"
        )
    return predictor.embeddings(records, batch_size=flags.batch_size)


def _plain(value: Any, name: str) -> Any:
    """Returns a value of the input as JSON can hold it.

    Raises:
      DataError: it cannot, as the bytes of a picture.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    try:
        json.dumps(value)
    except TypeError as error:
        raise DataError(
            f"column `{escaped(name)}` holds {type(value).__name__}, which no answer "
            "can keep; name another one with --id-column"
        ) from error
    return finite(value)


if __name__ == "__main__":
    with_huge_pages()
    sys.exit(main())
