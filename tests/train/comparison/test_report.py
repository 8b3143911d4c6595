"""The report: a page that stands alone, a chapter a task, and sections of Markdown."""

import base64
import re
from html.parser import HTMLParser

import pytest
from finished_runs import compare, make_run, make_runs

from train.comparison.plots import make_plots
from train.comparison.report import (
    as_terminal,
    make_chapter,
    make_page,
    write_markdown,
    write_report,
)
from train.errors import WorkdirError

VOID = {"meta", "img", "source"}
NAUGHTY = "<script>alert(\"1\")</script> & 'more'"


class Page(HTMLParser):
    """Collects what a test asks about; fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def plots():
    return make_plots(compare(make_runs()))


@pytest.fixture
def chapters(monkeypatch, plots):
    """Two tasks, one of them with several labels; the pictures are those of one."""
    monkeypatch.setattr("train.comparison.report.make_plots", lambda rows: plots)
    emotions = make_runs(
        ("multi_label_softmax", "multi_label_as_softmax"), task="multi_label"
    )
    comparisons = [compare(make_runs()), compare(emotions, "emotions")]
    return [make_chapter(comparison) for comparison in comparisons]


def test_a_chapter_says_what_was_compared_and_how():
    chapter = make_chapter(compare(make_runs()))
    assert chapter.title == "softmax and as_softmax on digits"
    assert chapter.table.rows[1][:4] == (
        *("as_softmax", "2", f"{100 * (0.90 + 0.91) / 2:.2f} ± 0.71"),
        "+0.00 (2 seeds show nothing)",
    )
    settings = chapter.facts["Configuration"]
    assert settings["loss.name"] == "softmax, as_softmax"
    assert settings["seed"] == "0, 1"
    assert settings["data.path"] == "(empty)"
    assert chapter.facts["Versions"] == {"jax": "0.10.2"}
    assert len(chapter.plots) == 6


def test_a_loss_with_a_sweep_is_named_once():
    runs = [make_run("as_softmax", label=f"as_softmax delta={d}") for d in (0.1, 0.2)]
    chapter = make_chapter(compare(runs))
    assert chapter.title == "as_softmax on digits"
    assert len(chapter.table.rows) == 2


def test_the_report_needs_nothing_but_itself(tmp_path, chapters):
    folder = tmp_path / "new" / "grid"
    write_report(folder, chapters, command="python -m x")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "table.md"]
    tables = (folder / "table.md").read_text(encoding="utf-8")
    assert tables.startswith(
        "### softmax and as_softmax on digits\n\n| loss | seeds | test accuracy"
    )
    assert tables.count("| --- |") == 2

    html = (folder / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|file:|url\(|@import|<script|<link", html)
    page = Page(html)
    sources = [attrs["src"] for attrs in page.all("img")]
    sources += [attrs["srcset"] for attrs in page.all("source")]
    assert len(sources) == 2 * 12
    for source in sources:
        head, _, content = source.partition(",")
        assert head == "data:image/png;base64"
        assert base64.b64decode(content, validate=True)[:4] == b"\x89PNG"
    words = " ".join(page.words)
    for word in ("test micro F1 (%)", "python -m x", "0.10.2", "x86_64"):
        assert word in words


def test_every_task_has_its_chapter_and_a_link_to_it(chapters):
    page = Page(make_page(chapters, command=""))
    links = [attrs["href"] for attrs in page.all("a")]
    assert links == [f"#{attrs['id']}" for attrs in page.all("article")]
    assert len(links) == 2
    assert "Losses compared on digits and emotions" in page.words


def test_a_page_of_one_task_is_accessible(chapters):
    page = Page(make_page(chapters[:1], command=""))
    assert page.all("nav") == []
    assert [attrs["alt"] for attrs in page.all("img")] == [
        plot.alt for plot in chapters[0].plots
    ]
    assert all(attrs["alt"] for attrs in page.all("img"))
    scopes = [attrs["scope"] for attrs in page.all("th")]
    assert scopes == ["col"] * 10 + ["row"] * 2
    assert page.all("html") == [{"lang": "en"}]


def test_what_comes_from_a_user_is_escaped(monkeypatch, plots):
    monkeypatch.setattr("train.comparison.report.make_plots", lambda rows: plots)
    runs = [make_run(label=NAUGHTY)]
    runs[0].result["config"]["data"]["path"] = NAUGHTY
    chapter = make_chapter(compare(runs, NAUGHTY))
    html = make_page([chapter], command=NAUGHTY)
    page = Page(html)
    assert "<script" not in html
    assert page.words.count(NAUGHTY) == 3  # row, data.path, command
    assert f"softmax on {NAUGHTY}" in page.words


def test_the_terminal_shows_each_table_under_its_title(chapters):
    lines = as_terminal(chapters).splitlines()
    assert lines[0] == "softmax and as_softmax on digits"
    assert any(line.startswith("multi_label_as_softmax  ") for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_markdown_has_a_section_a_task(tmp_path, chapters):
    file = tmp_path / "results.md"
    file.write_text("# Results\n\n<!-- emotions:start --><!-- emotions:end -->\nend\n")
    write_markdown(file, chapters, section=None, command="python -m x --y")
    text = file.read_text(encoding="utf-8")
    emotions, _, digits = text.partition("<!-- emotions:end -->\nend\n")
    assert emotions.startswith(
        "# Results\n\n<!-- emotions:start -->\n\n"
        "### multi_label_softmax and multi_label_as_softmax on emotions\n\n"
        "```sh\npython -m x --y\n```\n\nOver 2 seeds, multi_label_as_softmax cannot be "
    )
    assert "\n\n| loss | seeds | test micro F1 (%) |" in emotions
    assert "<!-- digits:start -->\n\n### softmax and as_softmax on digits" in digits
    assert "Ran on cpu, x86_64, jax 0.10.2." in digits


def test_markdown_may_be_one_section(tmp_path, chapters):
    write_markdown(tmp_path / "r.md", chapters, section="all", command="x")
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert text.startswith("<!-- all:start -->\n\n### softmax and as_softmax on digits")
    assert text.endswith("<!-- all:end -->\n")
    assert text.count("\n### ") == 2
    assert text.count("<!--") == 2


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, chapters):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="name a folder that can be written"):
        write_report(tmp_path / "file" / "grid", chapters, command="")
