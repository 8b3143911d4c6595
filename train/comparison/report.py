"""The report of a comparison: the page, and the sections of a Markdown file."""

import base64
import html
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ..config import flatten
from ..errors import WorkdirError
from ..storage import write_text
from .classes import class_tables
from .drawing import DARK, LIGHT, Plot, listed
from .plots import make_plots
from .results import Comparison, summarize
from .sections import write_section
from .tables import (
    Table,
    about_differences,
    as_markdown,
    as_text,
    how_to_read,
    make_table,
)
from .verdict import verdict

# A table with more is set smaller.
_MANY_COLUMNS = 11
# Training rows that the page lists.
_MANY_ROWS = 20


class Chapter(NamedTuple):
    """What a comparison came to."""

    name: str
    title: str
    table: Table
    caveat: str  # how sure its differences are
    note: str  # how to read the rest of the table
    plots: Sequence[Plot]
    facts: Mapping[str, Mapping[str, str]]  # headed lists of names and values
    suspicious: Mapping[str, str]  # training rows, and what speaks against their labels
    conclusion: str = ""  # what can be said of it, in a sentence or two
    tables: Mapping[str, Table] = MappingProxyType({})  # others, by their headings
    # The page alone has these.
    of_classes: Mapping[str, Table] = MappingProxyType({})
    sizes: str = ""  # of the data


def make_chapter(comparison: Comparison) -> Chapter:
    """Returns the table, the plots and the facts of a comparison."""
    summaries = summarize(comparison)
    split, metric, target = comparison.split, comparison.metric, comparison.target
    with_p = comparison.interval == "BCa"
    return Chapter(
        name=comparison.name,
        title=f"{_losses(comparison)} on {comparison.name}",
        table=make_table(
            summaries,
            split=split,
            metric=metric,
            metrics=target.metrics,
            with_p=with_p,
        ),
        caveat=about_differences(summaries, with_p=with_p),
        note=how_to_read(summaries, split=split, metric=metric, counted=target.counted),
        plots=make_plots(comparison),
        facts=_facts(comparison),
        suspicious=_suspicious([run.result for run in comparison.runs]),
        conclusion=verdict(comparison, summaries),
        of_classes=class_tables(comparison),
        sizes=_sizes(comparison),
    )


def write_report(workdir: Path, chapters: Sequence[Chapter], *, command: str) -> None:
    """Writes `table.md` and `report.html`.

    Args:
      workdir: the grid's folder.
      chapters: one a comparison.
      command: what made them, as the page shows it.

    Raises:
      WorkdirError: the folder cannot be written.
    """
    tables = [f"### {c.title}\n\n{as_markdown(c.table)}" for c in chapters]
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_text(workdir / "table.md", "\n".join(tables))
        write_text(workdir / "report.html", make_page(chapters, command=command))
    except OSError as error:
        raise WorkdirError(
            f"--workdir: cannot write to {workdir}: {error.strerror}; name a folder "
            "that can be written"
        ) from error


def write_markdown(
    file: Path, chapters: Sequence[Chapter], *, section: str | None, command: str
) -> None:
    """Writes the tables into a Markdown file, each with the command that makes it.

    Args:
      file: keeps all but the sections' content.
      chapters: one a comparison.
      section: the name of one for all of them; None: one each, by its name.
      command: as the sections show it.

    Raises:
      WorkdirError: the file cannot be read or written.
    """
    parts: dict[str, list[str]] = {}
    for chapter in chapters:
        parts.setdefault(section or chapter.name, []).append(
            _markdown(chapter, command)
        )
    for name, content in parts.items():
        write_section(file, name, "\n\n".join(content))


def as_terminal(chapters: Iterable[Chapter]) -> str:
    """Returns the tables as plain text, each under its title."""
    return "\n\n".join(f"{c.title}\n\n{as_text(c.table)}" for c in chapters)


def make_page(chapters: Sequence[Chapter], *, command: str) -> str:
    """Returns the page as HTML that needs no other file, no network and no script.

    Args:
      chapters: in their order.
      command: what made them.
    """
    title = f"Losses compared on {listed([chapter.name for chapter in chapters])}"
    articles = "\n".join(_article(chapter) for chapter in chapters)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{_links(chapters)}{articles}
<section>
<h2>Command</h2>
<pre>{html.escape(command)}</pre>
</section>
</body>
</html>
"""


def _losses(comparison: Comparison) -> str:
    """Returns the names of a few losses, or the number of many."""
    names = list(dict.fromkeys(run.loss for run in comparison.runs))
    return listed(names) if len(names) <= 3 else f"{len(names)} losses"


def _facts(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Returns how the runs were made, as headed lists."""
    results = [run.result for run in comparison.runs]
    return {
        "Configuration": _distinct([flatten(result["config"]) for result in results]),
        "Machine": _distinct([result["machine"] for result in results]),
        "Versions": _distinct([result["versions"] for result in results]),
    }


def _sizes(comparison: Comparison) -> str:
    """Returns how much data the runs had; empty of runs of earlier versions."""
    result = comparison.runs[0].result
    if "examples" not in result:
        return ""
    sizes = ", ".join(f"{split} {n:,}" for split, n in result["examples"].items())
    num_classes = result.get("num_classes", len(result["classes"]))
    return f"Examples: {sizes}. Classes: {num_classes:,}."


def _suspicious(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the rows that most runs contradict, by the widest margins first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        # Results of earlier versions do not say so: they are all in probability.
        unit = result.get("margin_unit", "probability")
        for entry in result.get("suspicious", ()):
            word = f", word {entry['word']}" if "word" in entry else ""
            place = f"row {entry['row']}{word}"
            found.setdefault(place, []).append({**entry, "unit": unit})

    def rank(item: tuple[str, list[Mapping[str, Any]]]) -> tuple[int, float]:
        return -len(item[1]), statistics.fmean(map(_in_probability, item[1]))

    return {
        place: f"{_input(entries[0])}{_shown(entries[0]['label'])}; predicted "
        f"{_predicted(entries)} in {len(entries)} of {len(results)} runs, margin "
        f"{_margin(entries)}"
        for place, entries in sorted(found.items(), key=rank)[:_MANY_ROWS]
    }


def _input(entry: Mapping[str, Any]) -> str:
    """Returns what the row holds, where its run has kept that."""
    return f"“{entry['input']}”: " if entry.get("input") else ""


def _predicted(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns what was predicted in place of the label."""
    return " or ".join(dict.fromkeys(_shown(entry["predicted"]) for entry in entries))


def _in_probability(entry: Mapping[str, Any]) -> float:
    """Returns an entry's margin in probability, one in logits as if over one rival."""
    margin = entry["margin"]
    return math.tanh(margin / 2) if entry["unit"] == "logits" else margin


def _margin(entries: Sequence[Mapping[str, Any]]) -> str:
    """Returns the mean margin of the entries, of each unit that they have."""
    said = []
    for unit, words in {"probability": "", "logits": " in logits"}.items():
        margins = [entry["margin"] for entry in entries if entry["unit"] == unit]
        if margins:
            said.append(f"{statistics.fmean(margins):.2f}{words}")
    return " and ".join(said)


def _distinct(facts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns every value of each name; runs may come from several machines."""
    names = dict.fromkeys(name for fact in facts for name in fact)
    return {
        name: ", ".join(
            dict.fromkeys(_shown(fact[name]) for fact in facts if name in fact)
        )
        for name in names
    }


def _shown(value: Any) -> str:
    """Returns a setting as text; an empty one is shown as such."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text or "(empty)"


def _markdown(chapter: Chapter, command: str) -> str:
    """Returns a chapter without its plots, for a file that people read as it is."""
    machine, versions = chapter.facts["Machine"], chapter.facts["Versions"]
    ran = [machine[name] for name in ("device", "processor") if name in machine]
    ran += [f"{name} {versions[name]}" for name in ("jax", "flax") if name in versions]
    conclusion = f"{chapter.conclusion}\n\n" if chapter.conclusion else ""
    others = "".join(
        f"\n\n{heading}:\n\n{as_markdown(table).rstrip()}"
        for heading, table in chapter.tables.items()
    )
    return (
        f"### {chapter.title}\n\n"
        f"```sh\n{command}\n```\n\n"
        f"{conclusion}{as_markdown(chapter.table)}\n"
        f"{chapter.note} {chapter.caveat} Ran on {', '.join(ran)}.{others}"
    )


def _links(chapters: Sequence[Chapter]) -> str:
    """Returns a list of the chapters, where there are several."""
    if len(chapters) == 1:
        return ""
    items = "\n".join(
        f'<li><a href="#{_anchor(c)}">{html.escape(c.title)}</a></li>' for c in chapters
    )
    return f"<nav><ul>\n{items}\n</ul></nav>\n"


def _anchor(chapter: Chapter) -> str:
    return re.sub(r"\W", "-", chapter.name)


def _article(chapter: Chapter) -> str:
    """Returns a chapter as HTML; what made it is folded up."""
    figures = "\n".join(_figure_element(plot) for plot in chapter.plots)
    lists = "\n".join(_facts_element(name, of) for name, of in chapter.facts.items())
    conclusion = ""
    if chapter.conclusion:
        conclusion = f'<p class="conclusion">{html.escape(chapter.conclusion)}</p>\n'
    sizes = f'<p class="sizes">{chapter.sizes}</p>\n' if chapter.sizes else ""
    others = "".join(
        f"<h3>{html.escape(heading)}</h3>\n{_table_element(table)}\n"
        for heading, table in chapter.tables.items()
    )
    others += "".join(
        f"<details>\n<summary>{html.escape(heading)}</summary>\n"
        f"{_table_element(table)}\n</details>\n"
        for heading, table in chapter.of_classes.items()
    )
    return f"""<article id="{_anchor(chapter)}">
<h2>{html.escape(chapter.title)}</h2>
{sizes}{conclusion}{_table_element(chapter.table)}
<p class="note">{html.escape(f"{chapter.note} {chapter.caveat} {_CURVES}")}</p>
<div class="plots">
{figures}
</div>
{others}{_suspicious_element(chapter.suspicious)}<details>
<summary>Configuration, machine and versions</summary>
{lists}
</details>
</article>"""


def _suspicious_element(rows: Mapping[str, str]) -> str:
    """Returns the list of rows, folded up; nothing where there are none."""
    if not rows:
        return ""
    listed = _facts_element("Row, its label, and what the networks say", rows)
    return (
        "<details>\n<summary>Training rows whose labels are contradicted, and may be "
        f"wrong</summary>\n{listed}\n</details>\n"
    )


def _table_element(table: Table) -> str:
    head = "".join(f'<th scope="col">{html.escape(x)}</th>' for x in table.header)
    rows = []
    for name, *figures in table.rows:
        cells = "".join(f"<td>{html.escape(x)}</td>" for x in figures)
        rows.append(f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>')
    body = "\n".join(rows)
    many = ' class="many"' if len(table.header) > _MANY_COLUMNS else ""
    # The wrapper scrolls on a narrow screen, not the page.
    return (
        f'<div class="wide"><table{many}>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _figure_element(plot: Plot) -> str:
    """Returns the picture that suits the reader's screen; on paper, the light one."""
    return (
        f"<figure>\n<h3>{html.escape(plot.title)}</h3>\n<picture>"
        '<source media="screen and (prefers-color-scheme: dark)" '
        f'srcset="{_data_uri(plot.dark)}">'
        f'<img src="{_data_uri(plot.light)}" alt="{html.escape(plot.alt)}"></picture>\n'
        f"<figcaption>{html.escape(plot.caption)}</figcaption>\n</figure>"
    )


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _facts_element(name: str, facts: Mapping[str, str]) -> str:
    items = "\n".join(
        f"<div><dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd></div>"
        for key, value in facts.items()
    )
    return f"<section>\n<h3>{html.escape(name)}</h3>\n<dl>\n{items}\n</dl>\n</section>"


_CURVES = (
    "In the curves, lines are means over seeds and bands reach from the lowest seed to "
    "the highest; training figures are taken while the parameters move and dropout is "
    "on. Where a seed stopped early, the rest of a curve is of the others."
)

_STYLE = f"""
:root {{ color-scheme: light dark; --paper: {LIGHT.paper}; --ink: {LIGHT.ink};
  --line: {LIGHT.grid}; --soft: #5a626c; --page: #f4f6f8; }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ --paper: {DARK.paper};
  --ink: {DARK.ink}; --line: {DARK.grid}; --soft: #a3acb7; --page: #0f1114; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0 auto; max-width: 1280px; padding: 24px 20px 48px;
  background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }}
h1 {{ margin: 0 0 20px; font-size: 1.6rem; line-height: 1.25;
  overflow-wrap: anywhere; }}
h2 {{ margin: 0 0 12px; font-size: 1.25rem; line-height: 1.3;
  overflow-wrap: anywhere; }}
h3, section h2 {{ margin: 0 0 8px; font-size: 1.05rem; }}
nav ul {{ margin: 0 0 24px; padding-left: 1.2em; }}
a {{ color: inherit; }}
article {{ margin-bottom: 40px; }}
details {{ margin-bottom: 16px; }}
summary {{ cursor: pointer; margin-bottom: 12px; color: var(--soft); }}
figure, section, .wide {{ margin: 0; padding: 16px; background: var(--paper);
  border: 1px solid var(--line); border-radius: 8px; }}
.wide {{ overflow-x: auto; padding: 6px 16px;
  /* A shade at an edge shows that the table goes on there: paper that scrolls along
  covers it at the end. */
  --cover: linear-gradient(var(--paper), var(--paper));
  background: var(--cover) left / 20px 100% no-repeat local,
    var(--cover) right / 20px 100% no-repeat local,
    linear-gradient(90deg, #0005, #0000) left / 10px 100% no-repeat,
    linear-gradient(270deg, #0005, #0000) right / 10px 100% no-repeat, var(--paper); }}
table {{ width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 8px 7px; text-align: right; white-space: nowrap; }}
.many {{ font-size: 0.875rem; }}
.many th, .many td {{ padding: 7px 5px; }}
th:first-child {{ padding-left: 0; text-align: left; }}
thead th {{ vertical-align: bottom; white-space: normal; line-height: 1.3;
  color: var(--soft); font-size: 0.85rem; font-weight: 600; }}
tbody tr {{ border-top: 1px solid var(--line); }}
.sizes {{ margin: 0 0 12px; color: var(--soft); }}
.conclusion {{ margin: 0 0 16px; max-width: 75ch; font-weight: 600; }}
article > h3 {{ margin-top: 16px; }}
.note {{ margin: 12px 0 24px; columns: 2 420px; column-gap: 32px;
  color: var(--soft); font-size: 0.875rem; }}
.plots {{ display: grid; gap: 16px; margin-bottom: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }}
img {{ display: block; width: 100%; height: auto; }}
figcaption {{ margin-top: 8px; color: var(--soft); font-size: 0.9rem; }}
section {{ margin-bottom: 16px; }}
pre {{ margin: 0; font-size: 0.875rem; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
dl {{ margin: 0; columns: 3 270px; column-gap: 32px; font-size: 0.875rem; }}
dl div {{ display: flex; justify-content: space-between; gap: 16px; padding: 2px 0;
  border-bottom: 1px solid var(--line); break-inside: avoid; }}
dt {{ color: var(--soft); }}
dd {{ margin: 0; text-align: right; overflow-wrap: anywhere; }}
@media (max-width: 600px) {{ body {{ padding: 14px 10px 32px; }}
  figure, section, .wide {{ padding: 10px; }} }}
@media print {{ body {{ max-width: none; padding: 0; background: none;
  font-size: 11pt; }} figure, section, tr {{ break-inside: avoid; }}
  .plots {{ grid-template-columns: 1fr 1fr; }} th, td {{ padding: 4px 6px;
  font-size: 9pt; white-space: normal; }} figcaption {{ font-size: 8.5pt; }} }}
"""
