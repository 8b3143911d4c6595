"""Requests that wait together are answered together, by one thread."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np

from ..command.notices import silence
from ..data.buckets import BUCKETS
from ..data.examples import Encoded
from ..predict import Asked, Predictor, as_records

Answers = list[dict[str, Any]]


class BusyError(Exception):
    """More rows wait than may."""


class Question(NamedTuple):
    """What one request asks."""

    inputs: list[Any]
    top_k: int = 0
    all_probabilities: bool = False


class Batcher:
    """Answers questions in the batches that they make up together.

    One thread takes what has waited since it was last busy, up to a batch, so that
    nobody waits for others to come, and the device has as few batches as there can be.
    Their shapes are those of `Predictor`, whatever is asked.

    Args:
      predictor: of the run.
      batch_size: of inputs at once; 0: as in training.
      most_waiting: rows that may wait; more are refused, so that memory has a bound.
      warm_up: whether every shape that a batch can have is compiled at first.

    Attributes:
      ready: once questions are answered, how many shapes are compiled.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        batch_size: int,
        most_waiting: int,
        warm_up: bool = False,
    ):
        self.predictor = predictor
        self.batch_size = batch_size or predictor.run.config.training.batch_size
        self.most_waiting = most_waiting
        self._waiting: deque[tuple[Question, Future[Answers]]] = deque()
        self._rows, self._closed = 0, False
        self._changed = threading.Condition()
        self._warm_up = warm_up
        self.ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._work, name="answers")
        self._thread.start()

    def submit(self, question: Question) -> "Future[Answers]":
        """Returns the answers to come.

        They raise `DataError` where an input cannot be read.

        Raises:
          BusyError: too many rows wait.
        """
        future: Future[Answers] = Future()
        with self._changed:
            rows = len(question.inputs)
            if self._closed or self._rows + rows > self.most_waiting:
                raise BusyError
            self._rows += rows
            self._waiting.append((question, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Answers what waits, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        # A thread has a context of its own, which ends with it; and JAX compiles anew
        # under other settings, so that one thread does both, compile and answer.
        with silence():
            try:
                self.ready.set_result(self._compile() if self._warm_up else 0)
            except Exception as error:
                self.ready.set_exception(error)
            while taken := self._take():
                self._answer(taken)

    def _compile(self) -> int:
        """Answers a batch of each shape."""
        inputs = list(self._blanks())
        for encoded in inputs:
            if self._closed:
                break
            asked = [Asked(encoded, 1)]
            self.predictor.together(asked, batch_size=self.batch_size)
        return len(inputs)

    def _blanks(self) -> Iterator[Encoded]:
        """Yields an input of each shape."""
        spec = self.predictor.run.scorer.network.spec
        if not spec.vocabulary_size:
            dtype = getattr(self.predictor.run.codec, "dtype", "float32")
            yield Encoded(np.zeros((1, *spec.shape), dtype))
            return
        (longest,) = spec.shape
        for length in (*(b for b in BUCKETS if b < longest), longest):
            lengths, pieces = np.array([length], np.int32), [np.zeros(0, np.int64)]
            yield Encoded(np.zeros((1, length), np.int32), lengths, pieces)

    def _take(self) -> list[tuple[Question, "Future[Answers]"]]:
        """Returns what waits, a batch at most but one question at least."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            taken: list[tuple[Question, Future[Answers]]] = []
            rows = 0
            while self._waiting:
                size = len(self._waiting[0][0].inputs)
                if taken and rows + size > self.batch_size:
                    break
                taken.append(self._waiting.popleft())
                rows += size
            self._rows -= rows
            return taken

    def _answer(self, taken: Sequence[tuple[Question, "Future[Answers]"]]) -> None:
        """Answers questions, each of which may be refused on its own."""
        asked: list[tuple[Asked, Future[Answers]]] = []
        for question, future in taken:
            if not future.set_running_or_notify_cancel():
                continue  # Its client has gone.
            try:
                asked.append((self._encode(question), future))
            # Whatever is wrong with one question, the others are answered.
            except Exception as error:
                future.set_exception(error)
        if not asked:
            return
        try:
            found = self.predictor.together(
                [question for question, _ in asked], batch_size=self.batch_size
            )
        except Exception as error:
            for _, future in asked:
                future.set_exception(error)
            return
        for (_, future), answers in zip(asked, found, strict=True):
            future.set_result(answers)

    def _encode(self, question: Question) -> Asked:
        codec = self.predictor.run.codec
        records = as_records(question.inputs, codec.columns)
        return Asked(
            codec.encode(records),
            len(records),
            question.top_k,
            question.all_probabilities,
        )
