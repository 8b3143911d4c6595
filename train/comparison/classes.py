"""How good the rows of a comparison are class by class, and what they confuse."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from .results import Comparison, Run
from .tables import Table

# A page lists so many classes, the hardest first, and so many pairs.
_MANY = 20


def class_tables(comparison: Comparison) -> dict[str, Table]:
    """Returns tables by their headings; none where a run does not say.

    Args:
      comparison: whose results hold `quality`, which earlier versions had not.
    """
    found = [run.result.get("quality") for run in comparison.runs]
    first = found[0] if found and all(found) else None
    if first is None:
        return {}
    split, num_classes = first["split"], len(first["classes"])
    which = "each class" if num_classes <= _MANY else f"the {_MANY} hardest classes"
    tables = {f"F1 of {which} on {split} (%)": _by_class(comparison.rows)}
    if len(comparison.rows) == 1:
        tables = {f"{which.capitalize()} on {split} (%)": _of_one(comparison.runs)}
    if pairs := _confused(comparison.rows):
        tables[f"Most confused on {split} (% of the label's examples)"] = pairs
    return tables


def _means(runs: Sequence[Run], name: str) -> list[float]:
    """Returns a figure of each class in percent, the mean over seeds."""
    values = zip(*(run.result["quality"][name] for run in runs), strict=True)
    return [100.0 * statistics.fmean(of_class) for of_class in values]


def _hardest(f1: Sequence[float]) -> list[int]:
    """Returns the classes to list, in their order, or of many the hardest first."""
    order = sorted(range(len(f1)), key=lambda k: f1[k])
    return sorted(order) if len(f1) <= _MANY else order[:_MANY]


def _by_class(rows: Mapping[str, Sequence[Run]]) -> Table:
    """Returns a row a class, a column a row of the comparison."""
    scores = {label: _means(runs, "f1") for label, runs in rows.items()}
    first = next(iter(rows.values()))[0].result["quality"]
    mean = [
        statistics.fmean(of_class) for of_class in zip(*scores.values(), strict=True)
    ]
    return Table(
        ("class", "examples", *scores),
        [
            (
                str(first["classes"][k]),
                f"{first['examples'][k]:,}",
                *(f"{of_row[k]:.1f}" for of_row in scores.values()),
            )
            for k in _hardest(mean)
        ],
    )


def _of_one(runs: Sequence[Run]) -> Table:
    """Returns a row a class with precision, recall and F1 of one loss."""
    first, names = runs[0].result["quality"], ("precision", "recall", "f1")
    figures = [_means(runs, name) for name in names]
    return Table(
        ("class", "examples", "precision", "recall", "F1"),
        [
            (
                str(first["classes"][k]),
                f"{first['examples'][k]:,}",
                *(f"{values[k]:.1f}" for values in figures),
            )
            for k in _hardest(figures[-1])
        ],
    )


def _confused(rows: Mapping[str, Sequence[Run]]) -> Table | None:
    """Returns the pairs that are confused most over all rows; None without any."""
    shares: dict[str, dict[tuple[str, str], float]] = {}
    total: Counter[tuple[str, str]] = Counter()
    for label, runs in rows.items():
        of_row = shares[label] = defaultdict(float)
        for run in runs:
            held = run.result["quality"]
            sizes = dict(zip(map(str, held["classes"]), held["examples"], strict=True))
            for truth, answer, times in held["confused"]:
                pair = (str(truth), str(answer))
                of_row[pair] += 100.0 * times / sizes[pair[0]] / len(runs)
                total[pair] += times
    if not total:
        return None
    return Table(
        ("label → predicted", *rows),
        [
            (" → ".join(pair), *(f"{of_row[pair]:.1f}" for of_row in shares.values()))
            for pair, _ in total.most_common(_MANY)
        ],
    )
