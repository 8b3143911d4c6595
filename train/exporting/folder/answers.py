"""Scores of an exported model as answers; by NumPy alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def answer(
    model: Mapping[str, Any],
    scores: np.ndarray,
    places: Sequence[int | None],
    set_scores: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the answer to one input: what, how probable, and its margin.

    Args:
      model: what model.json holds.
      scores: float64 [classes], or [length, classes] where each word is answered.
      places: of the words, or of the last token; None: beyond what the model reads.
      set_scores: [classes], where it answers with a set, too.
    """
    if not np.isfinite(scores).all():
        return {"error": "the network's output is not finite"}
    if model["answer"] == "labels":
        return _labels(model, scores)
    if model["answer"] == "next":
        return _next(model, scores, places)
    if model["answer"] == "tags":
        words = _best(model, scores[[k for k in places if k is not None]])
        found = iter(zip(*words, strict=True))
        # What the model does not read has no tag, and no probability.
        rows = [("O", None, None) if k is None else next(found) for k in places]
        names = ("tags", "probabilities", "margins")
        return {name: [row[k] for row in rows] for k, name in enumerate(names)}
    one = (values[0] for values in _best(model, scores[None]))
    given = dict(zip(("label", "probability", "margin"), one, strict=True))
    if set_scores is not None:
        order = np.argsort(-set_scores, kind="stable")
        chosen = [k for k in order if set_scores[k] >= model["threshold"]]
        given["set"] = [model["classes"][k] for k in chosen]
    return given


def _best(model: Mapping[str, Any], scores: np.ndarray) -> tuple[list, list, list]:
    """Returns the likeliest class of each row, its probability and its lead."""
    scaled = scores / model["temperature"]
    p = np.exp(scaled - np.max(scaled, axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    best = p.argmax(axis=-1)
    measured, least = (scores, -np.inf) if model["unit"] == "logits" else (p, 0.0)
    # With one class alone there is no runner-up.
    runner_up = np.full((len(scores), 1), least)
    first, second = -np.sort(-np.append(measured, runner_up, axis=1))[:, :2].T
    margins = [m if np.isfinite(m) else None for m in (first - second).tolist()]
    return [model["classes"][k] for k in best], p.max(axis=-1).tolist(), margins


def _labels(model: Mapping[str, Any], scores: np.ndarray) -> dict[str, Any]:
    """Returns the labels whose score is above the threshold, the likeliest first."""
    p = np.exp(-np.logaddexp(0.0, -scores / model["temperature"]))
    chosen = scores > model["threshold"]
    order = [k for k in np.argsort(-p, kind="stable") if chosen[k]]
    margin = np.min(p, initial=1.0, where=chosen) - np.max(
        p, initial=0.0, where=~chosen
    )
    if model["unit"] == "logits":
        margin = np.abs(scores - model["threshold"]).min()
    return {
        "labels": [model["classes"][k] for k in order],
        "probabilities": [float(p[k]) for k in order],
        "margin": float(margin),
    }


def _next(
    model: Mapping[str, Any], kept: np.ndarray, places: Sequence[int | None]
) -> dict[str, Any]:
    """Returns the token that follows; the network has found it, kept [length, 4]."""
    if places[0] is None:
        return {"next": None, "probability": None, "margin": None}
    token, p, *margins = kept[places[0]].tolist()
    margin = margins[model["unit"] == "logits"]
    return {"next": model["classes"][int(token)], "probability": p, "margin": margin}
