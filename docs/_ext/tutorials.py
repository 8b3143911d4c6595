"""Tutorials as files to download, and pages that load nothing from elsewhere.

``notebooks/NAME.ipynb`` in the site is the tutorial NAME without its outputs. A picture
that lies on another host, such as a badge, is shown by its text.
"""

from pathlib import Path

import nbformat
from docutils import nodes
from myst_nb.core.read import read_myst_markdown_notebook
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

_NOTEBOOK = "kernelspec:"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects both."""
    app.add_post_transform(_RemotePictures)
    app.connect("source-read", _add_download)
    app.connect("build-finished", _write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class _RemotePictures(SphinxPostTransform):
    # Before Sphinx looks for pictures.
    default_priority = 5

    def run(self, **kwargs: object) -> None:
        """Puts the text of each remote picture in its place."""
        for node in list(self.document.findall(nodes.image)):
            if node["uri"].startswith(("http:", "https:")):
                node.replace_self(nodes.Text(node.get("alt", "")))


def _add_download(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts a link to the notebook below the title of its page."""
    if not _is_notebook(source[0]):
        return
    name = f"{Path(docname).name}.ipynb"
    title, rest = source[0].split("\n# ", 1)[1].split("\n", 1)
    head = source[0].split("\n# ", 1)[0]
    link = f'<a href="../notebooks/{name}" download>Download this notebook</a>'
    source[0] = f"{head}\n# {title}\n\n{link}\n{rest}"


def _write_notebooks(app: Sphinx, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    folder = Path(app.outdir) / "notebooks"
    folder.mkdir(exist_ok=True)
    for page in sorted((Path(app.srcdir) / "tutorials").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if _is_notebook(text):
            notebook = read_myst_markdown_notebook(text)
            nbformat.write(notebook, folder / f"{page.stem}.ipynb")


def _is_notebook(text: str) -> bool:
    return text.startswith("---\n") and _NOTEBOOK in text.split("\n---\n", 1)[0]
