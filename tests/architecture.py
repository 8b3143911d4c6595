"""The import graph of `train/` and `as_softmax_jax/`: its floors, arrows up, circles.

python tests/architecture.py

A room is a folder, or a file at the top. Each stands on a floor, and imports from its
own room and from floors below.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the ground up; rooms of one floor do not know each other.
FLOORS = (
    ("as_softmax_jax",),
    ("train.errors",),
    ("train.config", "train.command"),
    ("train.storage",),
    ("train.data",),
    ("train.targets", "train.models"),
    ("train.tasks", "train.comparison"),
    ("train.recipe", "train.survey"),
    ("train.training",),
    ("train.evaluation",),
    ("train.workdir",),
    ("train.loop", "train.exporting"),
    ("train.runs",),
    (
        *(
            "train.__main__",
            "train.compare",
            "train.evaluate",
            "train.tune",
            "train.init",
        ),
        *("train.predict", "train.export", "train.push"),
    ),
    ("train.api", "train.serving"),
    ("train.serve",),
)
# What a room must do without, although it stands below.
FORBIDDEN = {
    "train.comparison": (
        "train.tasks",
        "train.recipe",
        "train.training",
        "train.models",
    )
}


def modules(package: str = "train") -> dict[str, Path]:
    """Returns the files of a package by the names of their modules."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Yields the known modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, path)
            inner = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if name in known else module for name in inner]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "as_softmax_jax":
                yield "as_softmax_jax"
            elif name in known:
                yield name


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    """Returns the whole name of the module that names are imported from."""
    package = path.relative_to(ROOT).parts[:-1]
    above = package[: len(package) + 1 - node.level] if node.level else ()
    return ".".join([*above, *filter(None, [node.module])])


def room_of(module: str) -> str:
    """Returns the room of a module."""
    return ".".join(module.split(".")[:2])


def arrows() -> dict[str, set[str]]:
    """Returns what each module of the trainer imports."""
    known = modules()
    return {name: set(imports(path, known)) - {name} for name, path in known.items()}


def rooms() -> dict[str, set[str]]:
    """Returns what each room imports of others."""
    found: dict[str, set[str]] = {}
    for module, imported in arrows().items():
        room = room_of(module)
        others = {room_of(other) for other in imported} - {room, "train"}
        found.setdefault(room, set()).update(others)
    found.pop("train", None)
    return found


def arrows_up() -> list[str]:
    """Returns the imports that lead to the same floor or one above, in words."""
    floor = {room: k for k, names in enumerate(FLOORS) for room in names}
    return [
        f"{module} imports {other}"
        for module, imported in arrows().items()
        for other in sorted(imported)
        if room_of(module) != room_of(other)
        and room_of(other) != "train"
        and floor[room_of(other)] >= floor[room_of(module)]
    ]


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Returns the names along a circle of a graph; none where there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph.get(name, ())):
            if found := walk(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := walk(name, []))), [])


def forbidden() -> list[str]:
    """Returns the imports that a room must do without, in words."""
    return [
        f"{room} imports {other}"
        for room, others in FORBIDDEN.items()
        for other in others
        if other in rooms()[room]
    ]


def main() -> int:
    """Prints the floors with their arrows down, and what is wrong."""
    graph = rooms()
    for names in reversed(FLOORS):
        for room in names:
            below = ", ".join(sorted(graph.get(room, ())))
            print(f"{room:<18} {below}")
    wrong = arrows_up() + forbidden()
    loops = [" -> ".join(found) for found in (circle(graph), circle(arrows())) if found]
    total = sum(map(len, graph.values()))
    print(f"\n{len(graph)} rooms, {total} arrows, {len(FLOORS)} floors")
    print("arrows back up:", "; ".join(wrong) or "none")
    print("circles:", "; ".join(loops) or "none")
    return 1 if wrong or loops else 0


if __name__ == "__main__":
    sys.exit(main())
