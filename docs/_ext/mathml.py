"""Renders maths as MathML, which browsers draw themselves: no script, font, request."""

import html
import xml.etree.ElementTree as ET

from docutils import nodes
from latex2mathml.converter import convert_to_element
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_log = logging.getLogger(__name__)

# What the converter takes for a letter, or does not know.
_ARROWS = "⟺⇔⇒→"
_COMMANDS = {r"\arg": r"\mathrm{arg}\,", r"\operatorname": r"\mathrm"}
# Operators whose bounds stand below and above them in a formula of its own.
_LARGE = ("∑", "∏", "max", "min")
_BOUNDS = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the renderer `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node.astext(), node, "inline"))
    raise nodes.SkipNode


def _display(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    for line in node.astext().split("\n\n"):
        if line.strip():
            translator.body.append(_mathml(line, node, "block"))
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def _mathml(latex: str, node: nodes.Node, display: str) -> str:
    """Returns a formula's MathML; warns of a command that the converter passed on."""
    for command, known in _COMMANDS.items():
        latex = latex.replace(command, known)
    formula = convert_to_element(latex, display=display)
    for element in formula.iter():
        text = element.text = html.unescape(element.text or "")
        if "\\" in text:
            _log.warning("latex2mathml does not know %s of %r", text, latex)
        if element.tag == "mi" and text and text in _ARROWS:
            element.tag = "mo"
        if element.tag in _BOUNDS and element[0].text in _LARGE:
            element.tag = _BOUNDS[element.tag]
            element[0].set("movablelimits", "true")
    return ET.tostring(formula, encoding="unicode")
