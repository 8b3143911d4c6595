"""Training with a blocked output layer is training with a dense one."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from as_softmax_jax import as_softmax_loss, heads
from train.config import (
    Config,
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.data.pipeline import evaluation_batches
from train.errors import ConfigError
from train.loop import initial_state, train_and_evaluate
from train.predict import Predictor
from train.recipe.mesh import put_batch
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.training.steps import BatchInfo, filter_step, train_step

pytestmark = pytest.mark.standard_promotion(
    reason="optax's adamw and flax's layers break under strict promotion"
)
WORDS = (
    *("the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ate"),
    *("one", "small", "fish", "near", "two", "old", "boats"),
)


@pytest.fixture
def text_config(tmp_path):
    """Sentences of a few words, for the next token."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data"
    folder.mkdir()
    for split, n in {"train": 60, "validation": 20, "test": 10}.items():
        starts = rng.integers(0, len(WORDS) - 3, n)
        lengths = rng.integers(0, 9, n)  # one in nine is empty
        rows = [
            " ".join(WORDS[a : a + b]) for a, b in zip(starts, lengths, strict=True)
        ]
        lines = [json.dumps({"text": row}) for row in rows]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return Config(
        task="next_token",
        data=DataConfig(
            source="files",
            path=str(folder),
            test="test",
            max_length=12,
            vocabulary_size=64,
        ),
        model=ModelConfig(width=16, depth=1, heads=2, head="blocked"),
        loss=LossConfig(name="as_softmax", delta=0.1),
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.2),
        training=TrainingConfig(epochs=2, batch_size=16),
        mesh=MeshConfig(data=1),
    )


@pytest.mark.parametrize(
    ("loss", "mesh"),
    [
        pytest.param({"delta": 0.1}, (2, 4), marks=pytest.mark.long),
        pytest.param({"delta": 0.1}, (8, 1), marks=pytest.mark.long),
        pytest.param({"delta": 1.0}, (1, 1), marks=pytest.mark.long),
        pytest.param({"name": "softmax"}, (1, 1), marks=pytest.mark.long),
        pytest.param({"logit_margin": 1.0}, (2, 4), marks=pytest.mark.long),
        ({"logit_margin": 1.0, "class_margins": {"▁the": 0.0, "▁on": 4.0}}, (2, 4)),
    ],
)
def test_blocked_is_dense(text_config, change, tmp_path, loss, mesh):
    config = change(text_config, "loss", **{"delta": None} | loss)
    config = change(config, "mesh", data=mesh[0], model=mesh[1])
    blocked = train_and_evaluate(config, tmp_path / "blocked", quiet=True)
    dense = change(config, "model", head="linear")
    dense = train_and_evaluate(dense, tmp_path / "dense", quiet=True)
    for a, b in zip(blocked["records"], dense["records"], strict=True):
        for key in ("train_loss", "train_accuracy", "settled_share"):
            np.testing.assert_allclose(a[key], b[key], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(
            a["validation_perplexity"], b["validation_perplexity"], rtol=1e-3
        )
    assert blocked["records"][-1]["train_loss"] < blocked["records"][0]["train_loss"]


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        pytest.param("margin_softmax", (1, 1), marks=pytest.mark.long),
        pytest.param("am_softmax", (8, 1), marks=pytest.mark.long),
        ("arcface", (2, 4)),
    ],
)
def test_blocked_cosines_are_dense_ones(text_config, change, tmp_path, name, mesh):
    config = change(text_config, "loss", name=name, delta=None, options={"scale": 8.0})
    config = change(config, "mesh", data=mesh[0], model=mesh[1])
    config = change(config, "model", sub_centers=1 + (name == "arcface"))
    blocked = change(config, "model", head="blocked_cosine")
    blocked = train_and_evaluate(blocked, tmp_path / "blocked", quiet=True)
    dense = change(config, "model", head="cosine")
    dense = train_and_evaluate(dense, tmp_path / "dense", quiet=True)
    for a, b in zip(blocked["records"], dense["records"], strict=True):
        for key in ("train_loss", "train_accuracy"):
            np.testing.assert_allclose(a[key], b[key], rtol=1e-4, atol=1e-4)
    assert 0 < blocked["records"][-1]["train_accuracy"] < 1
    # Trained on a share of the classes, of two vectors each.
    share = change(config, "model", head="blocked_cosine", class_share=0.5)
    share = change(share, "model", sub_centers=2)
    share = train_and_evaluate(share, tmp_path / "share", quiet=True)
    assert share["records"][-1]["train_loss"] < share["records"][0]["train_loss"]


@pytest.mark.parametrize("num_classes", [40, 41])
def test_classes_stay_on_their_devices(num_classes):
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 8)).astype(np.float32)
    w = rng.normal(size=(8, num_classes)).astype(np.float32)
    b = rng.normal(size=num_classes).astype(np.float32)
    t = rng.integers(0, num_classes, 16)
    where = np.arange(16) % 5 != 0

    def loss(x, w, b):
        found = heads.row_statistics_on_mesh(
            mesh, x, w, t, delta=jnp.float32(0.1), bias=b, where=where
        )
        return found.loss.sum()

    def plain(x, w, b):
        return as_softmax_loss(x @ w + b[None], t, delta=0.1, where=where).sum()

    f = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    rows = jax.device_put(x, NamedSharding(mesh, P("data")))
    split = num_classes % 4 == 0
    lies = NamedSharding(mesh, P(None, "model") if split else P())
    arguments = rows, jax.device_put(w, lies), b
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        f(*arguments),
        jax.value_and_grad(plain, (0, 1, 2))(x, w, b),
    )
    if split:
        text = f.lower(*arguments).compile().as_text()
        assert not re.search(r"f32\[8,40\].*all-gather", text)


def test_labels_and_classes_come_from_the_vocabulary(text_config):
    data = prepare(text_config)
    assert len(data.classes) == data.spec.num_classes == data.spec.vocabulary_size
    train = data.splits["train"]
    row = int(np.argmax(train.lengths))
    tokens, length = train.inputs[row], train.lengths[row]
    np.testing.assert_array_equal(train.labels[row, : length - 1], tokens[1:length])
    assert (train.labels[row, length - 1 :] == -1).all()


def test_a_token_depends_on_none_that_follows(text_config):
    data = prepare(text_config)
    recipe = make_recipe(text_config, data)
    params = initial_state(recipe, seed=0).params
    tokens = np.array([[1, 2, 3, 4, 5]])
    other = np.array([[1, 2, 3, 9, 9]])
    first, second = (
        np.asarray(recipe.network.logits(params, t, rngs=None)) for t in (tokens, other)
    )
    np.testing.assert_array_equal(first[:, :3], second[:, :3])
    assert (first[:, 3:] != second[:, 3:]).any()


def test_a_run_says_what_comes_next(text_config, tmp_path):
    train_and_evaluate(text_config, tmp_path / "run", quiet=True)
    answers = Predictor(tmp_path / "run")(["the cat sat on", ""])
    assert answers[0]["next"]
    assert 0 < answers[0]["probability"] <= 1
    assert answers[1]["next"] is None


def test_compact_training_goes_with_it(text_config, change, tmp_path):
    config = change(text_config, "training", mode="compact")
    config = dataclasses.replace(
        config, compact=dataclasses.replace(config.compact, break_even=0.0)
    )
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    assert result["records"][-1]["examples_filtered"] == 60


def test_refuses_a_loss_that_needs_all_logits(text_config, change):
    config = change(text_config, "loss", name="entmax")
    with pytest.raises(ConfigError, match="blocked goes with as_softmax, softmax"):
        make_recipe(config, prepare(config))


@pytest.mark.parametrize(
    "optimizer", [pytest.param("sgd", marks=pytest.mark.long), "adamw"]
)
@pytest.mark.parametrize("model", [1, 4])
def test_a_step_moves_the_drawn_classes_alone(text_config, change, optimizer, model):
    config = change(text_config, "model", class_share=0.25)
    config = change(config, "optimizer", name=optimizer, ema_decay=0.5)
    # Few labels, so that a quarter of the classes is room for others.
    config = change(config, "training", batch_size=1)
    config = change(config, "mesh", model=model)
    config = change(config, "data", vocabulary_size=56)
    data = prepare(config)
    recipe, num_classes = make_recipe(config, data), len(data.classes)
    state = initial_state(recipe, seed=0)
    # As after some steps: what the optimizer keeps is no longer 0.
    kept = jax.tree.map(
        lambda leaf: leaf + 1 if leaf.ndim else leaf, state.optimizer_state
    )
    state = state._replace(optimizer_state=kept)
    *_, batch = evaluation_batches(data.splits["validation"], batch_size=1)
    info = BatchInfo(np.int32(1), np.bool_(True), np.bool_(False))
    after = jax.jit(train_step, static_argnums=0)(
        recipe, state, put_batch(recipe.mesh, batch), info
    )
    parts = [(s.params, s.optimizer_state, s.average) for s in (state, after)]
    moved = set()
    for (path, old), new in zip(
        jax.tree_util.tree_leaves_with_path(parts[0]),
        jax.tree.leaves(parts[1]),
        strict=True,
    ):
        if "['head']" in jax.tree_util.keystr(path):
            columns = (np.asarray(old) != np.asarray(new)).reshape(-1, num_classes)
            moved |= set(np.flatnonzero(columns.any(0)))
    # Each of four devices has room for every label.
    assert len(moved) == {1: 56 // 4, 4: 4 * batch["labels"].size}[model]
    assert set(batch["labels"][batch["labels"] >= 0].tolist()) <= moved


@pytest.mark.long
def test_drawn_classes_keep_their_margins(text_config, change):
    """A huge margin of the classes that are no label here changes nothing."""
    config = change(text_config, "model", class_share=0.5)
    config = change(config, "training", batch_size=1)
    data = prepare(config)
    *_, batch = evaluation_batches(data.splits["validation"], batch_size=1)
    labels = batch["labels"][batch["labels"] >= 0]
    others = set(data.classes) - {data.classes[label] for label in labels}

    def loss(**fields):
        margins = {"delta": None, "logit_margin": 0.0} | fields
        recipe = make_recipe(change(config, "loss", **margins), data)
        info = BatchInfo(np.int32(1), np.bool_(True), np.bool_(False))
        arguments = initial_state(recipe, seed=0), put_batch(recipe.mesh, batch), info
        step = jax.jit(train_step, static_argnums=0)
        return float(step(recipe, *arguments).sums.loss)

    huge = {str(name): 1e6 for name in others}
    assert loss(class_margins=huge) == loss()
    everything = {str(name): 1e6 for name in data.classes}
    assert loss(class_margins=everything) > loss() + 1


@pytest.mark.parametrize(
    ("of_cat", "slack", "active"),
    [
        (2.0, None, [False, True]),
        (2.0, 1.5, [True, True]),
        (4.0, None, [True, True]),
    ],
)
def test_a_look_compares_each_token_with_the_margin_of_its_class(
    text_config, change, quick_jit, of_cat, slack, active
):
    """Cats lead by 3 everywhere; a margin of 5 for other classes is not theirs."""
    rows = ["cat cat cat", "cat mat cat"]
    lines = [json.dumps({"text": row}) for row in rows]
    train = Path(text_config.data.path) / "train.jsonl"
    train.write_text("\n".join(lines) + "\n")
    margins = {"logit_margin": 5.0, "class_margins": {"▁cat": of_cat}}
    config = change(text_config, "loss", delta=None, **margins)
    config = change(config, "training", mode="compact")
    config = change(config, "compact", slack=slack)
    data = prepare(config)
    recipe, batch = make_recipe(config, data), data.splits["train"].batch
    batch = batch(np.arange(2), slice(None)) | {"where": np.ones(2, bool)}
    params = initial_state(recipe, seed=0).params
    layer = params["head"]["linear"]
    leading = 3.0 * (np.array(data.classes) == "▁cat")
    head = {"kernel": 0 * layer["kernel"], "bias": jnp.float32(leading)}
    looked = quick_jit(filter_step, static_argnums=0)(
        recipe, params | {"head": {"linear": head}}, batch, np.int32(0)
    )
    assert looked.active.tolist() == active
    np.testing.assert_allclose(looked.lead, [3.0, -3.0])


def test_a_share_of_the_classes_is_learned(text_config, change, tmp_path):
    config = change(text_config, "model", class_share=0.9)
    result = train_and_evaluate(config, tmp_path / "run", quiet=True)
    first, last = result["records"]
    assert last["validation_perplexity"] < first["validation_perplexity"] < 64


@pytest.mark.parametrize(
    ("section", "fields", "words"),
    [
        ("model", {"head": "linear"}, "set `model.head` to blocked"),
        ("training", {"window": "settled_ratio"}, "set `training.window` to none"),
    ],
)
def test_refuses_a_share_of_classes_that_does_not_go(
    text_config, change, section, fields, words
):
    config = change(text_config, "model", class_share=0.5)
    config = change(config, section, **fields)
    with pytest.raises(ConfigError, match=words):
        make_recipe(config, prepare(config))
