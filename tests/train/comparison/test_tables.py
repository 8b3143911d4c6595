"""Tables: rounding, what is undefined, the three forms, and how few seeds are read."""

import pytest

from train.comparison.bootstrap import Difference
from train.comparison.results import Summary
from train.comparison.tables import (
    Table,
    about_differences,
    as_markdown,
    as_text,
    how_to_read,
    make_table,
)
from train.targets.metric import by_name
from train.targets.multi_label import MultiLabel
from train.targets.next_token import NextToken
from train.targets.one_class import OneClass
from train.targets.tags import Tags

EMPTY = Summary("softmax", 1, 0.5, None, None, {}, None, 0.123, 7.0, 0.04)


def test_the_table_rounds_and_marks_what_is_undefined():
    metrics = {"macro_f1": 0.97126, "ece": 0.1234, "ece_calibrated": 0.0111}
    full = Summary(
        label="as_softmax delta=0.1",
        num_seeds=3,
        score=0.98216,
        deviation=0.00192,
        difference=Difference(0.01234, -0.00001, 0.0302),
        metrics=metrics,
        correlation=-0.9334,
        settled_share=0.5,
        gradient_steps=380.4,
        seconds=10.71,
    )
    table = make_table(
        [full, EMPTY._replace(metrics=metrics)],
        split="test",
        metric=by_name(OneClass.metrics, "accuracy"),
        metrics=OneClass.metrics,
    )
    assert table.header == (
        *("loss", "seeds", "test accuracy (%)", "difference (points)"),
        *("macro F1 (%)", "ECE (%)", "r(loss, accuracy)"),
        *("settled (%)", "gradient steps", "seconds"),
    )
    assert table.rows == [
        (
            *("as_softmax delta=0.1", "3", "98.22 ± 0.19", "+1.23 [+0.00, +3.02]"),
            *("97.13", "12.34 → 1.11", "-0.933", "50.0", "380", "10.7"),
        ),
        (
            *("softmax", "1", "50.00", "-"),
            *("97.13", "12.34 → 1.11", "-", "12.3", "7", "0.0"),
        ),
    ]


def test_a_task_has_the_columns_of_its_metrics():
    metrics = {"macro_f1": 0.1, "micro_f1_tuned": 0.2}
    table = make_table(
        [EMPTY._replace(metrics=metrics, correlation=r) for r in (-0.5, None)],
        split="validation",
        metric=by_name(MultiLabel.metrics, "micro_f1"),
        metrics=MultiLabel.metrics,
    )
    assert table.header[2:6] == (
        *("validation micro F1 (%)", "difference (points)"),
        *("macro F1 (%)", "micro F1, tuned (%)"),
    )
    assert table.rows[0][4:6] == ("10.00", "20.00")
    assert table.header[6] == "r(loss, micro F1)"
    assert [row[6] for row in table.rows] == ["-0.500", "-"]


def test_a_metric_that_some_losses_have_is_a_column():
    own = {"set_accuracy": 0.9, "set_size": 2.0}
    table = make_table(
        [EMPTY._replace(metrics=metrics) for metrics in (own, {})],
        split="test",
        metric=by_name(OneClass.metrics, "accuracy"),
        metrics=OneClass.metrics,
    )
    assert table.header[4:6] == ("label in the set (%)", "classes in a set")
    assert [row[4:6] for row in table.rows] == [("90.00", "2.00"), ("-", "-")]


def test_a_correlation_that_no_row_has_is_no_column():
    rows, metric = [EMPTY], OneClass.metrics[1]
    table = make_table(rows, split="test", metric=metric, metrics=OneClass.metrics)
    assert not any("r(loss" in name for name in table.header)
    assert len(table.rows[0]) == len(table.header)
    note = how_to_read(rows, split="test", metric=metric, counted="example")
    assert "Pearson" not in note


def test_what_is_no_share_is_shown_in_its_own_unit():
    row = EMPTY._replace(
        num_seeds=3,
        score=-2.672,
        deviation=0.011,
        difference=Difference(0.0321, 0.021, 0.0432),
        metrics={"perplexity": 14.47, "accuracy": 0.23},
    )
    table = make_table(
        [row],
        split="test",
        metric=by_name(NextToken.metrics, "log_likelihood"),
        metrics=NextToken.metrics,
    )
    assert table.header[2:6] == (
        *("test log likelihood (nats)", "difference (nats)"),
        *("perplexity", "accuracy (%)"),
    )
    assert table.rows[0][2:6] == (
        *("-2.67 ± 0.01", "+0.03 [+0.02, +0.04]"),
        *("14.47", "23.00"),
    )


def test_text_columns_are_aligned_and_the_header_wraps():
    table = Table(("loss", "test score (%)"), [("a", "1.25"), ("longer", "10.50")])
    assert as_text(table).splitlines() == [
        "         test",
        "        score",
        "loss      (%)",
        "------  -----",
        "a        1.25",
        "longer  10.50",
    ]


def test_markdown_escapes_its_own_bar():
    table = Table(("loss", "score"), [("a|b", "1")])
    assert as_markdown(table) == "| loss | score |\n| --- | ---: |\n| a\\|b | 1 |\n"


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        # 1 - 2 * (1/2)^n: not all n differences on one side of the median.
        (2, "2 seeds show nothing"),
        (3, "holds the median in 75 % of cases"),
        (4, "With 4 seeds it is coarse"),
        (9, "With 9 seeds it is coarse"),
    ],
)
def test_few_seeds_are_called_what_they_are(seeds, words):
    row = EMPTY._replace(num_seeds=seeds, difference=Difference(0.0, 0.0, 0.0))
    assert words in about_differences([EMPTY._replace(num_seeds=seeds), row])


def test_the_difference_of_two_seeds_says_that_it_shows_nothing():
    difference = Difference(-0.0081, -0.01, -0.0062)
    row = EMPTY._replace(num_seeds=2, difference=difference)
    accuracy = by_name(OneClass.metrics, "accuracy")
    table = make_table([row], split="test", metric=accuracy, metrics=OneClass.metrics)
    assert table.rows[0][3] == "-0.81 (2 seeds show nothing)"


def test_many_seeds_need_no_warning():
    row = EMPTY._replace(num_seeds=10, difference=Difference(0.0, 0.0, 0.0))
    assert "coarse" not in about_differences([row])


def test_without_differences_the_note_says_what_they_need():
    assert "needs two seeds or more" in about_differences([EMPTY])


def test_the_note_explains_only_the_columns_there_are():
    f1 = by_name(Tags.metrics, "f1")
    plain = how_to_read([EMPTY], split="test", metric=f1, counted="token")
    assert "F1 on the test split" in plain
    assert "ECE" not in plain
    assert "Tuned" not in plain
    assert "Settled: training tokens" in plain
    metrics = {"micro_f1_tuned": 0.5, "ece": 0.1}
    full = how_to_read(
        [EMPTY._replace(metrics=metrics)], split="test", metric=f1, counted="example"
    )
    assert "ECE" in full
    assert "Tuned" in full
