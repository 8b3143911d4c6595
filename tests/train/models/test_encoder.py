"""The encoder: transformers' numbers, padding, dropout, dtypes, refusals."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train.config import MeshConfig, ModelConfig
from train.data.examples import InputSpec
from train.errors import ConfigError
from train.models.encoder import PooledEncoder
from train.models.huggingface import FAMILIES as KNOWN
from train.models.layers import dropout
from train.models.pretrained import load_weights, read_encoder_config
from train.recipe.mesh import make_mesh, put_batch
from train.recipe.network import Network

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("bert", "roberta", "distilbert", "modernbert", "deberta-v2")


def golden(family):
    """Shape, parameters and transformers' outputs of a tiny random encoder."""
    config = read_encoder_config(GOLDEN / family)
    params = jax.tree.map(jnp.asarray, load_weights(GOLDEN / family, config).params)
    with np.load(GOLDEN / family / "outputs.npz") as outputs:
        return config, params, dict(outputs)


@functools.cache
def compiled(config, model_config):
    """The encoder as a compiled function of parameters, tokens and a seed."""
    network = KNOWN[config.model_type].network
    build = functools.partial(network, config, model_config)
    abstract = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    graphdef = nnx.split(abstract, nnx.Param)[0]

    @jax.jit
    def apply(params, tokens, seed):
        rngs = None if seed is None else nnx.Rngs(dropout=jax.random.key(seed))
        return nnx.merge(graphdef, params)(tokens, rngs=rngs)

    return apply


def hidden(config, params, tokens, seed=None, **fields):
    return compiled(config, ModelConfig(**fields))(params, jnp.asarray(tokens), seed)


def classifier(config, *, per_token=False, **fields):
    """A classifier as a compiled function, and its parameters, the head's random."""
    spec = InputSpec((12,), 3, per_token=per_token, encoder=config)
    fields = {"pretrained": "folder"} | fields
    network = Network("text", spec, ModelConfig(**fields), "linear")

    @jax.jit
    def logits(params, tokens, seed=None):
        rngs = None if seed is None else nnx.Rngs(dropout=jax.random.key(seed))
        return network.logits(params, tokens, rngs=rngs)

    return logits, jax.jit(lambda: network.init(nnx.Rngs(0)))()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("remat", [False, True])
def test_hidden_states_are_those_of_transformers(family, remat):
    config, params, outputs = golden(family)
    real = outputs["tokens"] >= 0
    result = hidden(config, params, outputs["tokens"], remat=remat)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result[real], outputs["hidden"][real], atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_near_float32(family):
    config, params, outputs = golden(family)
    real = outputs["tokens"] >= 0
    result = hidden(config, params, outputs["tokens"], compute_dtype="bfloat16")
    assert result.dtype == jnp.bfloat16
    difference = np.abs(np.asarray(result, np.float32) - outputs["hidden"])[real]
    # 8 bits of mantissa, and some twenty products one after the other.
    assert 0 < difference.max() < 20 * 2**-8


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_no_hidden_state(family):
    config, params, outputs = golden(family)
    longer = outputs["tokens"][1:2]
    length = int((longer >= 0).sum())
    assert length < longer.shape[1]
    np.testing.assert_allclose(
        hidden(config, params, longer)[:, :length],
        hidden(config, params, longer[:, :length]),
        atol=1e-5,
    )


@pytest.mark.long
def test_remat_changes_no_gradient():
    config, params, outputs = golden("bert")

    def gradient(remat):
        def total(params):
            states = hidden(
                config, params, outputs["tokens"], 0, dropout=0.2, remat=remat
            )
            return jnp.sum(jnp.square(states[:, 0]) * jnp.arange(16.0)[None])

        return jax.jit(jax.grad(total))(params)

    kept, again = gradient(False), gradient(True)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), kept, again
    )


def test_any_length_up_to_the_table_of_positions():
    config, params, _ = golden("roberta")
    # 20 rows, of which roberta leaves out those up to its padding token, 1.
    assert config.max_positions == 20 - 2
    assert hidden(config, params, jnp.ones((1, 18), jnp.int32)).shape == (1, 18, 16)
    with pytest.raises(ConfigError, match=r"`data.max_length`: 19 .* positions for 18"):
        hidden(config, params, jnp.ones((1, 19), jnp.int32))


def test_dropout_is_on_with_a_key_only():
    config, params, outputs = golden("bert")
    tokens = outputs["tokens"]
    off = hidden(config, params, tokens, dropout=0.1)
    np.testing.assert_array_equal(off, hidden(config, params, tokens))
    first, same, other = (
        hidden(config, params, tokens, seed, dropout=0.1) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert (first != off).any()


@pytest.mark.parametrize("rate", [0.1, 0.5])
@pytest.mark.parametrize("size", [63, 64])
def test_dropout_zeroes_its_share_and_scales_the_rest(rate, size):
    x = jnp.ones((50, 40, size))
    y = np.asarray(dropout(x, rate, jax.random.key(0)))
    assert y.shape == x.shape
    kept = y[y != 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-4)
    # Five standard deviations of a mean of n draws.
    slack = 5 * np.sqrt(rate * (1 - rate) / y.size)
    assert abs((y == 0).mean() - rate) < slack
    # Neighbours along each axis, and other keys, are dropped independently.
    again = np.asarray(dropout(x, rate, jax.random.key(1)))
    for first, second in (
        (y[1:], y[:-1]),
        (y[:, 1:], y[:, :-1]),
        (y[..., 1:], y[..., :-1]),
        (y, again),
        (y.ravel()[1:], again.ravel()[:-1]),
    ):
        both = ((first == 0) & (second == 0)).mean()
        assert abs(both - rate**2) < 5 * np.sqrt(rate**2 / first.size)


def test_an_entry_is_dropped_as_often_as_any_other():
    keys = jax.random.split(jax.random.key(0), 2000)
    dropped = jax.vmap(lambda key: dropout(jnp.ones((8, 16)), 0.1, key) == 0)(keys)
    # 128 means of 2000 draws each lie within five standard deviations.
    assert (jnp.abs(dropped.mean(0) - 0.1) < 5 * np.sqrt(0.09 / 2000)).all()
    # Nor does any two of them go together.
    flat = np.asarray(dropped).reshape(2000, -1).astype(np.float64)
    correlation = np.corrcoef(flat, rowvar=False) - np.eye(128)
    assert np.abs(correlation).max() < 6 / np.sqrt(2000)


def test_a_rate_of_zero_is_no_dropout():
    x = jnp.arange(6.0)
    np.testing.assert_array_equal(dropout(x, 0.0, jax.random.key(0)), x)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooled_logits_are_the_head_of_the_pooled_state(pooling):
    config, params, outputs = golden("bert")
    apply, tree = classifier(config, pooling=pooling)
    tree |= {"encoder": params}
    tokens = outputs["tokens"]
    logits = apply(tree, tokens)
    pooled = [
        states[:length].mean(0) if pooling == "mean" else states[0]
        for states, length in zip(outputs["hidden"], (tokens >= 0).sum(1), strict=True)
    ]
    head = tree["head"]["linear"]
    expected = np.stack(pooled) @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_logits_of_tokens_are_the_head_of_each_state():
    config, params, outputs = golden("bert")
    apply, tree = classifier(config, per_token=True, pooling="cls")
    tree |= {"encoder": params}
    real = outputs["tokens"] >= 0
    logits = apply(tree, outputs["tokens"])
    assert logits.shape == (4, 12, 3)
    head = tree["head"]["linear"]
    expected = outputs["hidden"] @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(logits[real], expected[real], atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_text_without_tokens_has_finite_logits_and_gradients(pooling):
    config, _, _ = golden("bert")
    apply, params = classifier(config, pooling=pooling)
    empty = jnp.full((1, 4), -1)
    total = jax.jit(jax.value_and_grad(lambda params: jnp.sum(apply(params, empty))))
    value, gradient = total(params)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_logits_have_the_compute_dtype_and_parameters_are_float32(compute_dtype):
    config, _, outputs = golden("roberta")
    apply, params = classifier(config, compute_dtype=compute_dtype, dropout=0.1)
    assert apply(params, outputs["tokens"], 0).dtype == compute_dtype
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@pytest.mark.long
def test_logits_do_not_depend_on_how_a_batch_lies_on_devices():
    config, _, outputs = golden("bert")
    apply, params = classifier(config, dropout=0.3)
    tokens = np.concatenate([outputs["tokens"]] * 2)
    mesh = make_mesh(MeshConfig(), batch_size=len(tokens))
    spread = apply(params, put_batch(mesh, {"inputs": tokens})["inputs"], 0)
    assert len(spread.sharding.device_set) == 8
    np.testing.assert_allclose(spread, apply(params, tokens, 0), atol=1e-5)


def test_refuses_a_tokenizer_larger_than_the_table_of_tokens():
    config, _, _ = golden("bert")
    spec = InputSpec((4,), 2, vocabulary_size=61, encoder=config)
    with pytest.raises(ConfigError, match=r"`model.pretrained`: .* 61 tokens.* 60;"):
        PooledEncoder(ModelConfig(), spec, rngs=nnx.Rngs(0))


def test_a_shape_is_hashable_and_equal_to_itself():
    config, _, _ = golden("bert")
    assert hash(config) == hash(dataclasses.replace(config))
    assert config != dataclasses.replace(config, heads=2)
