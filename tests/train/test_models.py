"""The networks: shapes, masks, dtypes, dropout, the output layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.errors import ConfigError
from train.models.heads import HEADS, as_linear
from train.recipe.network import Network
from train.tasks import find_task
from train.tasks.task import model_name

pytestmark = pytest.mark.standard_promotion(reason="flax's layers need it")

CASES = {
    "image": (InputSpec((5, 5, 1), 4), jnp.ones((2, 5, 5, 1))),
    "features": (InputSpec((6,), 4), jnp.ones((2, 6))),
    "text": (
        InputSpec((6,), 4, 11),
        jnp.array([[3, 4, -1, -1, -1, -1], [5, 6, 7, 8, 9, 10]]),
    ),
}


def first_model(task):
    return next(iter(find_task(task).models.values()))


@pytest.fixture
def build(quick_jit):
    """Returns a function: a task's network with its parameters, and inputs for it."""

    def build(task, *, head="linear", **fields):
        spec, inputs = CASES[task]
        config = ModelConfig(width=8, depth=1, heads=2, **fields)
        network = Network(task, spec, config, head)
        return (network, quick_jit(lambda: network.init(nnx.Rngs(0)))()), inputs

    return build


@pytest.fixture
def apply(quick_jit):
    """Returns a function: model, inputs and the seed of dropout, if any -> logits."""

    @functools.partial(quick_jit, static_argnums=0)
    def logits(network, params, inputs, key):
        rngs = None if key is None else nnx.Rngs(dropout=key)
        return network.logits(params, inputs, rngs=rngs)

    def apply(model, inputs, seed=None):
        return logits(*model, inputs, None if seed is None else jax.random.key(seed))

    return apply


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_logits_have_the_compute_dtype_and_parameters_are_float32(
    build, apply, task, compute_dtype
):
    model, inputs = build(task, compute_dtype=compute_dtype)
    logits = apply(model, inputs)
    assert logits.shape == (2, 4)
    assert logits.dtype == compute_dtype
    dtypes = {param.dtype for param in jax.tree.leaves(model[1])}
    assert dtypes == {jnp.dtype("float32")}


@pytest.mark.parametrize("task", CASES)
def test_dropout_is_on_with_a_key_only(build, apply, task):
    model, inputs = build(task, dropout=0.5)
    kept = apply(model, inputs)
    np.testing.assert_array_equal(kept, apply(model, inputs))
    dropped = [apply(model, inputs, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(dropped[0], dropped[1])
    assert (dropped[0] != dropped[2]).any()


@pytest.mark.parametrize("task", CASES)
def test_a_cosine_head_gives_cosines(build, apply, task):
    (network, params), inputs = build(task, head="cosine")
    # However large the class vectors are.
    model = network, jax.tree.map(lambda param: 100.0 * param, params)
    assert (jnp.abs(apply(model, inputs)) <= 1.0 + 1e-6).all()


def test_padding_changes_no_text(build, apply):
    model, tokens = build("text")
    longer = jnp.array([[3, 4, -1, -1, -1, -1]])
    shorter = jnp.array([[3, 4]])
    np.testing.assert_allclose(apply(model, longer), apply(model, shorter), atol=1e-6)
    assert jnp.isfinite(apply(model, jnp.full_like(tokens, -1))).all()


def test_refuses_heads_that_do_not_divide_the_width():
    spec, _ = CASES["text"]
    with pytest.raises(ConfigError, match=r"`model.width`: 8 .* 3 heads"):
        first_model("text")(ModelConfig(width=8, heads=3), spec, rngs=nnx.Rngs(0))


def test_without_pooling_there_are_logits_at_each_token(build, apply, monkeypatch):
    spec, tokens = CASES["text"]
    monkeypatch.setitem(CASES, "text", (spec._replace(per_token=True), tokens))
    model, tokens = build("text")
    logits = apply(model, tokens)
    assert logits.shape == (2, 6, 4)
    # Padding changes no real token's logits.
    np.testing.assert_allclose(logits[:1, :2], apply(model, tokens[:1, :2]), atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "transformer"),
        ({"name": "transformer"}, "transformer"),
        ({"pretrained": "folder"}, "pretrained"),
        ({"name": "pretrained", "pretrained": "folder"}, "pretrained"),
    ],
)
def test_a_model_is_found_by_its_name_or_its_folder(fields, name):
    assert model_name(find_task("text").models, ModelConfig(**fields)) == name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "cnn"}, ["no 'cnn'", "`transformer`"]),
        ({"name": "pretrained"}, ["'pretrained' and `model.pretrained` ''"]),
        ({"name": "transformer", "pretrained": "x"}, ["`model.pretrained` 'x'"]),
    ],
)
def test_refuses_a_model(fields, words):
    with pytest.raises(ConfigError) as refusal:
        model_name(find_task("text").models, ModelConfig(**fields))
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("head", HEADS)
def test_the_output_layer_is_apart_from_the_model(build, task, head):
    (network, params), inputs = build(task, head=head)
    output = network.apply(params, inputs, rngs=None)
    assert output.features.ndim == 2
    assert output.other_logits() is None
    np.testing.assert_array_equal(
        output.logits(), network.logits(params, inputs, rngs=None)
    )
    layer = as_linear(head, params["head"])
    if head in ("cosine", "blocked_cosine", "distance", "fourier"):
        assert layer is None
    else:
        assert set(layer) == {"linear"}
        assert layer["linear"]["kernel"].shape == (output.features.shape[-1], 4)
    assert network.class_scores(output.logits()).shape == (len(inputs), 4)


def test_a_second_output_layer_has_parameters_of_its_own(quick_jit):
    spec, inputs = CASES["features"]
    config = ModelConfig(width=8, depth=1)
    network = Network("features", spec, config, "linear", two_heads=True)
    params = quick_jit(lambda: network.init(nnx.Rngs(0)))()
    output = network.apply(params, inputs, rngs=None)
    assert output.other_logits().shape == output.logits().shape == (2, 4)
    assert (output.other_logits() != output.logits()).any()
    # The first is what it is without a second.
    alone = Network("features", spec, config, "linear").init(nnx.Rngs(0))
    jax.tree.map(np.testing.assert_array_equal, params["head"], alone["head"])
