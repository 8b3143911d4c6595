"""The verdict in a sentence: what it claims, and what it leaves open."""

from finished_runs import compare, make_run

from train.comparison.results import summarize
from train.comparison.verdict import verdict


def runs(scores):
    """Runs of rows by their labels, with a score for each seed."""
    made = []
    for label, of_row in scores.items():
        loss, _, point = label.partition(" ")
        named = [tuple(f"loss.{point}".split("="))] if point else []
        for seed, score in enumerate(of_row):
            fields = {"label": label, "point": named, "score": score}
            made.append(make_run(loss, seed, **fields))
    return made


def said(scores, examples=None):
    made = runs(scores)
    for run in made:
        if examples:
            run.result["examples"] = {"test": examples}
    comparison = compare(made)
    return verdict(comparison, summarize(comparison))


def test_better_in_each_of_three_seeds():
    scores = {"softmax": [0.9, 0.8, 0.7], "as_softmax": [0.92, 0.81, 0.71]}
    assert said(scores, 300) == (
        "Over 3 seeds, on 300 test examples, of which one is 0.33 points, "
        "as_softmax is 1.33 points ahead of softmax in each of 3 seeds, which are too "
        "few to rule out chance."
    )


def test_worse_in_each_of_three_seeds():
    assert said({"softmax": [0.9, 0.8, 0.7], "as_softmax": [0.8, 0.7, 0.6]}) == (
        "Over 3 seeds, as_softmax is 10.00 points behind softmax in each of 3 seeds, "
        "which are too few to rule out chance."
    )


def test_what_cannot_be_told():
    assert said({"softmax": [0.9, 0.8, 0.7], "as_softmax": [0.92, 0.81, 0.69]}) == (
        "Over 3 seeds, as_softmax cannot be told from softmax: +0.67 points, better in "
        "2 of 3 seeds."
    )
    two = said({"softmax": [0.9, 0.8], "as_softmax": [0.92, 0.81]})
    assert "cannot be told from softmax: +1.50 points, better in 2 of 2 seeds" in two


def test_of_many_seeds_an_interval_decides():
    base = [0.8] * 8
    gains = [0.02, 0.03, 0.02, 0.01, 0.03, 0.02, -0.001, 0.02]
    scores = [b + gain for b, gain in zip(base, gains, strict=True)]
    better = said({"softmax": base, "as_softmax": scores})
    assert better.endswith("better than softmax, by more than chance.")


def test_of_several_settings_it_speaks_of_the_one_that_validation_picks():
    made = runs(
        {
            "softmax": [0.8, 0.8, 0.8],
            "as_softmax logit_margin=1": [0.85, 0.85, 0.85],
            "as_softmax logit_margin=2": [0.9, 0.9, 0.9],
        }
    )
    for run in made:
        # Validation says otherwise than test.
        run.result["validation_accuracy"] = 1.0 - run.result["test_accuracy"]
    comparison = compare(made)
    assert verdict(comparison, summarize(comparison)) == (
        "Of 2 settings of as_softmax, validation picks as_softmax logit_margin=1. "
        "Over 3 seeds, as_softmax logit_margin=1 is 5.00 points ahead of softmax in "
        "each of 3 seeds, which are too few to rule out chance."
    )


def test_of_one_seed_or_without_a_softmax_it_says_nothing_of_losses():
    assert said({"softmax": [0.9], "as_softmax": [0.8]}) == ""
    assert said({"as_softmax": [0.8, 0.9]}) == ""
