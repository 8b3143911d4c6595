"""Layers of a pretrained encoder: what is frozen, and the size of each one's steps."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.config import (
    Config,
    DataConfig,
    LossConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
)
from train.errors import ConfigError
from train.loop import train_and_evaluate
from train.models.pretrained import load_weights, read_encoder_config
from train.recipe.layers import check_layers, trained
from train.recipe.optimizer import make_learning_rate, make_optimizer
from train.recipe.recipe import make_recipe
from train.tasks import prepare
from train.workdir.finished_run import read_run
from train.workdir.log import RunLog

pytestmark = pytest.mark.standard_promotion(
    reason="optax's chains and flax's layers break under strict promotion"
)


def full(value=2.0):
    return {"kernel": jnp.full((2, 2), value)}


PARAMS = {
    "encoder": {
        "words": full(),
        "blocks": {0: {"expand": full()}, 1: {"expand": full()}},
        "final_norm": full(),
    },
    "head": {"linear": full()},
}


def updates_of(model=None, grads=PARAMS, params=PARAMS, **fields):
    """The first updates, at a rate of 0.5, and the optimizer's state after them."""
    plain = {
        "name": "sgd",
        "learning_rate": 0.5,
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "clip_norm": 0.0,
    }
    config = OptimizerConfig(**plain | fields)
    tx = make_optimizer(
        config,
        TrainingConfig(),
        make_learning_rate(config, total_examples=100),
        trained=None if model is None else lambda params: trained(model, params),
    )
    return tx.update(grads, tx.init(params), params, examples_seen=0, num_seen=0)


def sizes(updates):
    """The one value that each layer's update has, from the bottom to the top."""
    encoder = updates["encoder"]
    layers = [
        encoder["words"],
        *(block["expand"] for block in encoder["blocks"].values()),
        encoder["final_norm"],
        updates["head"]["linear"],
    ]
    assert all((layer["kernel"] == layer["kernel"][0, 0]).all() for layer in layers)
    return [float(layer["kernel"][0, 0]) for layer in layers]


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.25])
def test_each_layer_has_its_factor_below_the_layer_above(decay):
    updates, _ = updates_of(layer_decay=decay)
    factors = [decay**3, decay**2, decay, 1.0, 1.0]
    assert sizes(updates) == [-0.5 * factor * 2.0 for factor in factors]


def test_adam_s_steps_and_the_decay_of_weights_are_scaled_too():
    rates = (1 / 8, 1 / 4, 1 / 2, 1, 1)
    plain, _ = updates_of(name="adamw")
    adam, _ = updates_of(name="adamw", layer_decay=0.5)
    # Powers of 2 scale without rounding.
    assert sizes(adam) == [
        r * size for r, size in zip(rates, sizes(plain), strict=True)
    ]
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    decayed, _ = updates_of(grads=zeros, weight_decay=0.1, layer_decay=0.5)
    assert sizes(decayed) == pytest.approx([-0.5 * f * 0.1 * 2.0 for f in rates])


def test_low_rank_changes_are_in_the_layer_of_their_matrix():
    changes = {"blocks": {0: {"query": full()}, 1: {"query": full()}}}
    params = PARAMS | {"lora": changes}
    updates, _ = updates_of(
        ModelConfig(lora_rank=1), params, params=params, layer_decay=0.5
    )
    assert sizes(updates) == [0.0, 0.0, 0.0, 0.0, -0.5 * 2.0]
    for number, factor in {0: 1 / 4, 1: 1 / 2}.items():
        update = updates["lora"]["blocks"][number]["query"]["kernel"]
        assert (update == -0.5 * factor * 2.0).all()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("freeze", ["embeddings", "encoder"])
def test_what_is_frozen_does_not_move_decay_or_count(name, freeze):
    model = ModelConfig(freeze=freeze)
    updates, state = updates_of(
        model, name=name, momentum=0.9, weight_decay=0.1, clip_norm=1.0
    )
    frozen = 4 if freeze == "encoder" else 1
    moves = [size != 0 for size in sizes(updates)]
    assert moves == [False] * frozen + [True] * (5 - frozen)
    moments = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim == 2]
    assert len(moments) == (5 - frozen) * (2 if name == "adamw" else 1)
    if name == "sgd":
        # Of the gradient's norm only what moves is part: (5 - frozen) matrices of 2s.
        gradient = 2.0 / np.sqrt((5 - frozen) * 4 * 2.0**2)
        assert sizes(updates)[-1] == pytest.approx(-0.5 * (gradient + 0.1 * 2.0))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "freeze", "encoder"),
        ("model", "lora_rank", 2),
        ("optimizer", "layer_decay", 0.9),
    ],
)
def test_refuses_layers_of_an_encoder_that_is_not_there(section, key, value, change):
    config = change(Config(), section, **{key: value})
    with pytest.raises(ConfigError, match=rf"`{section}\.{key}`.*`model\.pretrained`"):
        check_layers(config)
    check_layers(change(config, "model", pretrained="folder"))


def test_refuses_to_freeze_twice():
    model = ModelConfig(pretrained="folder", freeze="encoder", lora_rank=2)
    with pytest.raises(ConfigError, match=r"`model\.freeze`: .*leave out one"):
        check_layers(Config(model=model))


def test_refuses_changes_of_no_matrix():
    model = ModelConfig(pretrained="folder", lora_rank=2, lora_targets=())
    with pytest.raises(ConfigError, match=r"`model\.lora_targets`: no matrix .*query"):
        check_layers(Config(model=model))


@pytest.fixture
def config(encoder, tmp_path):
    """Fine-tuning on three requests of two kinds, on one device."""
    for split in ("train", "validation"):
        rows = [("turn on", "on"), ("turn off", "off"), ("lamp off", "off")]
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Config(
        task="text",
        data=DataConfig(source="files", path=str(tmp_path), max_length=8),
        model=ModelConfig(pretrained=str(encoder)),
        loss=LossConfig(name="softmax"),
        optimizer=OptimizerConfig(learning_rate=0.01, ema_decay=0.5),
        training=TrainingConfig(epochs=3, batch_size=2, evaluate_every=3),
        mesh=MeshConfig(data=1),
    )


@pytest.mark.long
def test_no_gradient_of_what_is_frozen_is_computed(config, change):
    for freeze in ("embeddings", "encoder"):
        frozen = change(config, "model", freeze=freeze)
        network = make_recipe(frozen, prepare(frozen)).network
        params = jax.tree.map(lambda s: jnp.full(s.shape, 0.1), network.shapes())

        def total(params, network=network):
            return jnp.square(network.logits(params, jnp.ones((1, 4), int), rngs=None))

        grads = jax.jit(jax.grad(lambda params: total(params).sum()))(params)
        moves = jax.tree.leaves(trained(frozen.model, params))
        for gradient, moved in zip(jax.tree.leaves(grads), moves, strict=True):
            assert moved or not gradient.any()
        assert grads["head"]["linear"]["kernel"].any()


@pytest.mark.long
@pytest.mark.parametrize("model", [{"freeze": "encoder"}, {"lora_rank": 2}])
def test_a_run_goes_on_with_the_moments_of_what_moves(
    model, config, change, tmp_path, monkeypatch
):
    config = change(config, "model", **model)
    config = change(config, "training", checkpoint_every=1)
    train_and_evaluate(config, tmp_path / "whole", quiet=True)
    count, original = iter(range(1, 100)), RunLog.mini_step

    def killed(log, state):
        original(log, state)
        if next(count) == 4:
            raise RuntimeError("as if killed")

    monkeypatch.setattr(RunLog, "mini_step", killed)
    with pytest.raises(RuntimeError, match="as if killed"):
        train_and_evaluate(config, tmp_path / "run", quiet=True)
    monkeypatch.setattr(RunLog, "mini_step", original)
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    whole, resumed = (read_run(tmp_path / name).params for name in ("whole", "run"))
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)


@pytest.mark.long
def test_a_share_of_the_classes_goes_with_a_frozen_encoder(config, change, tmp_path):
    config = change(config, "model", head="blocked", class_share=0.5, freeze="encoder")
    config = change(config, "optimizer", ema_decay=0.0)
    train_and_evaluate(config, tmp_path / "run", quiet=True)
    params = read_run(tmp_path / "run").params
    assert np.isfinite(params["head"]["linear"]["kernel"]).all()


@pytest.mark.long
@pytest.mark.parametrize(
    ("freeze", "window"), [("embeddings", "none"), ("encoder", "settled_ratio")]
)
def test_a_run_leaves_what_is_frozen_bit_for_bit(
    freeze, window, config, change, encoder, tmp_path, capsys
):
    config = change(config, "training", window=window)
    config = change(config, "model", freeze=freeze)
    train_and_evaluate(config, tmp_path / "run")
    params = read_run(tmp_path / "run").params
    began = load_weights(encoder, read_encoder_config(encoder)).params
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), params["encoder"], began)
    assert not moved["words"]["embedding"]
    assert not moved["norm"]["scale"]
    assert moved["blocks"][0]["expand"]["kernel"] == (freeze == "embeddings")
    assert re.search(
        r"[\d,]+ parameters, of which [\d,]+ are trained", capsys.readouterr().out
    )
