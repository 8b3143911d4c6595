"""Checks the built site: names, links, maths, requests to elsewhere, and the search.

python docs/check_site.py [build/docs]

``make docs`` ends with it. Sphinx has seen to references between pages by then; here
the pages are read as a browser has them. ``--search`` prints the pages that each
question of docs/faq.md finds.
"""

import argparse
import functools
import html.parser
import json
import re
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.search.en import SearchEnglish
from sphinx.util.inventory import InventoryFile

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS / "_ext")]

# What a person types, and a page that answers it: among the first three that are found.
QUESTIONS = {
    "mask padding": "faq",
    "good margin": "faq",
    "delta or logit_margin": "faq",
    "reproduce the paper": "faq",
    "bfloat16": "faq",
    "jit vmap pmap": "faq",
    "hessian": "faq",
    "why is my loss 0": "faq",
    "loss NaN": "faq",
    "class weights": "faq",
    "label smoothing": "faq",
    "several labels": "faq",
    "tokens": "faq",
    "faster than softmax": "faq",
    "output layer many classes": "heads",
    "probabilities low calibration": "faq",
    "own data": "faq",
    "resume on two GPUs": "faq",
    "export model": "how_to/export",
    "serve http": "how_to/serve",
    "metrics tensorboard": "faq",
}
FOUND_WITHIN = 3


class Page(NamedTuple):
    """What a page of the site holds."""

    links: list[str]
    anchors: set[str]
    loaded: list[str]  # scripts, styles and pictures
    text: str


class _Reader(html.parser.HTMLParser):
    """Collects links, anchors and what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors.update(found[key] for key in ("id", "name") if key in found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and "href" in found:
            self.loaded.append(found["href"])
        elif "src" in found:
            self.loaded.append(found["src"])


@functools.cache
def read(file: Path) -> Page:
    """Reads a page."""
    text, reader = file.read_text(encoding="utf-8"), _Reader()
    reader.feed(text)
    return Page(reader.links, reader.anchors, reader.loaded, text)


def wrong_links(site: Path) -> Iterator[str]:
    """Names each link within the site whose page, file or anchor is not there."""
    for file in sorted(site.rglob("*.html")):
        page = read(file)
        for link in [*page.links, *page.loaded]:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path, anchor = map(urllib.parse.unquote, (parts.path, parts.fragment))
            target = (file.parent / path).resolve() if path else file
            name = file.relative_to(site)
            if not target.exists():
                yield f"{name}: no file {link}"
            elif target.suffix != ".html" or not anchor:
                continue
            elif anchor not in read(target).anchors:
                yield f"{name}: no anchor {link}"


def requests_elsewhere(site: Path) -> Iterator[str]:
    """Names what a page or a style would load from another host."""
    for file in sorted(site.rglob("*.html")):
        for link in read(file).loaded:
            if urllib.parse.urlsplit(link).netloc:
                yield f"{file.relative_to(site)}: loads {link}"
    for file in sorted(site.rglob("*.css")):
        text = file.read_text(encoding="utf-8")
        for link in re.findall(
            r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')]+", text
        ):
            yield f"{file.relative_to(site)}: loads {link}"


def names_without_a_page(site: Path) -> Iterator[str]:
    """Names what is public and not in the site's inventory, or not at its place."""
    from public_names import public_names

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    documented = {
        name: item.uri
        for kind, items in inventory.items()
        if kind.startswith("py:")
        for name, item in items.items()
    }
    for name in public_names():
        uri = documented.get(name)
        if uri is None:
            yield f"objects.inv: no {name}"
            continue
        page, _, anchor = uri.partition("#")
        if anchor.replace("$", name) not in read(site / page).anchors:
            yield f"{page}: no {name}"


def maths_left_as_text(site: Path) -> Iterator[str]:
    """Names formulas that no page draws."""
    for file in sorted(site.rglob("*.html")):
        for formula in re.findall(r"<math.*?</math>", read(file).text, re.DOTALL):
            if "\\" in formula:
                yield f"{file.relative_to(site)}: {formula}"


def search(index: dict[str, Any], query: str) -> list[str]:
    """Returns the pages that the site's own search finds, the best first.

    As Sphinx's searchtools.js finds them by text and title, with the scores of
    docs/_static/scorer.js: a page holds every word of the query, as it is or, where no
    page does, as a part of another. Names of the API are left out here.
    """
    query, names = query.lower(), index["docnames"]
    words = [w for w in re.findall(r"\w+", query) if not w.isdigit()]
    words = [_ENGLISH.stem(w) for w in words if w not in _ENGLISH.stopwords]
    scores: dict[int, dict[str, int]] = {}
    for word in dict.fromkeys(words):
        for key, whole, part in (("terms", 5, 2), ("titleterms", 15, 7)):
            known = index[key]
            terms = {word: whole} if word in known else {}
            if not terms and len(word) > 2:
                terms = {term: part for term in known if word in term}
            for term, points in terms.items():
                pages = known[term]
                for page in [pages] if isinstance(pages, int) else pages:
                    scores.setdefault(page, {})[word] = points
    best = {p: max(s.values()) for p, s in scores.items() if len(s) == len({*words})}
    for title, places in index["alltitles"].items():
        if query in title.lower() and len(query) >= len(title) / 2:
            for page, anchor in places:
                points = round(15 * len(query) / len(title)) + (10 if anchor else 0)
                best[page] = max(best.get(page, 0), points)
    for page in best:
        named = (v for place, v in _scores().items() if names[page].startswith(place))
        best[page] += next(named, 0)
    order = sorted(best, key=lambda p: (-best[p], index["titles"][p].lower()))
    return [names[page] for page in order]


_ENGLISH = SearchEnglish({})


@functools.cache
def _scores() -> dict[str, int]:
    """Returns what docs/_static/scorer.js adds to the score of a page, by its place."""
    text = (DOCS / "_static" / "scorer.js").read_text(encoding="utf-8")
    found = re.findall(r'"([\w/]+)": (-?\d+)', text)
    return {place: int(points) for place, points in found}


def questions_without_a_page(site: Path, show: bool = False) -> Iterator[str]:
    """Names the questions whose page is not among the first that the search finds."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    headings = [
        (title, "faq")
        for title, places in index["alltitles"].items()
        if any(index["docnames"][page] == "faq" and anchor for page, anchor in places)
    ]
    for query, page in [*QUESTIONS.items(), *headings]:
        found = search(index, query)
        if show:
            print(f"{query:60} {', '.join(found[:FOUND_WITHIN])}")
        if page not in found[:FOUND_WITHIN]:
            yield f"search: {query!r} finds {found[:FOUND_WITHIN]}, not {page}"


def main() -> int:
    """Runs the checks, prints what is wrong, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("site", nargs="?", type=Path, default=Path("build/docs"))
    parser.add_argument("--search", action="store_true")
    flags = parser.parse_args()
    site = flags.site.resolve()
    wrong = [
        *wrong_links(site),
        *requests_elsewhere(site),
        *names_without_a_page(site),
        *maths_left_as_text(site),
        *questions_without_a_page(site, flags.search),
    ]
    print(*wrong, sep="\n", file=sys.stderr)
    pages = len(list(site.rglob("*.html")))
    print(f"{pages} pages, {len(QUESTIONS)} questions: {len(wrong)} things are wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
