"""Wrong labels are found, by the numbers of their rows."""

import json
import re

import numpy as np
import pytest
from finished_runs import compare, make_run

from train.comparison.report import make_chapter, make_page
from train.data.examples import NO_LABEL, Examples, Sequences
from train.evaluation.label_errors import (
    find_suspicion,
    note_never_learned,
    note_settled_from_the_start,
)
from train.loop import train_and_evaluate
from train.targets.multi_label import MultiLabel
from train.targets.one_class import OneClass
from train.targets.tags import Tags

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
CLASSES = ("a", "b", "c")


def logits_of(classes, weight=4.0):
    """Logits by which each of some classes leads."""
    return weight * np.eye(3, dtype=np.float32)[classes]


@pytest.mark.parametrize("source", ["a validation file", "a held-out share"])
def test_planted_labels_are_found(feature_config, change, tmp_path, source, capsys):
    config = change(feature_config, "training", epochs=6)
    train = tmp_path / "data" / "train.csv"
    lines = train.read_text().splitlines()
    wrong = {8: "class-1", 32: "class-1"}  # rows of class-1 that say otherwise
    for row, label in wrong.items():
        x, y, old = lines[row].split(",")
        assert old == label
        lines[row] = f"{x},{y},class-{2 if row == 8 else 0}"
    train.write_text("\n".join(lines) + "\n")
    if source == "a held-out share":
        config = change(config, "data", validation="", validation_share=0.1)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    found = {entry["row"]: entry for entry in result["suspicious"]}
    assert {8, 32} <= set(found)
    assert found[8] == {
        "row": 8,
        "margin": found[8]["margin"],
        "label": "class-2",
        "predicted": "class-1",
    }
    margins = [entry["margin"] for entry in result["suspicious"]]
    assert margins == sorted(margins)
    assert -1 <= margins[0] <= margins[-1] < 0
    assert result["never_learned"] == []
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    inputs = json.loads((tmp_path / "run" / "suspicious_inputs.json").read_text())
    place = [entry["row"] for entry in result["suspicious"]].index(8)
    x, y, _ = lines[8].split(",")
    assert inputs[place] == f"x {x}, y {y}"


def test_none_is_looked_for_where_none_is_asked_for(feature_config, change, tmp_path):
    config = change(feature_config, "training", epochs=1, suspicious_rows=0)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["suspicious"] == result["never_learned"] == []


def test_the_worst_come_first_and_a_label_that_is_never_ahead_is_named():
    labels = np.array([0, 1, 2, 2, 1, 0], np.int32)
    logits = logits_of([0, 0, 1, 0, 1, 0])
    logits[3] /= 2
    examples = Examples(np.zeros((6, 1)), labels, numbers=np.arange(6) * 10)
    parts = [
        (np.array([0, 2, 4]), logits[[0, 2, 4]]),
        (np.arange(1, 6, 2), logits[1::2]),
    ]
    said = find_suspicion(
        OneClass(), examples, parts, CLASSES, unit="probability", count=2
    )
    assert [entry["row"] for entry in said.rows] == [10, 20]
    assert said.rows[1]["label"] == "c"
    assert said.rows[1]["predicted"] == "b"
    assert said.never_learned == ["c"]


def test_several_labels():
    labels = np.array([[1, 1, 0], [0, 0, 1]], bool)
    logits = np.array([[3, -3, -2], [-4, 5, -4]], np.float32)
    examples = Examples(np.zeros((2, 1)), labels)
    said = find_suspicion(
        MultiLabel(),
        examples,
        [(np.arange(2), logits)],
        CLASSES,
        unit="logits",
        count=9,
    )
    assert said.rows[0] == {
        "row": 2,
        "margin": said.rows[0]["margin"],
        "label": ["c"],
        "predicted": ["b"],
    }
    assert said.rows[1]["label"] == ["a", "b"]
    assert said.rows[1]["predicted"] == ["a", "c"]
    assert said.never_learned == ["b", "c"]


def test_tags_name_the_word():
    labels = np.array([[0, NO_LABEL, 1, NO_LABEL], [2, NO_LABEL, NO_LABEL, NO_LABEL]])
    logits = np.zeros((2, 3, 3), np.float32)
    logits[0, [0, 2]] = logits_of([0, 2])
    logits[1, 0] = logits_of([2])[0]
    examples = Sequences(
        np.zeros((2, 4)), labels.astype(np.int32), np.array([3, 1]), tagged=True
    )
    batches = [(np.arange(2), logits)]
    said = find_suspicion(
        Tags(), examples, batches, CLASSES, unit="probability", count=9
    )
    in_logits = find_suspicion(
        Tags(), examples, batches, CLASSES, unit="logits", count=9
    )
    assert in_logits.rows == [said.rows[0] | {"margin": -4.0}]
    (entry,) = said.rows
    assert entry | {"margin": 0} == {
        "row": 1,
        "margin": 0,
        "word": 2,
        "label": "b",
        "predicted": "c",
    }
    assert said.never_learned == ["b"]


def test_says_so_when_all_is_settled_from_the_start(capsys):
    note_settled_from_the_start(0.9990, "delta")
    assert capsys.readouterr().err == ""
    for margin in ("delta", "logit_margin"):
        note_settled_from_the_start(0.9995, margin)
        said = capsys.readouterr().err
        assert "99.95% of the examples were settled" in said
        assert f"or `loss.{margin}` is too small" in said
    note_settled_from_the_start(0.9995, None)
    assert "too small" not in capsys.readouterr().err


def test_the_report_lists_what_most_runs_contradict():
    entries = [
        [{"row": 7, "margin": -0.5, "label": "a", "predicted": "b"}],
        [
            {"row": 9, "margin": -0.9, "label": ["c"], "predicted": ["a", "b"]},
            {"row": 7, "margin": -0.7, "label": "a", "predicted": "c"},
        ],
    ]
    runs = [make_run(seed=seed) for seed in range(2)]
    for run, found in zip(runs, entries, strict=True):
        run.result["suspicious"] = found
    chapter = make_chapter(compare(runs))
    assert list(chapter.suspicious.items()) == [
        ("row 7", "a; predicted b or c in 2 of 2 runs, margin -0.60"),
        ("row 9", "c; predicted a, b in 1 of 2 runs, margin -0.90"),
    ]
    page = make_page([chapter], command="")
    assert "Training rows whose labels are contradicted" in page
    assert "predicted b or c in 2 of 2 runs" in page
    # A run whose loss has a margin in logits lists its rows by logits.
    runs[1].result["margin_unit"] = "logits"
    chapter = make_chapter(compare(runs))
    assert list(chapter.suspicious.values()) == [
        "a; predicted b or c in 2 of 2 runs, margin -0.50 and -0.70 in logits",
        "c; predicted a, b in 1 of 2 runs, margin -0.90 in logits",
    ]


@pytest.mark.parametrize(
    ("missed", "accuracy", "reason"),
    [
        (["c"], 0.99, "few examples, or wrong ones"),
        (
            ["c"],
            0.4,
            r"after 6 gradient step\(s\) 40% .* needs more \(training.epochs\)",
        ),
        (["a", "b", "c"], 0.9, "needs more"),
    ],
)
def test_labels_are_missed_for_want_of_steps_or_of_examples(
    missed, accuracy, reason, capsys
):
    note_never_learned(missed, num_classes=4, accuracy=accuracy, steps=6)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{len(missed)} of 4 labels were never learned" in said
    assert re.search(reason, said)
    note_never_learned([], num_classes=4, accuracy=accuracy, steps=6)
    assert capsys.readouterr().err == ""
