"""The tutorials are notebooks as text: what `make docs`, which runs them, needs."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "index.md")
# What stands for the repository until it has an address; docs/_ext/repository.py says
# which.
REPOSITORY = "OWNER/as_softmax_jax"
FRONT_MATTER = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# """
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/gh-pages/notebooks/"
    "{name}.ipynb)"
)
INSTALL = re.compile(
    r":tags: \[skip-execution\]\n\n%pip install --quiet "
    rf'"as_softmax_jax\[train\] @ git\+https://github\.com/{REPOSITORY}"( [a-z]+)*\n'
)
CELL = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def cells(page):
    """Returns the code cells, the one that installs first."""
    return CELL.findall(page.read_text(encoding="utf-8"))


def trees(page):
    """Returns the parsed cells of Python: no commands of a shell."""
    code = [cell for cell in cells(page)[1:] if not cell.startswith("%%sh\n")]
    return [ast.parse(cell) for cell in code]


def imports(page):
    """Returns the pairs of module and name that a page imports."""
    nodes = [node for tree in trees(page) for node in ast.walk(tree)]
    from_imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {(node.module, alias.name) for node in from_imports for alias in node.names}


each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


@each_page
def test_it_is_a_notebook_that_colab_opens(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith(FRONT_MATTER)
    assert BADGE.format(repository=REPOSITORY, name=page.stem) in text
    install, *others = cells(page)
    assert INSTALL.fullmatch(install)
    assert others
    assert not [cell for cell in others if "skip-execution" in cell]
    assert text.count("```{code-cell}") == len(cells(page))


@each_page
def test_its_code_is_python(page):
    assert sum(len(tree.body) for tree in trees(page)) > 3


@each_page
def test_it_imports_what_is_public(page):
    ours = {pair for pair in imports(page) if pair[0].startswith("as_softmax_jax")}
    private = [
        (module, name)
        for module, name in ours
        if name not in importlib.import_module(module).__all__
    ]
    assert not private
    in_clone = {pair for pair in imports(page) if pair[0].startswith("train.")}
    commands = any("as-softmax " in cell for cell in cells(page)[1:])
    assert ours or in_clone or commands
    for module, name in in_clone:
        assert hasattr(importlib.import_module(module), name)
        assert (f"as_softmax_{module}", name) in imports(page)


@pytest.mark.parametrize(
    "page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem
)
def test_its_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)]+)\)", CELL.sub("", page.read_text("utf-8")))
    for target in targets:
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        other = page.parent / path
        assert other.is_file(), target
        titles = re.findall(r"^#+ (.*)$", other.read_text("utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}
        assert not anchor or anchor in anchors, target


def test_the_index_has_each_once():
    index = (FOLDER / "index.md").read_text(encoding="utf-8")
    names = sorted(page.stem for page in PAGES)
    assert sorted(re.findall(r"\]\((\w+)\.md\)", index)) == names
    (tree,) = re.findall(r"```\{toctree\}\n:hidden:\n\n(.*?)```", index, re.DOTALL)
    assert sorted(tree.split()) == names


def test_the_repository_is_named_in_one_place(tmp_path, monkeypatch):
    specification = importlib.util.spec_from_file_location(
        "repository", FOLDER.parent / "_ext" / "repository.py"
    )
    extension = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(extension)
    assert extension.PLACEHOLDER == REPOSITORY
    monkeypatch.setattr(extension, "REPOSITORY", "someone/somewhere")
    connected = {}
    extension.setup(
        SimpleNamespace(
            connect=lambda event, call, **_: connected.update({event: call})
        )
    )
    page = PAGES[0].read_text(encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").write_text(page)
    source = [page]
    connected["source-read"](None, "a", source)
    connected["build-finished"](SimpleNamespace(outdir=tmp_path), None)
    written = (tmp_path / "notebooks" / "a.ipynb").read_text()
    for text in (*source, written):
        assert REPOSITORY not in text
        assert text.count("someone/somewhere") == page.count(REPOSITORY) == 2
