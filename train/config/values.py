"""Keys and values: their types and ranges, their text, their refusals."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError
from .sections import MARGINS, Config, LossConfig

# The type of a number that may be left open, and how a flag does so.
OPTIONAL, NONE = float | None, "none"
# The types of entries under names of their own: numbers, or numbers and names.
NUMBERS, OPTIONS = Mapping[str, float], Mapping[str, float | str]


def keys(section: Any = Config, prefix: str = "") -> dict[str, Any]:
    """Returns the type of every key, `loss.delta` for instance, of a dataclass.

    Args:
      section: a dataclass whose fields are values or further sections.
      prefix: of the keys.
    """
    found: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(section).items():
        if dataclasses.is_dataclass(kind):
            found |= keys(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = kind
    return found


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns the end of a refusal: the nearest right name, or all of them.

    Args:
      name: what was asked for.
      names: what there is.
    """
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return "it can be " + ", ".join(f"`{n}`" for n in names)


def check(config: Any, prefix: str = "") -> None:
    """Refuses a value of the wrong type or out of its range.

    Args:
      config: a configuration or a section of it.
      prefix: of the keys in messages.

    Raises:
      ConfigError: names the key, what it is and what it must be.
    """
    hints = typing.get_type_hints(type(config))
    if isinstance(config, LossConfig):
        refuse_two_margins({m for m in MARGINS if getattr(config, m) is not None})
    for field in dataclasses.fields(config):
        key, value, kind = prefix + field.name, getattr(config, field.name), hints
        if dataclasses.is_dataclass(kind[field.name]):
            _check_type(value, kind[field.name], key)
            check(value, key + ".")
        else:
            _check_type(value, kind[field.name], key)
            _check_range(value, field.metadata, key)


def refuse_two_margins(given: set[str]) -> None:
    """Refuses more than one margin.

    Args:
      given: the keys of margins that have a value.
    """
    if len(given) > 1:
        first, second = (f"`loss.{name}`" for name in MARGINS)
        raise ConfigError(
            f"{first} and {second}: a loss takes one margin; leave out {second} for a "
            f"margin in logits, or {first} for one in probability"
        )


def get(config: Any, key: str) -> Any:
    """Returns the value at a dotted key."""
    for name in key.split("."):
        config = getattr(config, name)
    return config


def replace(config: Any, key: str, value: Any) -> Any:
    """Returns `config` with the value at a dotted key replaced."""
    name, _, rest = key.partition(".")
    if rest:
        value = replace(getattr(config, name), rest, value)
    return dataclasses.replace(config, **{name: value})


def parse(text: str, kind: Any, key: str) -> Any:
    """Returns the text of a flag as a value of the field's type."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind == tuple[str, ...]:
            return tuple(part for part in text.split(",") if part)
        if kind == float | str:
            return text if text.isidentifier() else float(text)
        if kind == OPTIONAL:
            return None if text.lower() == NONE else float(text)
        return kind(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"`{key}` must be {_type_name(kind)}; got {text!r}"
        ) from error


def _check_type(value: Any, kind: Any, key: str) -> None:
    """Refuses a value that is not of the field's type; an int serves as a float."""
    if kind in (NUMBERS, OPTIONS):
        right = isinstance(value, Mapping) and all(
            kind == OPTIONS
            if isinstance(v, str)
            else isinstance(v, int | float) and math.isfinite(v)
            for v in value.values()
        )
    elif kind == tuple[str, ...]:
        right = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    elif kind == OPTIONAL and value is None:
        right = True
    elif kind in (float, OPTIONAL):
        right = type(value) in (int, float) and math.isfinite(value)
    else:
        right = type(value) is kind
    if not right:
        raise ConfigError(f"`{key}` must be {_type_name(kind)}; got {value!r}")


def _type_name(kind: Any) -> str:
    """Returns a type as a user would name it."""
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a finite number",
        OPTIONAL: "a finite number or none",
        float | str: "a finite number or a name",
        bool: "true or false",
        str: "text",
        tuple[str, ...]: "names separated by commas (a tuple in a file)",
        NUMBERS: "a dict of names and finite numbers",
        OPTIONS: "a dict of names and finite numbers, or names",
    }
    return names.get(kind) or f"a {kind.__name__}"


def _check_range(value: Any, metadata: Mapping[str, Any], key: str) -> None:
    """Refuses a value outside its field's range or list of names."""
    if "range" in metadata and value is not None:
        low, high = metadata["range"]
        if not low <= value <= high:
            top = "" if math.isinf(high) else f" and at most {high}"
            raise ConfigError(f"`{key}` must be at least {low}{top}; got {value}")
    if "names" in metadata and value not in metadata["names"]:
        raise ConfigError(f"`{key}`: no {value!r}; {nearest(value, metadata['names'])}")
