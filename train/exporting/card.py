"""The model card of an exported folder: what the run knows of itself, and no more."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from ..config import Config
from ..data.names import shown
from ..errors import DataError, WorkdirError
from ..storage import read_json
from ..tasks.ordinal import PREFIX
from ..tasks.task import model_name
from ..workdir.finished_run import FinishedRun
from .loading import Loading

CARD = "README.md"
# What every card says, so that no other file of that name is written over.
_MARK = "Written by `as-softmax export`"
# So many classes are named, and so many that are answered worst.
_NAMED, _WORST = 20, 3
# Of Hugging Face, by the inputs.
_PIPELINES = {
    "text": "text-classification",
    "multi_label": "text-classification",
    "tokens": "token-classification",
    "next_token": "text-generation",
    "image": "image-classification",
    "audio": "audio-classification",
    "features": "tabular-classification",
}


def check_card(folder: Path) -> None:
    """Refuses a folder whose README.md is no model card of ours.

    Raises:
      DataError: it is somebody's.
    """
    card = folder / CARD
    if card.exists() and _MARK not in card.read_text("utf-8", errors="replace"):
        raise DataError(
            f"--output: {card} is none that an export wrote, and would be written "
            "over; name a folder of its own"
        )


def model_card(finished: FinishedRun, loading: Loading) -> str:
    """Returns the card, as Markdown with the head that Hugging Face reads.

    Args:
      finished: the run.
      loading: how the folder is used.

    Raises:
      WorkdirError: the run's result cannot be read.
    """
    result = _result(finished)
    sections = {
        "Use it": _use(loading),
        "What it answers": _answers(finished, loading),
        "How well": _figures(finished, result),
        "What it was trained on": _training(finished, result),
        "Intended use": [
            "Inputs like those that it was trained on, and the classes above."
        ],
        "Limits": _limits(finished, result),
        "In this folder": [f"- `{name}`: {what}" for name, what in loading.files],
    }
    lines = [
        "---",
        f"library_name: {loading.library}",
        f"pipeline_tag: {_PIPELINES[finished.config.task.removeprefix(PREFIX)]}",
        "tags:",
        "- as-softmax",
        "---",
        "",
        f"# {finished.workdir.name}",
        "",
        f"{_MARK} from the run `{finished.workdir.name}`, checkpoint after mini-step "
        f"{finished.checkpoint}.",
    ]
    for title, section in sections.items():
        lines += ["", f"## {title}", "", *section]
    return "\n".join(lines) + "\n"


def _result(finished: FinishedRun) -> dict[str, Any]:
    try:
        path = finished.workdir / "result.json"
        return read_json(path, flag="--workdir", cure="train again")
    except FileNotFoundError as error:
        raise WorkdirError(
            f"--workdir: {finished.workdir} holds no finished run (result.json is not "
            "there); let the run come to its end: its figures belong to the model"
        ) from error


def _use(loading: Loading) -> list[str]:
    """Returns what to install, and the lines that load and answer."""
    code = ["```sh", f"pip install {' '.join(loading.packages)}", "```", ""]
    code += ["```python", *loading.lines, "```"]
    return [*code, *(line for note in loading.notes for line in ("", note))]


def _answers(finished: FinishedRun, loading: Loading) -> list[str]:
    """Returns the inputs and the kind of answer, with the classes."""
    spec, target = finished.scorer.network.spec, finished.scorer.target
    count = f"{len(finished.classes):,}"
    if spec.causal:
        what = f"The token that follows, one of {count}."
    elif spec.per_token:
        what = f"A tag for each word, one of {count}"
    elif not target.one_label:
        what = f"Any number of {count} labels"
    else:
        order = ", in order from the lowest" if target.ordered else ""
        what = f"One of {count} classes{order}"
    lines = [f"Inputs: {loading.inputs}.", ""]
    if spec.causal:
        return [*lines, f"Answer: {what}"]
    names = [f"`{name}`" for name in finished.classes[:_NAMED]]
    rest = len(finished.classes) - len(names)
    more = f", and {rest:,} more" if rest else ""
    return [*lines, f"Answer: {what}: {', '.join(names)}{more}."]


def _figures(finished: FinishedRun, result: dict[str, Any]) -> list[str]:
    """Returns the metrics of each split, as a table."""
    target, examples = finished.scorer.target, result["examples"]
    splits = [s for s in ("validation", "test") if f"{s}_{result['metric']}" in result]
    heads = [f"{split} ({examples[split]:,})" for split in splits]
    lines = [
        f"| | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(splits)}",
    ]
    for metric in target.metrics:
        names = [f"{split}_{metric.name}" for split in splits]
        if all(result.get(name) is not None for name in names):
            cells = [metric.shown(result[name]) for name in names]
            lines.append(f"| {metric.title} | {' | '.join(cells)} |")
    chosen = "Validation chose the checkpoint and fitted the temperature"
    if "test" in splits:
        return [*lines, "", f"{chosen}; test had no part in either."]
    return [*lines, "", f"{chosen}, so its figures flatter; there was no test split."]


def _training(finished: FinishedRun, result: dict[str, Any]) -> list[str]:
    """Returns data, network, loss and versions."""
    config = finished.config
    network = finished.scorer.network
    name = model_name(finished.task.models, network.model)
    size = sum(leaf.size for leaf in jax.tree.leaves(finished.params))
    began = Path(config.model.pretrained).name
    start = f", begun from `{began}`" if began else ", from scratch"
    splits = ", ".join(f"{k} {v:,}" for k, v in result["examples"].items())
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    return [
        f"- Data: {_source(config)}; examples: {splits}.",
        f"- Network: {name} of {size:,} parameters{start}.",
        f"- Loss: `{finished.scorer.objective.name}`; {result['gradient_steps']:,} "
        f"steps of the optimizer; seed {config.seed}.",
        f"- Temperature of the probabilities: {finished.calibration.temperature:.4g}.",
        f"- With {versions}.",
    ]


def _source(config: Config) -> str:
    """Returns where the data came from, without the folders above them."""
    data = config.data
    named = data.name or Path(data.path).name
    return f"`{named}` ({data.source})" if named else f"source `{data.source}`"


def _limits(finished: FinishedRun, result: dict[str, Any]) -> list[str]:
    """Returns what the run says against itself, and what nobody has measured."""
    target, lines = finished.scorer.target, []
    if target.one_label:
        lines.append("- It answers with one of its classes to whatever it is given.")
    lines.append(
        "- Its figures are of that data alone: nothing was measured on other sources, "
        "other languages or groups of people."
    )
    lines += _weak_classes(result.get("quality"))
    never = result.get("never_learned") or []
    if never:
        lines.append(f"- Classes that no training example won: {_listed(never)}.")
    return lines


def _weak_classes(quality: dict[str, Any] | None) -> Iterator[str]:
    """Yields the classes with the lowest F1, where there are more than a few."""
    if not quality or len(quality["classes"]) <= _WORST:
        return
    rows = zip(quality["f1"], quality["classes"], quality["examples"], strict=True)
    worst = sorted(rows, key=lambda row: row[0])[:_WORST]
    told = ", ".join(f"`{name}` {100 * f1:.1f} % ({n:,})" for f1, name, n in worst)
    yield f"- Lowest F1 in {quality['split']}, with the number of examples: {told}."


def _listed(names: Sequence[Any]) -> str:
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in names[:_NAMED]) + rest
