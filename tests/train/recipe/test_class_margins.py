"""Margins of single classes: which class has which, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax import as_softmax_loss
from train.config import LossConfig
from train.errors import ConfigError
from train.evaluate import evaluate_run
from train.loop import initial_state, train_and_evaluate
from train.recipe.class_margins import make_class_margins
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.measures import measure
from train.workdir.finished_run import read_run

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
CLASSES = ("a", "b", 7)


@pytest.fixture
def begin(feature_config, change):
    """Returns a function: a loss's fields -> the recipe, and the data."""

    def begin(**fields):
        config = change(feature_config, "loss", **{"delta": None} | fields)
        data = prepare(config)
        return make_recipe(config, data), data

    return begin


def margins_at(recipe, seen):
    return np.asarray(recipe.keywords_at(seen)[recipe.objective.margin])


def test_a_class_has_its_own_margin_and_others_the_losses(begin):
    recipe, _ = begin(logit_margin=2.0, class_margins={"class-1": 0.5})
    np.testing.assert_allclose(margins_at(recipe, 0), [2.0, 0.5, 2.0])
    final = recipe.objective.final_keywords["logit_margin"]
    np.testing.assert_allclose(final, [2.0, 0.5, 2.0])


def test_each_margin_comes_from_softmax(begin):
    recipe, _ = begin(
        delta=0.1, class_margins={"class-0": 0.0, "class-2": 0.5}, delta_warmup=1.0
    )
    total = recipe.total_examples
    np.testing.assert_allclose(margins_at(recipe, 0), 1.0)
    # Half-way each is the mean of 1 and its own.
    np.testing.assert_allclose(margins_at(recipe, total / 2), [0.5, 0.55, 0.75])
    np.testing.assert_allclose(margins_at(recipe, total), [0.0, 0.1, 0.5], atol=1e-7)


def test_a_rare_class_has_a_larger_margin(feature_config, change, tmp_path):
    """Of 12, 3 and 1 rows: at a power of a half the margin times 1, 2 and root 12."""
    lines = (tmp_path / "data" / "train.csv").read_text().splitlines()
    keep = {"class-0": 12, "class-1": 3, "class-2": 1}
    rows = []
    for line in lines[1:]:
        name = line.rpartition(",")[2]
        keep[name] -= 1
        rows += [line] if keep[name] >= 0 else []
    (tmp_path / "data" / "train.csv").write_text("\n".join([lines[0], *rows]) + "\n")
    for fields, expected in (
        ({"logit_margin": 1.5}, 1.5 * np.sqrt([1, 4, 12])),
        ({"delta": 0.4, "delta_warmup": 0.5}, [0.4, 0.8, 1.0]),
    ):
        fields |= {"delta": fields.get("delta"), "class_margin_power": 0.5}
        config = change(feature_config, "loss", **fields)
        recipe = make_recipe(config, prepare(config))
        found = margins_at(recipe, recipe.total_examples)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(margins_at(recipe, 0), 1.0)


def test_a_class_without_an_example_counts_as_one_with_one():
    made = make_class_margins(
        LossConfig(class_margin_power=1.0),
        "logit_margin",
        2.0,
        CLASSES,
        np.array([6.0, 0.0, 3.0], np.float32),
    )
    assert made.factors == (1.0, 6.0, 2.0)


def test_the_loss_of_a_batch_has_the_margin_of_each_label(begin):
    recipe, _ = begin(logit_margin=0.5, class_margins={"class-1": 9.0})
    logits = jnp.array([[2.0, 0.0, -3.0], [-1.0, 1.0, 0.0], [0.0, 0.1, 0.2]])
    labels = jnp.array([0, 1, 2], jnp.int32)
    batch = {"labels": labels, "where": jnp.ones(3, bool)}
    keywords = recipe.objective.for_labels(recipe.keywords_at(0), labels)
    found = measure(recipe.scorer, logits, batch, keywords)
    own = jnp.array([0.5, 9.0, 0.5])
    np.testing.assert_allclose(
        found.losses, as_softmax_loss(logits, labels, logit_margin=own), rtol=1e-6
    )
    assert found.settled.tolist() == [True, False, False]


def test_compact_training_looks_at_each_class_by_its_own_margin(feature_config, change):
    config = change(feature_config, "training", mode="compact")
    config = change(config, "compact", break_even=0.0)
    for margin in ("logit_margin", "delta"):
        fields = {"delta": None, margin: 0.0, "class_margins": {"class-1": 1.0}}
        config = change(config, "loss", **fields)
        config = change(config, "compact", slack=0.0)
        data = prepare(config)
        recipe = make_recipe(config, data)
        feed = make_feed(recipe, data.splits["train"], seed=0)
        looked = feed.look(initial_state(recipe, seed=0), np.arange(82))
        labels = data.splits["train"].labels
        own = np.where(labels == 1, np.float32(1.0), np.float32(0.0))
        np.testing.assert_array_equal(looked.active, looked.lead <= own)
        assert (looked.lead[labels == 1] > 0).sum() > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_margin": 1.0, "class_margins": {"class-1": 9.0}},
        pytest.param({"delta": 0.1, "class_margin_power": 1.0}, marks=pytest.mark.long),
    ],
)
def test_a_finished_run_is_evaluated_as_it_was(
    feature_config, change, tmp_path, fields
):
    config = change(feature_config, "loss", **{"delta": None} | fields)
    if "delta" in fields:  # Of as many rows each, all would have the same margin.
        config = change(config, "data", train_examples=50)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    again = evaluate_run(tmp_path / "run", "test")
    assert again["test_loss"] == pytest.approx(result["test_loss"], rel=1e-6)

    run, test = read_run(tmp_path / "run"), prepare(config).splits["test"]
    logits = run.scorer.network.logits(run.params, test.inputs, rngs=None)
    own = {"logit_margin": np.array([1.0, 9.0, 1.0], np.float32)}
    if "delta" in fields:
        counts = np.bincount(prepare(config).splits["train"].labels)
        assert len(set(counts)) > 1
        own = {"delta": np.minimum(0.1 * counts.max() / counts, 1).astype(np.float32)}
    of_labels = {name: margins[test.labels] for name, margins in own.items()}
    loss = as_softmax_loss(logits, test.labels, **of_labels).mean()
    assert result["test_loss"] == pytest.approx(float(loss), rel=1e-5)


def refusal(begin, **fields):
    with pytest.raises(ConfigError) as raised:
        begin(**fields)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"class_margins": {"clas-1": 1.0}},
            "no class 'clas-1'; did you mean `class-1`?",
        ),
        (
            {"class_margins": {"class-1": -1.0}},
            "`loss.class_margins.class-1` must be at least 0.0, as `loss.logit_margin`",
        ),
        (
            {"delta": 0.1, "class_margins": {"class-1": 1.5}},
            "must be at least 0.0 and at most 1.0, as `loss.delta`; got 1.5",
        ),
        (
            {"class_margins": {"class-1": 1.0}, "class_margin_power": 0.5},
            "`loss.class_margins` and `loss.class_margin_power`: both give",
        ),
        (
            {"name": "entmax", "class_margin_power": 0.5},
            "`loss.class_margin_power`: entmax has no margin",
        ),
        (
            {"name": "softmax", "class_margins": {"class-1": 1.0}},
            "`loss.class_margins`: softmax has no margin",
        ),
    ],
)
def test_refuses(begin, fields, message):
    assert message in refusal(begin, **fields)


def test_refuses_several_labels():
    for fields in ({"class_margins": {"a": 1.0}}, {"class_margin_power": 0.5}):
        config = LossConfig(name="multi_label_as_softmax", **fields)
        with pytest.raises(ConfigError, match="may have several labels here"):
            make_class_margins(config, "logit_margin", 2.0, (), None)


def test_a_class_that_is_a_number_goes_by_its_digits():
    made = make_class_margins(
        LossConfig(class_margins={"7": 3.0}), "logit_margin", 2.0, CLASSES, None
    )
    assert [made.values[place] for place in made.places] == [2.0, 2.0, 3.0]
