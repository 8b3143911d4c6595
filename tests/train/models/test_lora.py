"""LoRA: how few parameters it trains, where it starts, and what merging makes."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_inputs import word_pieces

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.errors import ConfigError
from train.models.huggingface import parse_config
from train.models.pretrained import export_encoder, load_weights, read_encoder_config
from train.recipe.layers import trained
from train.recipe.network import Network

GOLDEN = Path(__file__).parent / "golden"
TOKENS = jnp.asarray([[5, 6, 7, -1], [9, 3, 2, 1]])
BERT_BASE = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


def network(encoder, num_classes=3, **fields):
    spec = InputSpec((4,), num_classes, encoder=encoder)
    return Network("text", spec, ModelConfig(pretrained="folder", **fields), "linear")


def small(**fields):
    """A tiny encoder with random changes, and its parameters."""
    encoder = read_encoder_config(GOLDEN / "bert")
    changed = network(encoder, **{"lora_rank": 2} | fields)
    # Compiled as a whole: initial values one by one would take seconds.
    params = jax.jit(lambda: changed.init(nnx.Rngs(0)))()
    weights = load_weights(GOLDEN / "bert", encoder).params
    return changed, params | {"encoder": jax.tree.map(jnp.asarray, weights)}


def moved(params):
    """The parameters, with matrices `up` as training might leave them."""
    rng = np.random.default_rng(0)

    def move(path, leaf):
        is_up = path[-1].key == "up"
        return jnp.float32(rng.normal(size=leaf.shape)) if is_up else leaf

    return jax.tree_util.tree_map_with_path(move, params)


def logits(network, params):
    return jax.jit(lambda params: network.logits(params, TOKENS, rngs=None))(params)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_it_trains_less_than_a_fiftieth_of_bert_base():
    changed = network(parse_config(json.dumps(BERT_BASE), "config.json"), lora_rank=8)
    params = changed.shapes()
    moves = trained(changed.model, params)
    moving = sum(
        leaf.size
        for leaf, moved in zip(
            jax.tree.leaves(params), jax.tree.leaves(moves), strict=True
        )
        if moved
    )
    # 12 blocks, 2 matrices, `down` and `up`; and the output layer.
    assert count(params["lora"]) == 12 * 2 * 2 * 768 * 8
    assert moving == count(params["lora"]) + 3 * (768 + 1)
    assert count(params["encoder"]) == 108_891_648
    assert moving < 0.02 * count(params)


def test_it_starts_as_the_encoder_itself():
    changed, params = small(lora_targets=("query", "key", "output", "contract"))
    plain = network(changed.spec.encoder)
    rest = {name: part for name, part in params.items() if name != "lora"}
    np.testing.assert_array_equal(logits(changed, params), logits(plain, rest))
    assert params["lora"]["blocks"][1]["output"]["down"].any()


def test_a_matrix_is_changed_by_alpha_over_rank_times_the_product():
    changed, params = small(lora_alpha=3.0, lora_targets=("key", "expand"))
    params = moved(params)
    merged, before = changed.merged(params)["encoder"], params["encoder"]
    for number in (0, 1):
        block, change = merged["blocks"][number], params["lora"]["blocks"][number]
        old = before["blocks"][number]
        assert change.keys() == {"key", "expand"}
        added = {
            name: 3.0 / 2 * np.float64(part["down"]) @ np.float64(part["up"])
            for name, part in change.items()
        }
        whole = np.zeros((16, 48))
        whole[:, 16:32] = added["key"]
        for name, difference in {
            "query_key_value": whole,
            "expand": added["expand"],
        }.items():
            expected = np.float64(old[name]["kernel"]) + difference
            np.testing.assert_allclose(block[name]["kernel"], expected, atol=1e-6)
        np.testing.assert_array_equal(
            block["contract"]["kernel"], old["contract"]["kernel"]
        )


def test_a_merged_network_gives_the_same_logits():
    changed, params = small()
    params = moved(params)
    plain = network(changed.spec.encoder)
    result = logits(changed, params)
    np.testing.assert_allclose(result, logits(plain, changed.merged(params)), atol=1e-5)
    start = {**params, "lora": jax.tree.map(jnp.zeros_like, params["lora"])}
    assert np.abs(result - logits(changed, start)).max() > 0.01


@pytest.mark.long
def test_gradients_are_of_the_changes_and_the_output_layer():
    changed, params = small()
    total = jax.jit(
        jax.grad(lambda p: jnp.square(changed.logits(p, TOKENS, rngs=None)).sum())
    )
    grads = total(moved(params))
    assert not any(leaf.any() for leaf in jax.tree.leaves(grads["encoder"]))
    assert all(leaf.any() for leaf in jax.tree.leaves(grads["lora"]))


def test_a_merged_export_is_read_as_the_changed_encoder(tmp_path):
    changed, params = small()
    params, encoder = moved(params), changed.spec.encoder
    export_encoder(
        tmp_path,
        encoder,
        changed.merged(params),
        classes="abc",
        pooling="mean",
        tokenizer=word_pieces(),
        max_length=4,
        temperature=1.0,
        threshold=None,
    )
    again = load_weights(tmp_path, read_encoder_config(tmp_path)).params
    again = {"encoder": again, "head": params["head"]}
    result = logits(network(encoder), again)
    np.testing.assert_allclose(result, logits(changed, params), atol=1e-5)


def test_refuses_a_matrix_that_no_block_has():
    encoder = read_encoder_config(GOLDEN / "bert")
    for name, cure in {
        "querry": "did you mean `query`",
        "Wqkv": "it can be `contract`",
    }.items():
        changed = network(encoder, lora_rank=2, lora_targets=(name,))
        with pytest.raises(
            ConfigError, match=rf"`model\.lora_targets`.*{name}.*{cure}"
        ):
            changed.shapes()
