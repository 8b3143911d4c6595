"""What the service says of itself: an OpenAPI document, and a page that shows it."""

from pathlib import Path
from typing import Any

import as_softmax_jax

from ..workdir.finished_run import FinishedRun
from .inputs import Kind
from .requests import Limits

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
# What each status means.
_REFUSALS = {
    "400": "not JSON",
    "405": "another method",
    "408": "the request did not come in time",
    "413": "too many bytes or inputs",
    "415": "another content-type than JSON",
    "422": "a field or an input that is none",
    "503": "busy; send it again",
}


def describe(run: FinishedRun, kind: Kind, limits: Limits) -> dict[str, Any]:
    """Returns the OpenAPI document of a run's service.

    Args:
      run: what answers.
      kind: of its inputs.
      limits: of a request.
    """
    question = {
        "type": "object",
        "properties": {
            "inputs": {
                "type": "array",
                "items": kind.schema,
                "minItems": 1,
                "maxItems": limits.most_rows,
            },
            "top_k": {"type": "integer", "minimum": 0, "default": 0},
            "all_probabilities": {"type": "boolean", "default": False},
        },
        "required": ["inputs"],
        "additionalProperties": False,
        "example": {"inputs": [kind.example]},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": run.workdir.name,
            "version": as_softmax_jax.__version__,
            "description": f"{run.config.task}, {len(run.classes):,} classes, "
            f"checkpoint after mini-step {run.checkpoint}; a request has "
            f"{limits.most_bytes:,} bytes and {limits.most_rows:,} inputs at most.",
        },
        "paths": {
            "/predict": {
                "post": {
                    "summary": "An answer for each input, in their order",
                    "requestBody": {"required": True, "content": _json(question)},
                    "responses": {
                        "200": {"description": "answers", "content": _json(_ANSWERS)},
                        **{
                            status: {"description": what, "content": _json(_ERROR)}
                            for status, what in _REFUSALS.items()
                        },
                    },
                }
            },
            "/health": {
                "get": {
                    "summary": "Whether the model is there",
                    "responses": {"200": {"description": "it is"}},
                }
            },
        },
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _numbers(*types: str) -> dict[str, Any]:
    return {"type": "array", "items": {"type": list(types)}}


# All that an answer may have; which, the model's kind decides.
_ANSWER = {
    "type": "object",
    "properties": {
        "label": {"type": ["string", "integer"]},
        "probability": {"type": ["number", "null"]},
        "margin": {"type": ["number", "null"]},
        "labels": {"type": "array", "items": {"type": ["string", "integer"]}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "probabilities": _numbers("number", "null"),
        "margins": _numbers("number", "null"),
        "next": {"type": ["string", "null"]},
        "set": {"type": "array", "items": {"type": ["string", "integer"]}},
        "top": {"type": "array", "items": {"type": "object"}},
        "probabilities_by_class": {"type": "object"},
        "error": {"type": "string"},
    },
}
_ANSWERS = {
    "type": "object",
    "properties": {"answers": {"type": "array", "items": _ANSWER}},
    "required": ["answers"],
}
