"""Sections of a Markdown file: between the markers it changes, and nowhere else."""

import pytest

from train.comparison.sections import check_sections, write_section
from train.errors import WorkdirError

TEXT = """# Results

<!-- a:start -->
old
<!-- a:end -->

between

<!-- b:start --><!-- b:end -->
end
"""


@pytest.fixture
def file(tmp_path):
    file = tmp_path / "results.md"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_only_the_section_changes(file):
    write_section(file, "b", "new — 1 % \\ \\1\n")
    assert file.read_text(encoding="utf-8") == TEXT.replace(
        "<!-- b:start --><!-- b:end -->",
        "<!-- b:start -->\n\nnew — 1 % \\ \\1\n\n<!-- b:end -->",
    )


def test_writing_again_changes_nothing(file):
    write_section(file, "a", "new")
    once = file.read_text(encoding="utf-8")
    write_section(file, "a", "new")
    assert file.read_text(encoding="utf-8") == once
    assert "old" not in once


def test_a_new_section_comes_last(file):
    write_section(file, "c", "new")
    end = "\n\n<!-- c:start -->\n\nnew\n\n<!-- c:end -->\n"
    assert file.read_text(encoding="utf-8") == TEXT.rstrip() + end


def test_a_file_is_made(tmp_path):
    write_section(tmp_path / "new.md", "a", "text")
    made = (tmp_path / "new.md").read_text(encoding="utf-8")
    assert made == "<!-- a:start -->\n\ntext\n\n<!-- a:end -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "<!-- a:start -->",
        "<!-- a:end -->",
        "<!-- a:end --><!-- a:start -->",
        "<!-- a:start --><!-- a:end --><!-- a:start --><!-- a:end -->",
    ],
)
def test_markers_that_do_not_pair_are_refused(tmp_path, text):
    file = tmp_path / "results.md"
    file.write_text(text)
    with pytest.raises(WorkdirError, match="once each or not at all"):
        check_sections(file, ["a"])
    with pytest.raises(WorkdirError):
        write_section(file, "a", "new")
    assert file.read_text() == text
    check_sections(file, ["b"])


def test_what_is_no_text_file_is_refused(tmp_path):
    with pytest.raises(WorkdirError, match="is a folder"):
        check_sections(tmp_path, ["a"])
    with pytest.raises(WorkdirError, match="lies in no folder"):
        check_sections(tmp_path / "none" / "results.md", ["a"])
    (tmp_path / "binary.md").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WorkdirError, match="cannot be read as UTF-8"):
        check_sections(tmp_path / "binary.md", ["a"])
