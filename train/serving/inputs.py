"""Inputs in JSON, by what a run reads: how they are told, and what they become."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..data.names import shown
from ..tasks.audio import AudioCodec
from ..tasks.features import FeatureCodec
from ..tasks.image import ImageCodec
from ..tasks.task import Codec
from ..tasks.tokens import TokenCodec

# Of a text.
MOST_CHARACTERS = 2**16
_NUMBER_OR_TEXT = {"type": ["number", "string", "boolean", "null"]}
_BASE64 = {"type": "string", "contentEncoding": "base64"}


class InputError(Exception):
    """An input that is none for this model; the text says what one is."""


class Kind(NamedTuple):
    """What one input is."""

    schema: dict[str, Any]  # of JSON Schema
    example: Any
    read: Callable[[Any], Any]  # what the codec takes; raises `InputError`


def kind_of(codec: Codec) -> Kind:
    """Returns what the inputs of a codec are in JSON."""
    columns = codec.columns
    if isinstance(codec, FeatureCodec):
        return _rows(columns)
    value = _WORDS if isinstance(codec, TokenCodec) else _TEXT
    if isinstance(codec, ImageCodec):
        value = _media("a picture", _pixels(codec.dtype))
    elif isinstance(codec, AudioCodec):
        value = _media("a recording", _samples)
    (column,) = columns

    def read(given: Any) -> Any:
        if isinstance(given, Mapping):
            _check_keys(given, columns)
            given = given[column]
        return value.read(given)

    row = {
        "type": "object",
        "properties": {column: value.schema},
        "required": [column],
        "additionalProperties": False,
    }
    return Kind({"anyOf": [value.schema, row]}, value.example, read)


def _rows(columns: tuple[str, ...]) -> Kind:
    """Returns rows of a table: numbers, texts, and null for a blank."""

    def read(given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise InputError(
                f"it must be an object with {_listed(columns)}; got {_told(given)}"
            )
        _check_keys(given, columns)
        for name, value in given.items():
            if isinstance(value, list | dict):
                raise InputError(
                    f"{shown(name)} must be a number, a text or null; got "
                    f"{_told(value)}"
                )
        return given

    schema = {
        "type": "object",
        "properties": dict.fromkeys(columns, _NUMBER_OR_TEXT),
        "required": list(columns),
        "additionalProperties": False,
    }
    return Kind(schema, dict.fromkeys(columns, 0.0), read)


def _text(given: Any) -> str:
    if not isinstance(given, str):
        raise InputError(f"it must be a text; got {_told(given)}")
    _check_length(len(given))
    return given


def _words(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(w, str) for w in given):
        raise InputError(f"it must be a list of words; got {_told(given)}")
    _check_length(sum(map(len, given)) + len(given))
    return given


def _check_length(characters: int) -> None:
    """Refuses a text that keeps the tokenizer, and all who wait, for seconds."""
    if characters > MOST_CHARACTERS:
        raise InputError(
            f"it has {characters:,} characters, and a text has {MOST_CHARACTERS:,} at "
            "most; cut it: of a long text the model reads its first tokens alone"
        )


_TEXT = Kind({"type": "string", "maxLength": MOST_CHARACTERS}, "a text", _text)
_WORDS = Kind({"type": "array", "items": {"type": "string"}}, ["a", "text"], _words)


def _media(what: str, as_array: Callable[[list], np.ndarray]) -> Kind:
    """Returns files as base64, or what they hold as lists of numbers."""

    def read(given: Any) -> Any:
        if isinstance(given, list):
            try:
                return as_array(given)
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(
                    f"its lists are no array of {what}: {error}"
                ) from error
        if not isinstance(given, str):
            raise InputError(
                f"it must be {what}, a file in base64 or lists of numbers; got "
                f"{_told(given)}"
            )
        # A path is never read: what lies on this machine is no client's business.
        try:
            content = base64.b64decode(
                given.partition("base64,")[2] or given, validate=True
            )
        except (binascii.Error, ValueError) as error:
            raise InputError(
                f"it must be {what}, a file in base64; this text is none: {error}"
            ) from error
        if not content:
            raise InputError(f"it must be {what}; got an empty file")
        return content

    schema = {"anyOf": [_BASE64, {"type": "array"}]}
    return Kind(schema, "iVBORw0KGgo...", read)


def _pixels(dtype: str) -> Callable[[list], np.ndarray]:
    """Returns what makes an array of a picture in lists."""

    def as_array(given: list) -> np.ndarray:
        if dtype != "uint8":
            return np.array(given, np.float32)
        found = np.array(given)
        if found.dtype.kind not in "iu" or ((found < 0) | (found > 255)).any():
            raise ValueError("pixels are whole numbers from 0 to 255")
        return found.astype(np.uint8)

    return as_array


def _samples(given: list) -> np.ndarray:
    return np.array(given, np.float32)


def _check_keys(given: Mapping[str, Any], columns: tuple[str, ...]) -> None:
    """Refuses an object with other columns than those of the model."""
    if missing := [name for name in columns if name not in given]:
        raise InputError(
            f"it lacks {_listed(missing)}; it must have {_listed(columns)}"
        )
    if unknown := [name for name in given if name not in columns]:
        raise InputError(
            f"it has {_listed(unknown)}, which the model does not read; leave it out"
        )


def _listed(names: Any, most: int = 8) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + rest


def _told(value: Any) -> str:
    """Returns a value of JSON in a few words."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    kind = names.get(type(value), "null" if value is None else "a number")
    told = isinstance(value, list | dict) or value is None
    return kind if told else f"{kind}, {shown(value)}"
