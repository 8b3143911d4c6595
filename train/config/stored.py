"""A configuration as JSON holds it, now or in an older version."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError
from .margins import default_slack, row_of_margin, unread_fields
from .sections import MARGINS, Config
from .values import check, nearest

# What older files hold in place of a value of today: key -> old value -> value.
_OLD_VALUES = {"model.head": {"dense": ""}}


def as_dict(config: Config) -> dict[str, Any]:
    """Returns the configuration as JSON would give it back."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(inner) for name, inner in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def from_dict(plain: Mapping[str, Any], kind: Any = Config) -> Any:
    """Returns the configuration that `as_dict` gave; a missing key has its default.

    A value that older files have in place of one of today counts as that.

    Args:
      plain: nested dicts as JSON gives them.
      kind: the dataclass to make of them.

    Raises:
      ConfigError: a key is unknown, or a value not of its type.
    """
    config = _from_plain(plain, kind, prefix="")
    check(config)
    return config


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings under dotted keys; an empty section has none."""
    found: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def settings(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored configuration under dotted keys.

    A key that came later has its default; one that is gone stays. What the loss does
    not read has its default, and a margin that nobody gave its value: equal settings
    are equal runs.

    Args:
      plain: nested dicts as `as_dict` gave them, now or in an older version.
    """
    found = flatten(as_dict(Config())) | flatten(plain)
    for key, values in _OLD_VALUES.items():
        found[key] = values.get(found[key], found[key])
    return _as_read(found)


def _as_read(found: dict[str, Any]) -> dict[str, Any]:
    """Returns settings as the loss reads them; those of no known loss as they are."""
    # Not at the top: whoever only reads a configuration does without JAX.
    from as_softmax_jax.losses import LOSSES

    name = found["loss.name"]
    if not isinstance(name, str) or name not in LOSSES:
        return found
    row = row_of_margin(LOSSES[name], {m: found[f"loss.{m}"] for m in MARGINS})
    for field, default in unread_fields(row).items():
        inside = f"loss.{field}."
        found = {k: v for k, v in found.items() if not k.startswith(inside)}
        if not isinstance(default, Mapping):
            found[f"loss.{field}"] = default
    if row.margin is not None and found[f"loss.{row.margin}"] is None:
        found[f"loss.{row.margin}"] = row.keywords[row.margin]
    if found["compact.slack"] is None:
        found["compact.slack"] = default_slack(logits=row.margin_in_logits)
    return found


def first_difference(held: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Returns `loss.delta: 0.1 there, 0.2 asked for`; nothing where both agree.

    Args:
      held: settings under dotted keys.
      asked: others.
    """
    for key in sorted(held.keys() | asked.keys()):
        if (key in held, held.get(key)) != (key in asked, asked.get(key)):
            shown = (repr(c[key]) if key in c else "nothing" for c in (held, asked))
            return "{}: {} there, {} asked for".format(key, *shown)
    return ""


def _from_plain(plain: Mapping[str, Any], kind: Any, prefix: str) -> Any:
    """Returns a section of a configuration, not yet checked."""
    hints, values = typing.get_type_hints(kind), {}
    for name, value in plain.items():
        if name not in hints:
            raise ConfigError(f"unknown key `{name}`; {nearest(name, hints)}")
        if dataclasses.is_dataclass(hints[name]):
            value = _from_plain(value, hints[name], f"{prefix}{name}.")
        elif isinstance(value, str):
            value = _OLD_VALUES.get(prefix + name, {}).get(value, value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
