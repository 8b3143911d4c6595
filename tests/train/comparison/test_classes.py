"""Tables by class, and the plots that take what newer results hold."""

import pytest
from finished_runs import compare, make_runs

from train.comparison.classes import class_tables
from train.comparison.plots import make_plots
from train.comparison.report import make_chapter, make_page


def quality(f1=(1.0, 0.5), confused=(("a", "b", 2),)):
    return {
        "split": "test",
        "classes": ["a", "b"],
        "examples": [4, 6],
        "precision": [1.0, 0.4],
        "recall": [0.5, 0.8],
        "f1": list(f1),
        "confused": [list(entry) for entry in confused],
        "bins": [[0, 0.0, 0]] * 8 + [[2, 0.85, 1], [8, 0.95, 8]],
    }


@pytest.fixture
def runs():
    made = make_runs()
    for place, run in enumerate(made):
        run.result["quality"] = quality(f1=(1.0, 0.4 + 0.1 * place))
        run.result["examples"] = {"train": 1234, "test": 10}
        run.result["classes"] = ["a", "b"]
        for k, record in enumerate(run.records, start=1):
            record["seconds"] = 2.0 * k
    return made


def test_a_row_a_class_and_a_column_a_loss(runs):
    tables = class_tables(compare(runs))
    of_classes = tables["F1 of each class on test (%)"]
    assert of_classes.header == ("class", "examples", "softmax", "as_softmax")
    # Means of two seeds each.
    assert of_classes.rows == [
        ("a", "4", "100.0", "100.0"),
        ("b", "6", "45.0", "65.0"),
    ]
    confused = tables["Most confused on test (% of the label's examples)"]
    assert confused.rows == [("a → b", "50.0", "50.0")]


def test_one_loss_has_precision_and_recall(runs):
    (heading, table), _ = class_tables(compare(runs[:2])).items()
    assert heading == "Each class on test (%)"
    assert table.rows[1] == ("b", "6", "40.0", "80.0", "45.0")


def test_of_many_classes_the_hardest_are_listed(runs):
    held = quality()
    for name in ("classes", "examples", "precision", "recall", "f1"):
        held[name] = held[name] * 15
    held["classes"] = [f"class-{k}" for k in range(30)]
    held["confused"] = []
    for run in runs:
        run.result["quality"] = held
    (heading, table), *rest = class_tables(compare(runs)).items()
    assert heading == "F1 of the 20 hardest classes on test (%)"
    assert len(table.rows) == 20
    assert table.rows[0][0] == "class-1"
    assert rest == []


def test_results_of_earlier_versions_have_none():
    assert class_tables(compare(make_runs())) == {}


def test_the_page_shows_sizes_classes_the_clock_and_reliability(runs):
    page = make_page([make_chapter(compare(runs))], command="x")
    assert "Examples: train 1,234, test 10. Classes: 2." in page
    assert "<summary>F1 of each class on test (%)</summary>" in page
    plots = {plot.title: plot for plot in make_plots(compare(runs))}
    assert "Accuracy by the clock" in plots
    assert "softmax up to 10 s" in plots["Accuracy by the clock"].alt
    # 2 of 10 are 35 points off, and 8 of 10 are 5 off.
    assert "11.0 points for softmax" in plots["Reliability"].caption
    assert "is right in 100 % where it says 95" in plots["Reliability"].alt
