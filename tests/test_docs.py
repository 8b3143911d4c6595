"""Pages: examples run, links lead somewhere, what is public has its place.

``make docs`` checks the built site by docs/check_site.py; here is what needs no Sphinx.
"""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import as_softmax_jax

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(as_softmax_jax.__path__, "as_softmax_jax.")
)
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if ">>> " in page.read_text()
)


@pytest.mark.parametrize("name", ["as_softmax_jax", *MODULES])
def test_docstring_examples(name):
    module = importlib.import_module(name)
    with np.printoptions():
        results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


@pytest.mark.standard_promotion(reason="the pages use optax optimizers")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page):
    with np.printoptions():
        results = doctest.testfile(
            str(page),
            module_relative=False,
            optionflags=doctest.NORMALIZE_WHITESPACE,
            encoding="utf-8",
        )
    assert results.attempted > 0
    assert results.failed == 0


@pytest.fixture
def load(monkeypatch):
    """Imports a script of docs/, and forgets what paths and names it added."""
    monkeypatch.setattr(sys, "path", sys.path.copy())

    def load(*place):
        file = ROOT.joinpath("docs", *place)
        specification = importlib.util.spec_from_file_location(file.stem, file)
        script = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(script)
        return script

    yield load
    for name in ("as_softmax_train", "as_softmax_train.api", "public_names"):
        sys.modules.pop(name, None)


def test_pages_made_by_a_script_are_what_it_makes(load):
    for name, made in load("make_tables.py").pages():
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert made == page, f"run `python docs/make_tables.py`: {name} is old"


def anchors(text):
    """The anchors of a page's headings, by GitHub's rule."""
    found, seen = set(), Counter()
    for heading in re.findall(r"^#+ (.+)$", CODE.sub("", text), re.MULTILINE):
        heading = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        words = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.add(f"{words}-{seen[words]}" if seen[words] else words)
        seen[words] += 1
    return found


CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "docs").rglob("*.md"),
]


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_pages_lead_somewhere(page):
    for link in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} is not there"
        if anchor:
            there = anchors(target.read_text(encoding="utf-8"))
            assert anchor in there, f"{link}: there are {sorted(there)}"


RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
TABLES = re.findall(
    r"^python -m train.*configs/(\w+)[.]py.* --results (\S+)", RESULTS, re.M
)


@pytest.mark.parametrize(("config", "folder"), sorted({*TABLES}))
def test_the_cells_of_a_table_are_in_the_repository(config, folder):
    """Those that `git` leaves out would be missing in another's clone alone."""
    listed = subprocess.run(
        ["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a clone")
    assert f"{folder}/{config}-" in listed.stdout


def test_every_page_is_in_the_contents():
    docs = ROOT / "docs"
    for page in [*docs.rglob("*.md"), *docs.rglob("*.rst")]:
        # That of the tutorials' folder has these, and is in the first itself.
        folder = page.parent if page.parent.name == "tutorials" else docs
        if page.stem == "index":
            folder = docs
        name = str(page.relative_to(folder).with_suffix(""))
        index = (folder / "index.md").read_text(encoding="utf-8")
        assert name == "index" or f"\n{name}\n" in index, f"index.md lists no {name}"


def documented(names):
    """Every object that a page of the API documents."""
    for page in sorted((ROOT / "docs" / "api").glob("*.rst")):
        module = ""
        for directive, name in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
            if directive == "currentmodule":
                module = name
            elif directive == "automodule" or "." in name:
                yield names.find(name)
            else:
                yield names.find(f"{module}.{name}")


DIRECTIVE = re.compile(r"^\.\. (currentmodule|auto\w+):: (\S+)", re.MULTILINE)


def test_every_public_name_is_on_a_page_of_the_api(load):
    names = load("_ext", "public_names.py")
    found = {id(value) for value in documented(names)}
    missing = [n for n in names.public_names() if id(names.find(n)) not in found]
    assert not missing, f"no page of docs/api has {missing}"
