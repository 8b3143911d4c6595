"""The body of a request: read up to a limit, parsed, and refused with a reason."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from starlette.requests import Request

from ..data.names import shown
from ..workdir.finished_run import FinishedRun
from .batching import Question
from .inputs import InputError, Kind, kind_of

FIELDS = ("inputs", "top_k", "all_probabilities")
# For a client to send its request, in seconds.
_PATIENCE = 30


class RefusedError(Exception):
    """A request that is not answered.

    Attributes:
      status: of HTTP.
      reason: what is wrong, and what to do.
    """

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Limits(NamedTuple):
    """What one request may be, and all of them together."""

    most_bytes: int  # of a request
    most_rows: int  # of a request
    most_held: int  # bytes of all requests that are not answered yet


class Bodies:
    """Reads bodies, and counts what is held of those that are not answered yet."""

    def __init__(self, limits: Limits):
        self.limits, self.held = limits, 0

    @contextlib.asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """Gives the body, which counts as held while inside.

        Raises:
          RefusedError: it is too large, too slow, or of another kind than JSON.
        """
        _check_headers(request, self.limits)
        body = bytearray()
        try:
            await self._receive(request, body)
            yield bytes(body)
        finally:
            self.held -= len(body)

    async def _receive(self, request: Request, body: bytearray) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                async for chunk in request.stream():
                    body += chunk
                    self.held += len(chunk)
                    self._check(len(body))
        except TimeoutError as error:
            raise RefusedError(
                408, f"the request did not come within {_PATIENCE} s; send it again"
            ) from error

    def _check(self, size: int) -> None:
        if size > self.limits.most_bytes:
            raise _too_large(self.limits)
        if self.held > self.limits.most_held:
            raise RefusedError(503, "busy: other requests hold the memory; send again")


class Parser:
    """Makes questions of bodies.

    Args:
      run: what answers.
      limits: of a request.
    """

    def __init__(self, run: FinishedRun, limits: Limits):
        self.kind: Kind = kind_of(run.codec)
        self._limits, self._classes = limits, len(run.classes)
        self._per_token = run.scorer.network.spec.per_token

    def __call__(self, body: bytes) -> Question:
        """Returns what a body asks.

        Raises:
          RefusedError: it asks nothing that can be answered.
        """
        content = _parse(body)
        if not isinstance(content, Mapping):
            raise RefusedError(422, 'the body must be an object: {"inputs": [...]}')
        if unknown := [name for name in content if name not in FIELDS]:
            raise RefusedError(
                422, f"unknown field {shown(unknown[0])}; there are {', '.join(FIELDS)}"
            )
        inputs = self._inputs(content.get("inputs"))
        top_k = content.get("top_k", 0)
        if type(top_k) is not int or not 0 <= top_k <= self._classes:
            raise RefusedError(
                422,
                f"`top_k` must be a whole number from 0 to {self._classes}; got "
                f"{shown(top_k)}",
            )
        every = content.get("all_probabilities", False)
        if not isinstance(every, bool):
            raise RefusedError(
                422, f"`all_probabilities` must be true or false; got {shown(every)}"
            )
        if self._per_token and (top_k or every):
            raise RefusedError(
                422,
                "this model answers each word, so there are no probabilities of the "
                "whole; leave `top_k` and `all_probabilities` out",
            )
        return Question(inputs, top_k, every)

    def _inputs(self, inputs: Any) -> list[Any]:
        """Returns inputs as the codec takes them."""
        if not isinstance(inputs, list):
            got = "nothing" if inputs is None else type(inputs).__name__
            raise RefusedError(422, f"`inputs` must be a list of inputs; got {got}")
        if not inputs:
            raise RefusedError(422, "`inputs` is empty; give one input at least")
        if len(inputs) > self._limits.most_rows:
            raise RefusedError(
                413,
                f"{len(inputs):,} inputs, and a request has {self._limits.most_rows:,} "
                "at most; send them in parts",
            )
        found = []
        for row, given in enumerate(inputs):
            try:
                found.append(self.kind.read(given))
            except InputError as error:
                raise RefusedError(422, f"`inputs[{row}]`: {error}") from error
        return found


def _check_headers(request: Request, limits: Limits) -> None:
    """Refuses by the headers what need not be read."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise RefusedError(
            415,
            f"the content-type is {shown(kind) if kind else 'not given'}; send JSON, "
            "with content-type: application/json",
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise RefusedError(415, "the body is encoded; send JSON as it is")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > limits.most_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(
        413,
        f"the request is larger than {limits.most_bytes:,} bytes; send its inputs in "
        "parts",
    )


def _parse(body: bytes) -> Any:
    """Returns what the JSON of a body holds."""
    if not body.strip():
        raise RefusedError(400, 'the body is empty; send {"inputs": [...]}')
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise RefusedError(
            400, f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    except UnicodeDecodeError as error:
        raise RefusedError(400, "not JSON: the body is no UTF-8 text") from error
    except RecursionError as error:
        raise RefusedError(400, "its lists lie too deep in each other") from error
    except ValueError as error:  # a number of thousands of digits
        raise RefusedError(400, f"not JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise RefusedError(
        400, f"{name} is no number of JSON; write null for a blank, or leave it out"
    )
