"""What autodoc shows of the public API: signatures as written, and every name.

A public name that no page documents is a warning, and so an error of ``make docs``; a
name that stands in two modules is documented once, and found by either.
"""

import ast
import inspect
import re
import textwrap
from typing import Any

from docutils import nodes
from public_names import DOORS, find, public_names
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

_log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects to autodoc and to what is read."""
    app.connect("autodoc-process-signature", _as_written)
    app.connect("autodoc-process-docstring", _with_fields, priority=400)
    app.connect("doctree-read", _add_anchors)
    app.connect("env-check-consistency", _check_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _check_names(app: Sphinx, env: BuildEnvironment) -> None:
    """Names each public object that no page documents; adds its other names."""
    domain = env.domains["py"]
    documented = {
        id(find(full)): entry
        for full, entry in domain.objects.items()
        if entry.objtype in ("function", "class", "data", "module")
    }
    for full in public_names():
        entry = documented.get(id(find(full)))
        if entry is None:
            _log.warning("no page documents `%s`", full)
        elif full not in domain.objects:
            domain.objects[full] = entry._replace(aliased=True)


def _add_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Gives what is documented an anchor by each module that it may stand in.

    viewcode links a source file back to its names by one module, and files hold names
    of the package's top and of their topic.
    """
    for signature in doctree.findall(addnodes.desc_signature):
        module, name = signature.get("module"), signature.get("fullname")
        if module in DOORS:
            source = getattr(find(f"{module}.{name}"), "__module__", module)
            topic = ".".join(source.split(".")[:2])
            for door in (topic, topic.partition(".")[0]):
                if door in DOORS and f"{door}.{name}" not in signature["ids"]:
                    signature["ids"].append(f"{door}.{name}")


def _as_written(
    app: Sphinx, what: str, name: str, obj: Any, *rest: Any
) -> tuple[str, str] | None:
    """Returns signature and result as the source has them: `ArrayLike`, no union."""
    if what not in ("function", "method", "class") or not _is_ours(obj):
        return None
    definition = _definition(obj)
    if what == "class":
        body = definition.body
        made = [f for f in body if getattr(f, "name", "") == "__init__"]
        if not made:
            fields = [f for f in body if isinstance(f, ast.AnnAssign)]
            return f"({', '.join(map(ast.unparse, fields))})", ""
        definition = made[0]
    if what != "function":
        del definition.args.args[0]
    result = definition.returns if what != "class" else None
    shown = ast.unparse(result).strip("'") if result else ""
    return f"({ast.unparse(definition.args)})", shown


def _with_fields(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Lists the fields of a NamedTuple with the comments that stand beside them."""
    if what != "class" or not hasattr(obj, "_fields") or "Attributes:" in lines:
        return
    # Above the examples, as the other sections stand.
    at = lines.index("Examples:") if "Examples:" in lines else len(lines)
    block = [f"  {name}: {says}" for name, says in _fields(obj).items() if says]
    lines[at:at] = ["", "Attributes:", *block, ""] if block else []


def _fields(obj: Any) -> dict[str, str]:
    """Returns what the comments beside and above each field of a NamedTuple say."""
    source = textwrap.dedent(inspect.getsource(obj))
    said, above = {}, []
    for line in source.partition("\n\n")[2].splitlines():
        code, _, comment = line.partition("#")
        comment = comment.strip()
        if not code.strip():
            above.append(comment)
        elif field := re.match(r"    (\w+):", code):
            said[field[1]] = " ".join([*above, comment]).strip()
            above = []
    return said


def _is_ours(obj: Any) -> bool:
    module = getattr(inspect.unwrap(obj), "__module__", "") if callable(obj) else ""
    return str(module).split(".")[0] in ("as_softmax_jax", "train")


def _definition(obj: Any) -> Any:
    """Returns the syntax tree of a function or class."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))
    return ast.parse(source).body[0]
