"""The service: its paths, and what it says to each request."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ..errors import DataError
from .batching import Batcher, BusyError
from .openapi import PAGE, describe
from .requests import Bodies, Limits, Parser, RefusedError

_PATHS = {
    "/predict": "POST",
    "/health": "GET",
    "/openapi.json": "GET",
    "/docs": "GET",
}


def make_app(batcher: Batcher, limits: Limits) -> Starlette:
    """Returns the service of a run.

    Args:
      batcher: what answers; it is closed when the service ends.
      limits: of requests.
    """
    run = batcher.predictor.run
    parser, bodies = Parser(run, limits), Bodies(limits)
    described = describe(run, parser.kind, limits)
    health = {
        "status": "ok",
        "model": run.workdir.name,
        "task": run.config.task,
        "classes": len(run.classes),
        "checkpoint": run.checkpoint,
    }

    async def predict(request: Request) -> Response:
        async with bodies.read(request) as body:
            question = await run_in_threadpool(parser, body)
            del body
            answers = await asyncio.wrap_future(batcher.submit(question))
        return JSONResponse({"answers": answers})

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(batcher.close)

    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", functools.partial(_give, health)),
            Route("/openapi.json", functools.partial(_give, described)),
            Route("/docs", _page),
        ],
        exception_handlers={
            HTTPException: _no_such,
            RefusedError: _refused,
            DataError: _unreadable,
            BusyError: _busy,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
        lifespan=lifespan,
    )


async def _give(content: Mapping[str, Any], request: Request) -> Response:
    return JSONResponse(content)


async def _page(request: Request) -> Response:
    return HTMLResponse(PAGE)


def _refusal(status: int, reason: str, **headers: str) -> JSONResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return JSONResponse({"error": reason}, status, named)


async def _no_such(request: Request, error: Exception) -> Response:
    """Says which paths and methods there are."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        method = _PATHS[path]
        return _refusal(405, f"{path} takes {method} alone", allow=method)
    if error.status_code == 404:
        return _refusal(404, f"there is no such path; there are {', '.join(_PATHS)}")
    return _refusal(error.status_code, str(error.detail))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _refusal(error.status, error.reason)


async def _unreadable(request: Request, error: Exception) -> Response:
    return _refusal(422, str(error))


async def _busy(request: Request, error: Exception) -> Response:
    return _refusal(503, "busy: too many inputs wait; send it again", retry_after="1")


async def _gone(request: Request, error: Exception) -> Response:
    return _refusal(400, "the client went away before its request was whole")


async def _failed(request: Request, error: Exception) -> Response:
    """Says no more of a fault of ours than its kind; the log has the rest."""
    return _refusal(500, f"the model failed: {type(error).__name__}")
