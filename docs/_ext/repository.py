"""The repository's address: pages write a placeholder, and here is the real place."""

from pathlib import Path
from typing import Any

PLACEHOLDER = "OWNER/as_softmax_jax"
# Of the repository on GitHub, once it has a place there.
REPOSITORY = PLACEHOLDER


def setup(app: Any) -> dict[str, bool]:
    """Replaces the placeholder in the pages, and in the notebooks of the site."""
    app.connect("source-read", _name_in_page)
    # After the notebooks are written.
    app.connect("build-finished", _name_in_notebooks, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _name_in_page(app: Any, page: str, source: list[str]) -> None:
    source[0] = source[0].replace(PLACEHOLDER, REPOSITORY)


def _name_in_notebooks(app: Any, error: Exception | None) -> None:
    for notebook in (Path(app.outdir) / "notebooks").glob("*.ipynb"):
        text = notebook.read_text(encoding="utf-8")
        notebook.write_text(text.replace(PLACEHOLDER, REPOSITORY), encoding="utf-8")
