"""Inputs of each kind, for one of several classes that are in order."""

import dataclasses

from ..targets.ordinal import Ordinal
from . import audio, features, image, text
from .task import Task

# What stands before the name of the task that has the same inputs.
PREFIX = "ordinal_"


def _ordinal(task: Task) -> Task:
    return dataclasses.replace(task, target=Ordinal())


TASKS = {
    f"{PREFIX}text": _ordinal(text.TASK),
    f"{PREFIX}image": _ordinal(image.TASK),
    f"{PREFIX}audio": _ordinal(audio.TASK),
    f"{PREFIX}features": _ordinal(features.TASK),
}


def reads_media(task: str) -> bool:
    """Whether the inputs of a task are pictures or recordings."""
    return task.removeprefix(PREFIX) in ("image", "audio")
