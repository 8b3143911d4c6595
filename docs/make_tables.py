"""Writes docs/api.md and the table of docs/losses.md out of the package.

Run it after a change of a public name, of a docstring's first line or of a row of the
table of losses: ``python docs/make_tables.py``. A test holds the pages to it.
"""

import ast
import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path
from types import ModuleType

import as_softmax_jax
from as_softmax_jax.losses import LOSSES, Loss

DOCS = Path(__file__).parent
START, END = "<!-- losses:start -->", "<!-- losses:end -->"
TOPICS = ("losses", "heads", "transforms")


def api_page() -> str:
    """Returns the page of all public names."""
    parts = [
        "# The public names",
        "Written by `python docs/make_tables.py` out of the docstrings; `make docs` "
        "renders these in full. Everything stands in its topic, and the package's own "
        "subject at the top as well.",
        _section(as_softmax_jax),
        *(_section(getattr(as_softmax_jax, topic)) for topic in TOPICS),
    ]
    return "\n\n".join(parts) + "\n"


def losses_table() -> str:
    """Returns the table of all losses."""
    lines = [
        "| name | loss | own keywords | exact zeros | paper |",
        "|---|---|---|---|---|",
        *(_line(row) for row in LOSSES.values()),
    ]
    return "\n".join(lines)


def losses_page(text: str) -> str:
    """Returns the page of losses with its table made anew."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{losses_table()}\n{END}{after}"


def _section(door: ModuleType) -> str:
    constants = _constants(door)
    lines = [f"## {door.__name__}", ""]
    for name in door.__all__:
        value = getattr(door, name)
        documented = inspect.ismodule(value) or callable(value)
        says = inspect.getdoc(value) if documented else None
        says = constants.get(name) or says
        if not says:
            raise ValueError(f"`{door.__name__}.{name}` has no docstring.")
        lines.append(f"- `{name}`: {says.splitlines()[0]}")
    return "\n".join(lines)


def _constants(door: ModuleType) -> dict[str, str]:
    """Returns the strings that stand below assignments in a topic's modules."""
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(door.__path__):
        if module.ispkg:
            continue
        loaded = importlib.import_module(f"{door.__name__}.{module.name}")
        body = ast.parse(inspect.getsource(loaded)).body
        for statement, below in itertools.pairwise(body):
            target = getattr(statement, "target", None)
            if isinstance(statement, ast.Assign):
                target = statement.targets[0]
            text = getattr(below, "value", None)  # of a string that stands alone
            if isinstance(target, ast.Name) and isinstance(text, ast.Constant):
                found[target.id] = inspect.cleandoc(str(text.value))
    return found


def _line(row: Loss) -> str:
    rows = row.by_margin.values() or [row]
    keywords = " or ".join(
        ", ".join(f"{name}={value}" for name, value in each.keywords.items())
        for each in rows
    )
    zeros = "yes" if row.exact_zeros else ""
    cells = (f"`{row.name}`", f"`{row.name}_loss`", keywords, zeros, row.paper)
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def main() -> None:
    """Writes both pages."""
    (DOCS / "api.md").write_text(api_page(), encoding="utf-8")
    page = DOCS / "losses.md"
    text = losses_page(page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
