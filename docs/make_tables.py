"""Writes what docs/ says of the code: names, the table of losses, the configuration.

Run it after a change of a public name, of a docstring's first line, of a row of the
table of losses or of a key of the configuration: ``python docs/make_tables.py``. It
needs the extra `train`; a test holds the pages to it.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import math
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).with_name("_ext")))

from public_names import DOORS

import as_softmax_jax
from as_softmax_jax import losses
from as_softmax_jax.losses import LOSSES, Loss
from train.config import Config
from train.tasks import TASKS

DOCS = Path(__file__).parent
START, END = "<!-- losses:start -->", "<!-- losses:end -->"


def api_page() -> str:
    """Returns the page of all public names."""
    parts = [
        "# The public names",
        "Each by its first line, out of the docstrings; the pages that follow have "
        "them in full. Everything stands in its topic, and the package's own subject "
        "at the top as well.",
        *map(_section, DOORS),
    ]
    return "\n\n".join(parts) + "\n"


def losses_table() -> str:
    """Returns a table of each family, AS-Softmax and those with a baseline first."""
    families: dict[str, list[Loss]] = {}
    for row in LOSSES.values():
        families.setdefault(row.family, []).append(row)
    first = {"as_softmax", *(row.baseline for row in LOSSES.values())}
    ordered = sorted(
        families.items(), key=lambda item: first.isdisjoint(r.name for r in item[1])
    )
    return "\n\n".join(_family(title, rows) for title, rows in ordered)


def _family(title: str, rows: list[Loss]) -> str:
    lines = [
        f"**{title.removesuffix('.')}**",
        "",
        "| name | when to use it | own keywords | target | settles | paper |",
        "|---|---|---|---|---|---|",
        *map(_line, rows),
    ]
    return "\n".join(lines)


def losses_page(text: str) -> str:
    """Returns the page of losses with its table made anew."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{losses_table()}\n{END}{after}"


def api_losses_page(text: str) -> str:
    """Returns the API's page of losses, with every loss of the table on it."""
    for target in ("labels", "multi_hot"):
        start, end = f".. {target}: start\n", f".. {target}: end\n"
        before, rest = text.split(start)
        _, after = rest.split(end)
        rows = [row for row in LOSSES.values() if row.target == target]
        lines = "".join(map(_directives, rows))
        text = f"{before}{start}\n{lines}\n{end}{after}"
    return text


def _directives(row: Loss) -> str:
    """Returns what documents a loss and its companions; AS-Softmax has its own page."""
    names = [f"{row.name}_{kind}" for kind in ("loss", "settled", "probs", "kept")]
    there = {*losses.__all__} - {*as_softmax_jax.__all__}
    return "".join(f".. autofunction:: {n}\n" for n in names if n in there)


def configuration_page() -> str:
    """Returns the page of all keys of the configuration."""
    parts = [
        "# Every key of the configuration",
        "Each can be set in a configuration's file, on the command line as "
        "`--config.KEY=VALUE`, and from Python by `settings={KEY: VALUE}` of `fit` and "
        "`compare`. A wrong key or value is refused, with the nearest right one. "
        "`python docs/make_tables.py` writes this page out of "
        "`train/config/sections.py`.",
        "## The run",
        _keys(Config, ""),
    ]
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(field.default_factory):
            says = inspect.getdoc(field.default_factory)
            table = _keys(field.default_factory, f"{field.name}.")
            parts += [f"## {field.name}", says, table]
    networks = [
        f"| `{task}` | {', '.join(f'`{name}`' for name in TASKS[task].models)} |"
        for task in TASKS
    ]
    table = "\n".join(["| task | `model.name` |", "|---|---|", *networks])
    return "\n\n".join([*parts, "## Tasks and their networks", table]) + "\n"


def _keys(section: type, prefix: str) -> str:
    """Returns the table of one section's keys."""
    says, rows = _comments(section), []
    for field in dataclasses.fields(section):
        if dataclasses.is_dataclass(field.default_factory):
            continue
        if field.name not in says:
            raise ValueError(f"`{prefix}{field.name}` has no comment above it.")
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory()
        cells = (f"`{prefix}{field.name}`", _value(default), _takes(field))
        rows.append(f"| {' | '.join(cells)} | {says[field.name]} |")
    head = ["| key | default | takes | what it is |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _comments(section: type) -> dict[str, str]:
    """Returns the comment above each field of a dataclass, as a line of Markdown."""
    said: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(section).splitlines():
        if line.startswith("    # "):
            above.append(line.removeprefix("    # "))
        elif above and (field := re.match(r"    (\w+): ", line)):
            said[field[1]] = " ".join(above).replace("|", "\\|").replace("*", "\\*")
            above = []
    return said


def _value(value: Any) -> str:
    """Returns a value as the command line takes it."""
    if isinstance(value, bool) or value is None:
        return f"`{str(value).lower()}`"
    if isinstance(value, Mapping):
        return ""
    text = ",".join(value) if isinstance(value, tuple) else str(value)
    return f"`{text}`".replace("|", "\\|") if text else "empty"


def _takes(field: dataclasses.Field) -> str:
    """Returns which values a key takes."""
    if names := field.metadata.get("names"):
        return ", ".join(map(_value, names))
    kind = str(getattr(field.type, "__name__", field.type)).partition(" |")[0]
    kinds = {"str": "text", "int": "whole number", "float": "number"}
    kinds |= {"bool": "`true`, `false`", "tuple": "names, by commas"}
    text = kinds.get(kind, "a number for each name")
    if limits := field.metadata.get("range"):
        low, high = limits
        end = " or more" if math.isinf(high) else f" to {high:,.10g}"
        text += f", {low:,.10g}{end}"
    return "`none`, or a " + text if field.default is None else text


def _section(name_of_door: str) -> str:
    door = importlib.import_module(name_of_door)
    constants = _constants(door)
    lines = [f"## {name_of_door}", ""]
    for name in door.__all__:
        value = getattr(door, name)
        documented = inspect.ismodule(value) or callable(value)
        says = inspect.getdoc(value) if documented else None
        says = constants.get(name) or says
        if not says:
            raise ValueError(f"`{name_of_door}.{name}` has no docstring.")
        lines.append(f"- `{name}`: {says.splitlines()[0]}")
    return "\n".join(lines)


def _constants(door: ModuleType) -> dict[str, str]:
    """Returns the strings that stand below assignments in a topic's modules."""
    found: dict[str, str] = {}
    rooms = pkgutil.iter_modules(getattr(door, "__path__", ()))
    names = [f"{door.__name__}.{room.name}" for room in rooms if not room.ispkg]
    for module in (door, *map(importlib.import_module, names)):
        body = ast.parse(inspect.getsource(module)).body
        for statement, below in itertools.pairwise(body):
            target = getattr(statement, "target", None)
            if isinstance(statement, ast.Assign):
                target = statement.targets[0]
            text = getattr(below, "value", None)  # of a string that stands alone
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                found[target.id] = inspect.cleandoc(str(text.value))
    return found


def _shown(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value


def _line(row: Loss) -> str:
    rows = row.by_margin.values() or [row]
    keywords = " or ".join(
        ", ".join(f"{name}={_shown(value)}" for name, value in each.keywords.items())
        for each in rows
    )
    target = "labels" if row.target == "multi_hot" else "label"
    target += " or distribution" * row.distributions
    target += ", a rank" * (row.input == "thresholds")
    settles = "exactly" if row.exact_zeros else ""
    settles += ", without labels" * (not row.labels_settle)
    cells = (f"`{row.name}`", row.use, keywords, target, settles, row.paper)
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def pages() -> Iterator[tuple[str, str]]:
    """Yields each page that is made here, or in part, by its name."""
    yield "api.md", api_page()
    page = DOCS / "api" / "losses.rst"
    yield "api/losses.rst", api_losses_page(page.read_text(encoding="utf-8"))
    yield "configuration.md", configuration_page()
    yield "losses.md", losses_page((DOCS / "losses.md").read_text(encoding="utf-8"))


def main() -> None:
    """Writes the pages."""
    for name, text in pages():
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
