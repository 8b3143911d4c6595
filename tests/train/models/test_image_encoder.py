"""Pretrained encoders of images: transformers' numbers, shapes, refusals."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.errors import ConfigError, DataError
from train.models.huggingface import FAMILIES as KNOWN
from train.models.preprocessor import read_image_preprocessor
from train.models.pretrained import load_weights, read_encoder_config
from train.models.vit import resize_positions
from train.recipe.network import Network

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("vit", "dinov2", "convnext")
# How the classifier of transformers pools, where it does so by one of these.
POOLING = {"vit": "cls", "convnext": "mean"}
UNUSED = {"dinov2": ("embeddings.mask_token",)}


def golden(family):
    """Shape, parameters and transformers' outputs of a tiny random encoder."""
    config = read_encoder_config(GOLDEN / family, "images")
    weights = load_weights(GOLDEN / family, config)
    classifier = ("classifier.bias", "classifier.weight")
    assert weights.unused == UNUSED.get(family, classifier)
    with np.load(GOLDEN / family / "outputs.npz") as outputs:
        return config, jax.tree.map(jnp.asarray, weights.params), dict(outputs)


def hidden(config, params, images, **fields):
    network = KNOWN[config.model_type].network
    model = ModelConfig(**fields)
    abstract = nnx.eval_shape(lambda: network(config, model, rngs=nnx.Rngs(0)))
    graphdef = nnx.split(abstract, nnx.Param)[0]
    return jax.jit(lambda p: nnx.merge(graphdef, p)(jnp.asarray(images)))(params)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("remat", [False, pytest.param(True, marks=pytest.mark.long)])
def test_hidden_states_are_those_of_transformers(family, remat):
    config, params, outputs = golden(family)
    expected = outputs["hidden"]
    if family == "convnext":
        expected = expected.transpose(0, 2, 3, 1)
    result = hidden(config, params, outputs["images"], remat=remat)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_near_float32(family):
    config, params, outputs = golden(family)
    near = hidden(config, params, outputs["images"], compute_dtype="bfloat16")
    assert near.dtype == jnp.bfloat16
    exact = hidden(config, params, outputs["images"])
    assert 0 < np.abs(near.astype(jnp.float32) - exact).max() < 20 * 2**-8


@pytest.mark.parametrize("family", POOLING)
def test_logits_are_those_of_transformers_on_pixels(family):
    config, params, outputs = golden(family)
    mean, deviation = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    spec = InputSpec((8, 8, 3), 3, mean=mean, deviation=deviation, encoder=config)
    model = ModelConfig(pretrained="folder", pooling=POOLING[family])
    network = Network("image", spec, model, "linear")
    tensors = load_file(GOLDEN / family / "model.safetensors")
    head = {
        "kernel": jnp.asarray(tensors["classifier.weight"].T),
        "bias": jnp.asarray(tensors["classifier.bias"]),
    }
    tree = {"encoder": params, "head": {"linear": head}}
    pixels = jnp.asarray(outputs["images"] * np.float32(deviation) + np.float32(mean))
    logits = jax.jit(lambda tree: network.logits(tree, pixels, rngs=None))(tree)
    np.testing.assert_allclose(logits, outputs["logits"], atol=2e-5)


@pytest.mark.long
def test_the_mean_of_a_vit_is_over_patches():
    config, params, outputs = golden("vit")
    spec = InputSpec((8, 8, 3), 3, encoder=config)
    network = Network("image", spec, ModelConfig(pretrained="folder"), "linear")
    tree = jax.jit(lambda: network.init(nnx.Rngs(0)))() | {"encoder": params}
    features = network.apply(tree, jnp.asarray(outputs["images"]), rngs=None).features
    expected = outputs["hidden"][:, 1:].mean(axis=1)
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(2, 3), (5, 2), (4, 4), (37, 16)])
def test_positions_are_resampled_by_cubic_convolution(old, new):
    rng = np.random.default_rng(0)
    positions = jnp.asarray(rng.normal(size=(1, 1 + old**2, 3)), jnp.float32)
    resized = np.asarray(resize_positions(positions, new))
    assert resized.shape == (1, 1 + new**2, 3)
    np.testing.assert_array_equal(resized[:, 0], positions[:, 0])
    # What is the same everywhere stays so.
    same = resize_positions(jnp.ones((1, 1 + old**2, 3)), new)
    np.testing.assert_allclose(same, 1, atol=1e-6)
    if old == new:
        np.testing.assert_array_equal(resized, positions)
    if (old, new) == (2, 3):
        # In the middle, each of four places counts alike.
        middle = np.asarray(positions)[0, 1:].mean(axis=0)
        np.testing.assert_allclose(resized[0, 1 + 4], middle, atol=1e-6)


def test_refuses_a_size_that_patches_do_not_fill():
    config, _, _ = golden("vit")
    spec = InputSpec((10, 10, 3), 3, encoder=config)
    network = Network("image", spec, ModelConfig(pretrained="folder"), "linear")
    inputs = jnp.zeros((1, 10, 10, 3))
    with pytest.raises(ConfigError, match=r"`data.image_size`: 10 .* 4; set it to 8"):
        jax.eval_shape(lambda p: network.logits(p, inputs, rngs=None), network.shapes())


def test_convnext_has_no_first_token():
    config, _, _ = golden("convnext")
    spec = InputSpec((8, 8, 3), 3, encoder=config)
    model = ModelConfig(pretrained="folder", pooling="cls")
    network = Network("image", spec, model, "linear")
    inputs = jnp.zeros((1, 8, 8, 3))
    with pytest.raises(ConfigError, match=r"`model.pooling`: cls .*set it to mean"):
        jax.eval_shape(lambda p: network.logits(p, inputs, rngs=None), network.shapes())


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        ("vit", {"qkv_bias": False}, "`qkv_bias` is False, and True alone"),
        ("vit", {"num_channels": 1}, "`num_channels` is 1, and 3 alone"),
        ("vit", {"image_size": [8, 6]}, "`image_size` is .8, 6."),
        ("vit", {"hidden_act": "mish"}, "no activation 'mish'"),
        ("dinov2", {"use_swiglu_ffn": True}, "`use_swiglu_ffn` is True, and False"),
        ("convnext", {"hidden_act": "mish"}, "no activation 'mish'"),
        ("convnext", {"depths": [1]}, "not of the same stages; take another"),
        ("convnext", {"depths": 3}, "`depths` is 3, and no list"),
        ("convnext", {"depths": [1, 0]}, "must be whole numbers above 0"),
        ("convnext", {"layer_scale_init_value": 0}, "`layer_scale_init_value`"),
    ],
)
def test_refuses_what_it_does_not_know(family, fields, words, tmp_path):
    folder = Path(shutil.copytree(GOLDEN / family, tmp_path / family))
    content = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        read_encoder_config(folder, "images")


def test_refuses_an_encoder_of_something_else():
    with pytest.raises(
        ConfigError, match=r"encoder of images .vit., .* of text; .*bert"
    ):
        read_encoder_config(GOLDEN / "vit")
    with pytest.raises(ConfigError, match=r"of text .bert., .* images; .* vit, dinov2"):
        read_encoder_config(GOLDEN / "bert", "images")


PREPARED = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"size": 224}, 224),
        ({"size": {"height": 384, "width": 384}}, 384),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, 224),
        ({"size": 256, "crop_size": 224, "do_center_crop": True}, 224),
        ({"size": 256, "crop_size": 224, "do_center_crop": False}, 256),
    ],
)
def test_reads_how_pictures_are_prepared(fields, size, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPARED | fields))
    found = read_image_preprocessor(tmp_path)
    assert found == (size, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


def test_pictures_may_be_taken_as_they_are(tmp_path):
    content = {"do_normalize": False, "size": 32}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    assert read_image_preprocessor(tmp_path) == (32, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"size": 224}', "`image_mean` is None"),
        (json.dumps(PREPARED), "`size` is None"),
        (json.dumps(PREPARED | {"size": {"height": 8, "width": 9}}), "squares"),
        (json.dumps(PREPARED | {"size": 8, "do_rescale": False}), "`do_rescale`"),
        (json.dumps(PREPARED | {"size": 8, "rescale_factor": 1.0}), "`rescale_factor`"),
    ],
)
def test_refuses_what_is_no_preparation_of_pictures(text, words, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read_image_preprocessor(tmp_path)


def test_a_folder_without_preparation_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot read preprocessor_config.json"):
        read_image_preprocessor(tmp_path)
