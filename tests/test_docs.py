"""Every example in a docstring or a page runs and prints what it says."""

import doctest
import importlib
import importlib.util
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import as_softmax_jax

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(as_softmax_jax.__path__, "as_softmax_jax.")
)
# A page whose loss the library has not; tests/losses/test_table.py runs its example.
ELSEWHERE = "adding_a_loss.md"
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    if ">>> " in page.read_text() and page.name != ELSEWHERE
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


def test_pages_made_by_a_script_are_what_it_makes():
    specification = importlib.util.spec_from_file_location(
        "make_tables", ROOT / "docs" / "make_tables.py"
    )
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    cure = "run `python docs/make_tables.py`"
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    assert script.losses_page(page) == page, cure
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert script.api_page() == page, cure


def test_links_in_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text()
        targets = [part.split(")")[0] for part in text.split("](")[1:]]
        for target in targets:
            if target.startswith(("http", "#")):
                continue
            assert (page.parent / target.split("#")[0]).exists(), f"{page}: {target}"
