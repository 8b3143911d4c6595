"""What finished cells come to: each figure written out as arithmetic."""

from math import nan, sqrt

import numpy as np
import pytest
from finished_runs import compare, make_run

from train.comparison.results import (
    Run,
    baseline_of,
    correlation,
    group_by_row,
    mean_correlation,
    summarize,
)


def run(losses=(3.0, 2.0, 1.0), scores=(0.2, 0.4, 0.6)):
    records = [
        {"validation_loss": loss, "validation_f1": score}
        for loss, score in zip(losses, scores, strict=True)
    ]
    return Run("softmax", "softmax", {}, 0, {"records": records})


def changed(run, **figures):
    return run._replace(result=dict(run.result) | figures)


def test_a_summary_is_the_mean_and_sample_deviation_over_seeds():
    figures = [
        {"settled_share": 0.5, "gradient_steps": 8, "seconds": 3, "test_macro_f1": 0.1},
        {"settled_share": 0.6, "gradient_steps": 9, "seconds": 5, "test_macro_f1": 0.2},
        {
            "settled_share": 0.7,
            "gradient_steps": 13,
            "seconds": 4,
            "test_macro_f1": 0.6,
        },
    ]
    runs = [
        changed(make_run(seed=seed, score=0.7 + 0.1 * seed), **figures[seed])
        for seed in range(3)
    ]
    (summary,) = summarize(compare(runs))
    assert summary.label == "softmax"
    assert summary.num_seeds == 3
    assert summary.score == pytest.approx((0.7 + 0.8 + 0.9) / 3)
    assert summary.deviation == pytest.approx(
        sqrt((0.1**2 + 0.0**2 + 0.1**2) / (3 - 1))
    )
    assert summary.metrics == pytest.approx(
        {"macro_f1": (0.1 + 0.2 + 0.6) / 3, "ece": 0.04, "ece_calibrated": 0.01}
    )
    assert summary.correlation == pytest.approx(-1.0)
    assert summary.settled_share == pytest.approx((0.5 + 0.6 + 0.7) / 3)
    assert summary.gradient_steps == (8 + 9 + 13) / 3
    assert summary.seconds == (3 + 5 + 4) / 3
    assert summary.difference is None


def test_one_seed_has_no_deviation_and_no_difference():
    runs = [make_run("softmax"), make_run("as_softmax")]
    for summary in summarize(compare(runs)):
        assert (summary.deviation, summary.difference) == (None, None)


def test_differences_are_from_softmax_on_equal_seeds():
    # Seeds 0 and 1 are paired: (0.8 - 0.5 + 0.9 - 0.7) / 2; the range is the interval.
    scores = {"focal": {1: 0.9, 0: 0.8, 3: 0.1}, "softmax": {0: 0.5, 1: 0.7, 2: 0.9}}
    runs = [
        make_run(loss, seed, score=score)
        for loss, of in scores.items()
        for seed, score in of.items()
    ]
    focal, softmax = summarize(compare(runs))
    assert focal.difference == pytest.approx((0.25, 0.2, 0.3, 0.5))
    assert softmax.difference is None


def test_the_baseline_stands_at_the_same_point_of_the_sweep():
    points = {
        "softmax 4": ("softmax", {"model.width": "4"}),
        "softmax 8": ("softmax", {"model.width": "8"}),
        "as 4": ("as_softmax", {"model.width": "4", "loss.delta": "0.1"}),
        "as 8": ("as_softmax", {"model.width": "8", "loss.delta": "0.1"}),
        "as 9": ("as_softmax", {"model.width": "9", "loss.delta": "0.1"}),
    }
    rows = {
        label: [make_run(loss, label=label, point=point)]
        for label, (loss, point) in points.items()
    }
    assert {label: baseline_of(rows, label) for label in rows} == {
        "softmax 4": None,
        "softmax 8": None,
        "as 4": "softmax 4",
        "as 8": "softmax 8",
        "as 9": None,
    }


def test_the_baseline_of_several_labels_is_their_softmax():
    rows = group_by_row(
        make_run(loss, task="multi_label")
        for loss in ("multi_label_as_softmax", "multi_label_softmax")
    )
    assert baseline_of(rows, "multi_label_as_softmax") == "multi_label_softmax"


@pytest.mark.parametrize(
    ("task", "metric", "counts"),
    [
        ("image", "accuracy", "accuracy"),
        ("image", "macro_f1", "macro_f1"),
        # Checkpoints may be picked by an error, which is no score.
        ("image", "loss", "accuracy"),
        ("multi_label", "micro_f1", "micro_f1"),
        ("multi_label", "loss", "micro_f1"),
        ("tokens", "ece", "f1"),
        ("next_token", "log_likelihood", "log_likelihood"),
        ("next_token", "perplexity", "log_likelihood"),
        ("next_token", "accuracy", "accuracy"),
    ],
)
def test_the_headline_is_what_picked_the_checkpoints(task, metric, counts):
    assert compare([changed(make_run(task=task), metric=metric)]).metric.name == counts


def test_runs_of_different_metrics_are_compared_by_the_tasks_own():
    runs = [make_run(), changed(make_run(), metric="macro_f1")]
    assert compare(runs).metric.name == "accuracy"


def test_test_scores_count_only_where_every_run_has_them():
    with_test, without = make_run(), make_run(test=False)
    assert compare([with_test, with_test]).split == "test"
    assert compare([with_test, without]).split == "validation"
    (summary,) = summarize(compare([with_test, without]))
    assert set(summary.metrics) == {"macro_f1", "ece", "ece_calibrated"}


def test_correlation_is_pearsons():
    # Deviations (-1, 0, 1) and (-2, 1, 1): the products add up to 3.
    r = correlation(run(losses=(1.0, 2.0, 3.0), scores=(0.1, 0.4, 0.4)), "f1")
    assert r == pytest.approx(3 / sqrt((1 + 0 + 1) * (4 + 1 + 1)))


@pytest.mark.parametrize(
    ("losses", "scores"),
    [
        # The mean of three 0.1 is not 0.1 in floating point; this is constant still.
        ((3.0, 2.0, 1.0), (0.1, 0.1, 0.1)),
        ((0.7, 0.7, 0.7), (0.1, 0.2, 0.3)),
        # Through two points goes always a line.
        ((2.0, 1.0), (0.1, 0.2)),
        ((2.0, 1.0, None), (0.1, 0.2, 0.3)),
        ((float("inf"), 2.0, 1.0), (0.1, 0.2, 0.3)),
        ((), ()),
    ],
)
def test_correlation_is_undefined(losses, scores):
    assert correlation(run(losses=losses, scores=scores), "f1") is None


def test_the_mean_correlation_leaves_out_undefined_ones():
    falling, constant = run(), run(scores=(0.5, 0.5, 0.5))
    assert mean_correlation([falling, constant], "f1") == pytest.approx(-1.0)
    assert mean_correlation([constant], "f1") is None


def test_runs_keep_their_order_in_rows():
    runs = [make_run(*of) for of in (("focal", 0), ("softmax", 0), ("focal", 1))]
    groups = group_by_row(runs)
    assert [(n, [r.seed for r in of]) for n, of in groups.items()] == [
        ("focal", [0, 1]),
        ("softmax", [0]),
    ]


def test_a_series_has_nan_where_there_was_no_number():
    np.testing.assert_array_equal(
        run((None, 1.5, 2.0)).series("validation_loss"), [nan, 1.5, 2.0]
    )
