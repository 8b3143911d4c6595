"""Flags of the form `--config.loss.delta=0.2`."""

import re

from ..errors import ConfigError
from .sections import MARGINS, Config
from .values import NONE, NUMBERS, OPTIONS, get, keys, nearest, parse, replace


def override(config: Config, flag: str) -> Config:
    """Returns `config` with one `--config.key=value` applied, not yet checked.

    A margin takes the place of the other one, which the file may have set.

    Raises:
      ConfigError: the flag is no such flag, its key is unknown, or its value of
        another type.
    """
    key, text = _parts(flag)
    known = keys()
    section, name = _split_entry(key)
    if known.get(section) in (NUMBERS, OPTIONS) and name:
        entries = dict(get(config, section))
        kind = float if known[section] == NUMBERS else float | str
        entries[name] = parse(text, kind, key)
        return replace(config, section, entries)
    if key not in known or known[key] in (NUMBERS, OPTIONS):
        raise ConfigError(f"unknown key `{key}`; {nearest(key, known)}")
    if margin := margin_set_by(flag):
        for other in {*MARGINS} - {margin}:
            config = replace(config, f"loss.{other}", None)
    return replace(config, key, parse(text, known[key], key))


def _parts(flag: str) -> tuple[str, str]:
    """Returns the key and the text of a flag; refuses what is none."""
    match = re.fullmatch(r"--config\.([^=]+)=(.*)", flag, flags=re.DOTALL)
    if not match:
        raise ConfigError(f"unknown flag {flag!r}; write --config.loss.delta=0.2")
    return match[1], match[2]


def _split_entry(key: str) -> tuple[str, str]:
    """Returns `loss.options` and `k` of `loss.options.k`; a name may hold dots."""
    section, field, name = [*key.split(".", 2), "", ""][:3]
    return f"{section}.{field}", name


def margin_set_by(flag: str) -> str:
    """Returns the margin that a flag gives; empty: none."""
    key, text = _parts(flag)
    name = key.removeprefix("loss.")
    given = key != name and name in MARGINS and text.lower() != NONE
    return name if given else ""
