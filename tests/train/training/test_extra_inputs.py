"""What some losses take besides logits and labels reaches them, and is kept.

Each kind of extra input has a loss of its own here, in the table for one test.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.losses import (
    ClassCounts,
    OtherLogits,
    PerBatch,
    PerExample,
    StepKey,
    aldr_kl_loss,
    aldr_kl_temperature,
    feature_norms,
    init_norm_state,
    multi_label_softmax_loss,
    negative_pairs,
    register_loss,
    softmax_loss,
    sphereface2_bias,
    unpg_loss,
    update_norm_state,
)
from as_softmax_jax.losses._table import _ROWS
from train.data.buckets import BUCKETS
from train.data.examples import NO_LABEL
from train.errors import ConfigError
from train.evaluate import evaluate_run
from train.loop import _train_step, initial_state, train_and_evaluate
from train.predict import Predictor
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.targets.multi_label import MultiLabel
from train.targets.one_class import OneClass
from train.targets.tags import Tags
from train.tasks import prepare
from train.training.feeds import make_feed
from train.training.measures import _active, hold_inputs
from train.training.steps import BatchInfo
from train.workdir.log import RunLog

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)


def one_more(logits, *, visits, where=None, class_mask=None, axis=-1):
    return visits + 1.0


def mean_of_largest(logits, *, share=0.5, where=None, class_mask=None, axis=-1):
    return share * jnp.mean(jnp.max(logits, axis=axis), where=where)


@pytest.fixture(autouse=True)
def losses():
    """Puts a loss of each kind into the table, and takes them out again."""
    before = {*_ROWS}

    @register_loss(
        paper="", at_zero_logits=None, extras={"class_counts": ClassCounts()}
    )
    def prior_loss(logits, labels, *, class_counts, where=None, **masks):
        logits = logits + jnp.log(class_counts)
        return softmax_loss(logits, labels, where=where, **masks)

    @register_loss(paper="", at_zero_logits=None, extras={"key": StepKey()})
    def noisy_loss(logits, labels, *, key, where=None, **masks):
        noise = jax.random.normal(key, logits.shape)
        return softmax_loss(logits + noise, labels, where=where, **masks)

    @register_loss(
        paper="", at_zero_logits=None, extras={"visits": PerExample(0.0, one_more)}
    )
    def fading_loss(logits, labels, *, visits, where=None, **masks):
        return softmax_loss(logits, labels, where=where, **masks) / visits

    @register_loss(
        paper="", at_zero_logits=None, extras={"level": PerBatch(mean_of_largest)}
    )
    def levelled_loss(logits, labels, *, level, weight=0.1, where=None, **masks):
        loss = softmax_loss(logits, labels, where=where, **masks)
        return loss * (1.0 + weight * level**2)

    @register_loss(paper="", at_zero_logits=None, extras={"others": OtherLogits()})
    def two_head_loss(logits, labels, *, others, where=None, **masks):
        first = softmax_loss(logits, labels, where=where, **masks)
        return first + softmax_loss(others, labels, where=where, **masks)

    @register_loss(
        paper="", at_zero_logits=None, extras={"class_counts": ClassCounts()}
    )
    def multi_label_prior_loss(logits, targets, *, class_counts, where=None, **masks):
        logits = logits + jnp.log(class_counts)
        return multi_label_softmax_loss(logits, targets, where=where, **masks)

    yield
    for name in {*_ROWS} - before:
        del _ROWS[name]
    jax.clear_caches()


@pytest.fixture
def begin(feature_config, change):
    """Returns a function: a loss -> what its run starts with."""

    def begin(name, options=None, **training):
        config = change(feature_config, "loss", name=name, options=options or {})
        config = change(config, "optimizer", warmup=0.0)  # The first step moves.
        config = change(config, "training", **training)
        data = prepare(config)
        recipe, train = make_recipe(config, data), data.splits["train"]
        state = initial_state(recipe, seed=0, labels=train.labels)
        return recipe, state, make_feed(recipe, train, seed=0), data

    return begin


def take(recipe, state, item, *, spoil=False):
    """The state after a batch; a spoiled one is not finite."""
    batch = dict(item.batch)
    if spoil:
        batch["inputs"] = np.where(np.arange(2) == 0, np.nan, batch["inputs"])
    info = BatchInfo(np.int32(item.num_seen), np.bool_(True), np.bool_(item.last))
    return _train_step(recipe, state, put_batch(recipe.mesh, batch), info)


def logits_of(recipe, state, item):
    return recipe.network.logits(state.params, item.batch["inputs"], rngs=None)


def test_class_counts_are_those_of_the_training_labels(begin):
    recipe, state, feed, data = begin("prior")
    counts = np.bincount(data.splits["train"].labels)
    np.testing.assert_array_equal(state.held["class_counts"], counts)
    item = next(iter(feed.items(lambda: state)))
    logits = logits_of(recipe, state, item) + np.log(counts)
    expected = softmax_loss(logits, item.batch["labels"]).sum()
    assert float(take(recipe, state, item).sums.loss) == pytest.approx(
        float(expected), rel=1e-5
    )


@pytest.mark.parametrize(
    ("target", "labels", "counts"),
    [
        (OneClass(), np.array([0, 2, 2]), [1, 0, 2]),
        (Tags(), np.array([[1, NO_LABEL], [1, 0]]), [1, 2, 0]),
        (MultiLabel(), np.array([[1, 0, 1], [0, 0, 1]], bool), [1, 0, 2]),
    ],
)
def test_each_target_counts_its_classes(target, labels, counts):
    name = "prior" if target.loss_target == "labels" else "multi_label_prior"
    held = hold_inputs(_ROWS[name], target, labels, 3, {})
    np.testing.assert_array_equal(held["class_counts"], counts)
    assert hold_inputs(_ROWS["noisy"], target, labels, 3, {}) is None


def test_each_step_has_a_key_of_its_own(begin):
    recipe, state, feed, _ = begin("noisy")
    item = next(iter(feed.items(lambda: state)))
    losses = []
    for mini_step in (0, 1, 0):
        again = jax.tree.map(jnp.copy, state)
        again = again._replace(mini_step=jnp.int32(mini_step))
        losses.append(float(take(recipe, again, item).sums.loss))
    assert losses[0] == losses[2] != losses[1]


def test_the_value_of_a_batch_is_of_that_batch(begin):
    recipe, state, feed, _ = begin("levelled")
    item = next(iter(feed.items(lambda: state)))
    logits = logits_of(recipe, state, item)
    level = 0.5 * np.mean(np.max(logits, axis=-1))
    expected = softmax_loss(logits, item.batch["labels"]).sum() * (1 + 0.1 * level**2)
    assert float(take(recipe, state, item).sums.loss) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_the_options_of_an_extra_input_are_the_losses_options(begin, feature_config):
    recipe, *_ = begin("levelled")
    assert dict(recipe.objective.keywords) == {"share": 0.5, "weight": 0.1}


def test_a_second_output_layer_is_trained_with_the_first(begin, tmp_path):
    recipe, state, feed, _ = begin("two_head")
    item = next(iter(feed.items(lambda: state)))
    output = recipe.network.apply(state.params, item.batch["inputs"], rngs=None)
    labels = item.batch["labels"]
    expected = softmax_loss(output.logits(), labels).sum()
    expected += softmax_loss(output.other_logits(), labels).sum()
    before = jax.tree.map(np.array, state.params)
    after = take(recipe, state, item)
    assert float(after.sums.loss) == pytest.approx(float(expected), rel=1e-5)
    for head in ("head", "other_head"):
        kernels = (p[head]["linear"]["kernel"] for p in (before, after.params))
        assert (np.subtract(*kernels) != 0).any()


def test_the_state_of_an_example_is_its_own_and_kept(begin):
    recipe, state, feed, data = begin("fading")
    visited = np.zeros(len(data.splits["train"]))
    for epoch in range(2):
        for item in feed.items(lambda: None):
            # What is left out leaves its examples as they were.
            spoil = epoch == 1 and item.rows[0] % 2 == 0
            state = take(recipe, state, item, spoil=spoil)
            visited[item.rows] += not spoil
        feed.finish_epoch(None)
    np.testing.assert_array_equal(state.held["visits"], visited)
    assert set(visited) == {1.0, 2.0}


def test_the_loss_takes_the_new_state(begin):
    recipe, state, feed, _ = begin("fading")
    held = {"visits": jnp.arange(82, dtype=jnp.float32)}
    item = next(iter(feed.items(lambda: state)))
    logits = logits_of(recipe, state, item)
    losses = softmax_loss(logits, item.batch["labels"]) / (item.rows + 1.0)
    after = take(recipe, state._replace(held=held), item)
    assert float(after.sums.loss) == pytest.approx(float(losses.sum()), rel=1e-5)


@pytest.mark.parametrize(
    "name", ["fading", "prior", "noisy", "aldr_kl", "masked_softmax", "adaface"]
)
def test_a_killed_run_goes_on_bit_by_bit(
    feature_config, change, tmp_path, monkeypatch, name
):
    config = change(feature_config, "loss", name=name)
    if name == "masked_softmax":
        config = change(config, "data", class_stages=3)
    whole = train_and_evaluate(config, tmp_path / "whole", quiet=True)
    original, steps = RunLog.mini_step, iter(range(1, 100))

    def killed(self, state):
        original(self, state)
        if next(steps) == 8:
            raise RuntimeError("as if killed")

    with monkeypatch.context() as patch:
        patch.setattr(RunLog, "mini_step", killed)
        with pytest.raises(RuntimeError, match="as if killed"):
            train_and_evaluate(config, tmp_path / "run", quiet=True)
    resumed = train_and_evaluate(config, tmp_path / "run", quiet=True)
    for result in (whole, resumed):
        del result["seconds"]
        for record in result["records"]:
            del record["seconds"]
    assert resumed == whole


@pytest.mark.parametrize(
    "name",
    [
        *("fading", "prior", "levelled", "two_head", "masked_softmax", "sovr"),
        *("adaface", "sphereface2", "dismax"),
    ],
)
def test_a_finished_run_is_evaluated_and_answers(
    feature_config, change, tmp_path, name
):
    config = change(feature_config, "loss", name=name)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["validation_accuracy"] > 0.7
    again = evaluate_run(tmp_path / "run", "test")
    assert again["test_loss"] == pytest.approx(result["test_loss"], rel=1e-6)
    (answer,) = Predictor(tmp_path / "run")([{"x": 0.0, "y": 0.0}])
    assert 0 < answer["probability"] <= 1
    counts = tmp_path / "run" / "class_counts.json"
    assert counts.exists() == (name == "prior")
    if counts.exists():
        assert sum(json.loads(counts.read_text())["class_counts"]) == 82


def test_the_temperature_of_an_example_begins_at_the_base_and_moves(begin):
    options = {"base": 10.0, "logit_norm": "l1"}
    recipe, state, feed, _ = begin("aldr_kl", options=options)
    np.testing.assert_array_equal(state.held["temperature"], 10.0)
    item = next(iter(feed.items(lambda: state)))
    logits = logits_of(recipe, state, item)
    own = {"base": 10.0, "logit_norm": "l1"}
    expected = aldr_kl_temperature(logits, temperature=10.0, **own)
    losses = aldr_kl_loss(logits, item.batch["labels"], temperature=expected, **own)
    after = take(recipe, state, item)
    found = np.asarray(after.held["temperature"])
    np.testing.assert_allclose(found[item.rows], expected, rtol=1e-5)
    assert (found[item.rows] < 10).all()
    np.testing.assert_array_equal(np.delete(found, item.rows), 10.0)
    assert float(after.sums.loss) == pytest.approx(float(losses.sum()), rel=1e-4)


def output_of(recipe, state, item):
    return recipe.network.apply(state.params, item.batch["inputs"], rngs=None)


def test_the_state_of_the_run_has_seen_each_batch_that_counts(begin):
    recipe, state, feed, _ = begin("adaface")
    begun = init_norm_state()
    np.testing.assert_array_equal(state.held["norm_state"], begun)
    items = feed.items(lambda: state)
    item = next(items)
    norms = feature_norms(output_of(recipe, state, item).features)
    expected = update_norm_state(begun, norms, where=item.batch["where"])
    state = take(recipe, state, item)
    before = np.array(state.held["norm_state"])
    np.testing.assert_allclose(before, expected, rtol=1e-5)
    # A batch that is left out leaves it as it was.
    after = take(recipe, state, next(items), spoil=True)
    np.testing.assert_array_equal(after.held["norm_state"], before)


def test_a_number_of_the_loss_is_learned_with_the_network(begin):
    options = {"scale": 20.0, "margin": 0.2}
    recipe, state, feed, _ = begin("sphereface2", options=options)
    first = sphereface2_bias(3, **options)
    assert float(state.params["loss"]["bias"]) == pytest.approx(first)
    item = next(feed.items(lambda: state))
    after = take(recipe, state, item)
    assert float(after.params["loss"]["bias"]) != pytest.approx(first)


def test_what_comes_of_the_features_is_of_those_of_the_batch(begin):
    recipe, state, feed, _ = begin("unpg", options={"whisker": 0.5})
    item = next(feed.items(lambda: state))
    output, labels = output_of(recipe, state, item), item.batch["labels"]
    pairs = negative_pairs(output.features, labels, whisker=0.5)
    losses = unpg_loss(output.logits(), labels, pairs=pairs)
    after = take(recipe, state, item)
    assert float(after.sums.loss) == pytest.approx(float(losses.sum()), rel=1e-4)


def test_the_active_classes_are_those_met_so_far(begin, feature_config):
    recipe, state, feed, data = begin("masked_softmax")
    labels = data.splits["train"].labels
    np.testing.assert_array_equal(state.held["active"], False)
    item = next(iter(feed.items(lambda: state)))
    only = item.batch["labels"] == 1
    batch = dict(item.batch, where=item.batch["where"] & only)
    state = take(recipe, state, item._replace(batch=batch), spoil=True)
    np.testing.assert_array_equal(state.held["active"], False)
    before = jax.tree.map(np.array, state.params["head"]["linear"])
    state = take(recipe, state, item._replace(batch=batch))
    np.testing.assert_array_equal(state.held["active"], [False, True, False])
    # Its label alone is active: the loss is 0, and nothing moves but by decay.
    assert float(state.sums.loss) == 0
    np.testing.assert_array_equal(
        state.params["head"]["linear"]["bias"], before["bias"]
    )
    state = take(recipe, state, item)
    np.testing.assert_array_equal(state.held["active"], [True, True, True])
    assert set(labels[item.rows]) == {0, 1, 2}


def test_active_classes_of_several_labels_and_of_tokens():
    where = jnp.array([True, False])
    targets = jnp.array([[1, 0, 1], [1, 1, 1]], bool)
    met = jnp.array([False, False, False])
    found = _active(met, targets, where, training=True)
    np.testing.assert_array_equal(found, [True, False, True])
    tags = jnp.array([[1, NO_LABEL], [NO_LABEL, 1]])
    found = _active(met, tags, tags != NO_LABEL, training=True)
    np.testing.assert_array_equal(found, [False, True, False])
    np.testing.assert_array_equal(_active(met, tags, tags >= 0, training=False), met)


def test_sets_of_answers_are_as_large_as_asked_for(feature_config, change, tmp_path):
    config = change(feature_config, "loss", name="two_head_average_k")
    config = change(config, "loss", options={"k": 1.5})
    config = change(config, "training", epochs=12)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    # Of 23 rows round(1.5 * 23) classes, as far as none tie.
    assert result["validation_set_size"] == pytest.approx(round(1.5 * 23) / 23)
    assert result["test_set_accuracy"] >= result["test_accuracy"]
    assert result["test_set_accuracy"] > 0.9
    assert result["metrics"]["set_accuracy"]["title"] == "label in the set"
    again = evaluate_run(tmp_path / "run", "test")
    assert again["test_set_accuracy"] == result["test_set_accuracy"]
    assert again["test_set_size"] == result["test_set_size"]
    # Between two clouds of points the set has both, and far off it has one.
    middle, end = Predictor(tmp_path / "run")(
        [{"x": 3.0, "y": -3.0}, {"x": 7, "y": -7}]
    )
    assert set(middle["set"]) == {"class-1", "class-2"}
    assert end["set"] == ["class-2"]


def test_state_of_tokens_is_cut_with_its_sequences(tmp_path, feature_config, change):
    rows = [json.dumps({"text": "on " * n}) for n in (2, 3, 4, 5, 20, 21, 22, 23)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    config = change(
        feature_config,
        "data",
        path=str(tmp_path),
        train="train.jsonl",
        validation="validation.jsonl",
        test="",
        vocabulary_size=64,
    )
    config = change(config, "model", width=8, depth=1, heads=2)
    config = change(config, "loss", name="fading")
    config = change(config, "training", batch_size=4, group_by_length=True)
    config = dataclasses.replace(config, task="next_token")
    data = prepare(config)
    recipe = make_recipe(config, data)
    # So short a run would cut all batches to one length.
    train = dataclasses.replace(data.splits["train"], buckets=BUCKETS)
    state = initial_state(recipe, seed=0, labels=train.labels)
    assert state.held["visits"].shape == train.labels.shape
    items = make_feed(recipe, train, seed=0).items(lambda: None)
    item = next(item for item in items if item.batch["labels"].shape[1] < 20)
    length = item.batch["labels"].shape[1]
    visits = np.asarray(take(recipe, state, item).held["visits"])
    expected = np.zeros(train.labels.shape)
    expected[item.rows, :length] = 1
    np.testing.assert_array_equal(visits, expected)


@pytest.mark.parametrize("name", ["noisy", "levelled"])
def test_compact_training_refuses_what_ties_examples_together(begin, name, monkeypatch):
    def settled(logits, labels, **keywords):
        return jnp.zeros(labels.shape, bool)

    monkeypatch.setitem(_ROWS[name].__dict__, "settled", settled)
    with pytest.raises(ConfigError, match=f"{name} depends on the other examples"):
        begin(name, mode="compact")
