"""Pretrained encoders of waveforms: transformers' numbers, padding, refusals."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.errors import ConfigError, DataError
from train.models.huggingface import FAMILIES as KNOWN
from train.models.preprocessor import check_audio_preprocessor
from train.models.pretrained import load_weights, read_encoder_config
from train.models.waveforms import normalise_waveforms, real_samples
from train.recipe.network import Network

GOLDEN = Path(__file__).parent / "golden"
FAMILIES = ("wav2vec2", "wav2vec2-large", "hubert")
LENGTHS = (200, 120, 61)


def golden(family):
    """Shape, parameters and transformers' outputs of a tiny random encoder."""
    config = read_encoder_config(GOLDEN / family, "audio")
    weights = load_weights(GOLDEN / family, config)
    assert weights.unused == ("masked_spec_embed",)
    with np.load(GOLDEN / family / "outputs.npz") as outputs:
        return config, jax.tree.map(jnp.asarray, weights.params), dict(outputs)


def compiled(config, **fields):
    """The encoder as a compiled function of parameters and waveforms."""
    network, model = KNOWN[config.model_type].network, ModelConfig(**fields)
    abstract = nnx.eval_shape(lambda: network(config, model, rngs=nnx.Rngs(0)))
    graphdef = nnx.split(abstract, nnx.Param)[0]
    return jax.jit(lambda params, waves: nnx.merge(graphdef, params)(waves))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("remat", [False, pytest.param(True, marks=pytest.mark.long)])
def test_hidden_states_are_those_of_transformers(family, remat):
    config, params, outputs = golden(family)
    result = compiled(config, remat=remat)(params, jnp.asarray(outputs["waveforms"]))
    assert result.dtype == jnp.float32
    expected = outputs["hidden"]
    assert result.shape == expected.shape == (3, config.frames(200), 16)
    # Frames of padding, where padding is told of, are nobody's.
    frames = config.frames(np.array(LENGTHS)) if config.every_norm else [32] * 3
    for ours, theirs, length in zip(result, expected, frames, strict=True):
        np.testing.assert_allclose(ours[:length], theirs[:length], atol=2e-5)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_near_float32(family):
    config, params, outputs = golden(family)
    waveforms = jnp.asarray(outputs["waveforms"][:1])
    near = compiled(config, compute_dtype="bfloat16")(params, waveforms)
    assert near.dtype == jnp.bfloat16
    exact = compiled(config)(params, waveforms)
    assert 0 < np.abs(near.astype(jnp.float32) - exact).max() < 30 * 2**-8


@pytest.mark.long
def test_padding_changes_no_state_where_it_is_told_of():
    config, params, outputs = golden("wav2vec2-large")
    run, waveforms = compiled(config), jnp.asarray(outputs["waveforms"])
    whole = run(params, waveforms)[1]
    alone = run(params, waveforms[1:2, : LENGTHS[1]])[0]
    np.testing.assert_allclose(whole[: len(alone)], alone, atol=2e-5)


def network(config, **fields):
    spec = InputSpec((200,), 3, sample_rate=16000, encoder=config)
    model = ModelConfig(pretrained="folder", **fields)
    return Network("audio", spec, model, "linear")


@pytest.mark.parametrize("family", ["wav2vec2", "wav2vec2-large"])
def test_features_are_the_mean_of_what_is_heard(family):
    config, params, outputs = golden(family)
    audio = network(config)
    tree = jax.jit(lambda: audio.init(nnx.Rngs(0)))() | {"encoder": params}
    # What is loud or shifted is heard alike.
    waveforms = jnp.asarray(outputs["waveforms"])
    louder = jnp.where(waveforms != 0, 5 * waveforms + 1, 0)
    apply = jax.jit(lambda tree, waves: audio.apply(tree, waves, rngs=None).features)
    features = apply(tree, louder)
    states = compiled(config)(params, normalise_waveforms(waveforms))
    lengths = config.frames(np.array(LENGTHS)) if config.every_norm else [32] * 3
    for one, state, length in zip(features, states, lengths, strict=True):
        np.testing.assert_allclose(one, state[:length].mean(axis=0), atol=2e-5)


def test_a_waveform_is_normalised_up_to_its_padding():
    rng = np.random.default_rng(0)
    waveforms = np.float32(rng.normal(2.0, 3.0, (3, 50)))
    waveforms[1, 20:] = 0
    waveforms[2] = 0
    assert real_samples(jnp.asarray(waveforms)).tolist() == [50, 20, 0]
    result = np.float64(normalise_waveforms(jnp.asarray(waveforms)))
    for row, length in enumerate((50, 20)):
        part = np.float64(waveforms[row, :length])
        expected = (part - part.mean()) / np.sqrt(part.var() + 1e-7)
        np.testing.assert_allclose(result[row, :length], expected, atol=1e-5)
    assert not result[1, 20:].any()
    assert not result[2].any()


def test_names_of_weight_norm_may_be_old(tmp_path):
    folder = Path(shutil.copytree(GOLDEN / "wav2vec2", tmp_path / "old"))
    file = folder / "model.safetensors"
    tensors = load_file(file)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in tensors.items()
    }
    assert old.keys() != tensors.keys()
    save_file(old, file)
    config = read_encoder_config(folder, "audio")
    again, first = load_weights(folder, config), golden("wav2vec2")[1]
    jax.tree.map(np.testing.assert_array_equal, again.params, first)


def test_recordings_have_no_first_token():
    config, _, _ = golden("wav2vec2")
    audio = network(config, pooling="cls")
    inputs = jnp.zeros((1, 200))
    with pytest.raises(ConfigError, match=r"`model.pooling`: cls .*set it to mean"):
        jax.eval_shape(lambda p: audio.logits(p, inputs, rngs=None), audio.shapes())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"feat_extract_norm": "batch"}, "`feat_extract_norm` is 'batch'"),
        ({"add_adapter": True}, "`add_adapter` is True, and False alone"),
        ({"conv_dim": [6]}, "conv_dim, conv_kernel, conv_stride are not of the same"),
        ({"conv_kernel": None}, "`conv_kernel` is None, and no list"),
        ({"feat_extract_activation": "mish"}, "no activation 'mish'"),
    ],
)
def test_refuses_what_it_does_not_know(fields, words, tmp_path):
    folder = Path(shutil.copytree(GOLDEN / "wav2vec2", tmp_path / "copy"))
    content = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        read_encoder_config(folder, "audio")


def test_refuses_another_sample_rate_and_another_preparation(tmp_path):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"sampling_rate": 16000, "do_normalize": True}))
    check_audio_preprocessor(tmp_path, 16000)
    with pytest.raises(
        ConfigError, match=r"`data.sample_rate`: 8000, .* set it to 16000"
    ):
        check_audio_preprocessor(tmp_path, 8000)
    file.write_text(json.dumps({"sampling_rate": 16000, "do_normalize": False}))
    with pytest.raises(DataError, match="`do_normalize` is false"):
        check_audio_preprocessor(tmp_path, 16000)
