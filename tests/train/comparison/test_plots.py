"""Plots: their figures in words, and grids that are unusual."""

import numpy as np
import pytest
from finished_runs import compare, make_run, make_runs

from as_softmax_jax.losses import LOSSES
from train.comparison.plots import (
    _alt_margins,
    _bands,
    _caption_margins,
    _histogram,
    make_plots,
)


@pytest.fixture(scope="module")
def plots():
    return make_plots(compare(make_runs()))


def test_each_plot_has_alt_and_caption_with_its_figures(plots):
    plots = {plot.title: plot for plot in plots}
    assert list(plots) == [
        "Accuracy over training",
        "Loss over training",
        "Settled share over training",
        "Accuracy by seed",
        "Margins",
        "Loss against accuracy",
    ]
    for plot in plots.values():
        assert plot.light != plot.dark
        for text in (plot.alt, plot.caption):
            assert "softmax" in text
            assert text.endswith(".")
    # The mean of the scores of two seeds, 0.90 and 0.91.
    assert "90.50 % for softmax" in plots["Accuracy over training"].caption
    assert "5: 5 for softmax" in plots["Loss over training"].caption
    assert "80.0 % for as_softmax" in plots["Settled share over training"].caption
    assert "+0.00 points (above in 0 of 2)" in plots["Accuracy by seed"].caption
    assert "r = " in plots["Loss against accuracy"].alt


def test_plots_speak_of_the_metric_and_the_kind_of_task():
    runs = make_runs(("multi_label_softmax",), task="multi_label")
    titles = [plot.title for plot in make_plots(compare(runs))]
    assert titles[0] == "Micro F1 over training"
    assert titles[3] == "Micro F1 by seed"
    tokens = make_plots(compare(make_runs(("softmax",), task="tokens")))
    assert tokens[0].title == "F1 over training"
    assert "training tokens" in tokens[2].caption


def test_a_seed_that_stopped_early_counts_as_far_as_it_goes():
    runs = [
        make_run(seed=0, epochs=4, score=0.9),
        make_run(seed=1, epochs=2, score=0.7),
    ]
    (band,) = _bands(compare(runs), "validation_accuracy")
    np.testing.assert_array_equal(band.epochs, [1, 2, 3, 4])
    both = [(0.9 + 0.7) / 2 - 0.5 / 1, (0.9 + 0.7) / 2 - 0.5 / 2]
    alone = [0.9 - 0.5 / 3, 0.9 - 0.5 / 4]
    np.testing.assert_allclose(band.mean, both + alone)
    np.testing.assert_allclose(band.low[:2], [0.7 - 0.5, 0.7 - 0.25])
    np.testing.assert_allclose(band.high[2:], alone)


def with_margins(before, after):
    margins = {"edges": [-1.0, -0.5, 0.0, 0.5, 1.0], "before": before, "after": after}
    run = make_run()
    return run._replace(result=run.result | {"margins": margins})


def test_margins_of_all_seeds_are_counted_together():
    runs = [with_margins([0] * 4, [1, 0, 0, 3]), with_margins([0] * 4, [0, 0, 0, 4])]
    after = _histogram(runs, "after", "probability")
    np.testing.assert_array_equal(after.counts, [1, 0, 0, 7])
    np.testing.assert_allclose(after.percent, [12.5, 0, 0, 87.5])
    assert after.percent_above(0.0) == 87.5
    # Half of 8 is 4: one below the last bin, 3 of the 7 in it.
    assert after.median == pytest.approx(0.5 + 0.5 * 3 / 7)


def in_words(runs):
    """What is written of the plot of margins."""
    comparison = compare(runs)
    return f"{_alt_margins(comparison)} {_caption_margins(comparison)}"


def run_with(**loss):
    run = make_run(loss["name"])
    run.result["config"]["loss"] |= loss
    return run


def test_margins_are_in_logits_where_a_loss_has_them_and_all_runs_kept_them():
    softmax = run_with(name="softmax")
    of_delta = run_with(name="as_softmax", delta=0.1, logit_margin=None)
    of_logits = run_with(name="as_softmax", delta=None, logit_margin=2.0)
    by_default = run_with(name="as_softmax", delta=None, logit_margin=None)
    for run in (of_logits, by_default):
        said = in_words([softmax, run])
        assert "% above 3" in said
        assert "Median margin in logits before" in said
    for runs in ([softmax], [softmax, of_delta]):
        assert "% above 0.9" in in_words(runs)
    del softmax.result["logit_margins"]  # a cell of an earlier version
    assert "% above 0.9" in in_words([softmax, of_logits])


@pytest.mark.parametrize(
    ("losses", "seeds", "fields"),
    [
        (("softmax",), (0,), {"epochs": 1}),
        (tuple(LOSSES)[:11], (0, 1, 2), {}),
        (("softmax", "as_softmax"), (0, 1), {"bad": True}),
        (("softmax",), (3,), {"epochs": 50, "test": False}),
    ],
    ids=["one point", "many losses", "no finite loss", "many epochs"],
)
def test_unusual_grids_draw_without_a_warning(losses, seeds, fields):
    plots = make_plots(compare(make_runs(losses, seeds, **fields)))
    assert len(plots) == 6
    assert not any("nan" in plot.alt + plot.caption for plot in plots)


def test_correlations_that_are_none_are_not_shown():
    plots = make_plots(compare(make_runs(("softmax",), (0, 1), epochs=2)))
    scatter = next(plot for plot in plots if "Pearson" in plot.caption)
    assert "takes three evaluations of a run or more" in scatter.caption
    assert "r =" not in scatter.alt
