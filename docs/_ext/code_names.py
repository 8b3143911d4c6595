"""Makes a link of each code name that some page documents.

That is what single backticks are in docstrings, by the role `code_name`, and what they
are in Markdown. A name that no page documents, or that two have, stays code. Blocks
lose the empty line that ends the output of an example for doctest.
"""

import re
from collections import defaultdict
from collections.abc import Sequence

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

_NAME = re.compile(r"[A-Za-z_][\w.]*")
# A method is found by its class and name, the others by their last part as well.
_KINDS = ("class", "data", "function", "module", "method")
_WITHIN = (nodes.reference, nodes.title, nodes.pending)


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the role, and the links."""
    app.add_role("code_name", _role)
    app.add_transform(_Trimmed)
    app.add_post_transform(_Links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _role(
    name: str,
    rawtext: str,
    text: str,
    lineno: int,
    inliner: Inliner,
    options: dict | None = None,
    content: Sequence[str] = (),
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    return [nodes.literal(rawtext, text)], []


class _Trimmed(SphinxTransform):
    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        """Takes empty lines off the end of each block of code."""
        for node in self.document.findall(nodes.literal_block):
            node.rawsource = node.rawsource.rstrip()
            node[:] = [nodes.Text(node.astext().rstrip())]


class _Links(SphinxPostTransform):
    default_priority = 5

    def run(self, **kwargs: object) -> None:
        """Wraps each name that is documented in a link to its page."""
        targets = _targets(self.env.domains["py"].objects)
        for node in list(self.document.findall(nodes.literal)):
            name = node.astext().removesuffix("()")
            inside = any(isinstance(p, _WITHIN) for p in _ancestors(node))
            if inside or not _NAME.fullmatch(name) or name not in targets:
                continue
            full, entry = targets[name]
            link = make_refnode(
                self.app.builder,
                self.env.docname,
                entry.docname,
                entry.node_id,
                nodes.literal("", node.astext(), classes=["xref", "py"]),
                full,
            )
            node.replace_self(link)


def _ancestors(node: nodes.Node) -> list[nodes.Node]:
    above = []
    while node.parent is not None:
        node = node.parent
        above.append(node)
    return above


def _targets(objects: dict) -> dict:
    """Returns what each name means: in full, and by every tail that is one thing's."""
    found = defaultdict(dict)
    for full, entry in objects.items():
        if entry.objtype not in _KINDS:
            continue
        parts = full.split(".")
        shortest = 2 if entry.objtype == "method" else 1
        for k in range(len(parts) - shortest + 1):
            found[".".join(parts[k:])][entry.docname, entry.node_id] = full, entry
    return {
        name: next(iter(places.values()))
        for name, places in found.items()
        if len(places) == 1
    }
