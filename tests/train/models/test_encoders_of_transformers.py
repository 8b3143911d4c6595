"""Every family beside transformers itself, in shapes that the golden folders lack.

pip install torch transformers
python -m pytest -m long tests/train/models/test_encoders_of_transformers.py
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train.config import ModelConfig
from train.models.huggingface import FAMILIES
from train.models.pretrained import load_weights, read_encoder_config

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("default")]

TEXT = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}
DEBERTA = {
    "relative_attention": True,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
}
MODERNBERT = {
    "pad_token_id": 3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
SOUND = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "conv_dim": (8, 6, 10),
    "conv_kernel": (7, 4, 3),
    "conv_stride": (4, 2, 2),
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 10,
}
# Name -> model, its configuration, and the fields of that.
TEXTS = {
    "xlm-roberta": ("XLMRoberta", TEXT | {"type_vocab_size": 1}),
    "modernbert-biases": (
        "ModernBert",
        {**TEXT, **MODERNBERT, "local_attention": 10, "global_attn_every_n_layers": 2}
        | {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
    ),
    "modernbert-wide": ("ModernBert", TEXT | MODERNBERT | {"local_attention": 16}),
    "deberta-v3": ("DebertaV2", TEXT | DEBERTA | {"position_buckets": 16}),
    "deberta-near": (
        "DebertaV2",
        TEXT | DEBERTA | {"position_buckets": 6, "max_relative_positions": 20},
    ),
}
IMAGES = {
    "vit": (
        "ViT",
        {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
        | {"intermediate_size": 40, "image_size": 18, "patch_size": 6},
    ),
    "dinov2": (
        "Dinov2",
        {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"mlp_ratio": 3, "image_size": 42, "patch_size": 6},
    ),
    "dinov2-larger": (
        "Dinov2",
        {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        | {"image_size": 12, "patch_size": 6},
    ),
    "convnext": (
        "ConvNext",
        {"num_stages": 3, "hidden_sizes": [4, 8, 6], "depths": [2, 1, 3]}
        | {"patch_size": 2, "layer_norm_eps": 1e-3},
    ),
}
SOUNDS = {
    "wav2vec2": ("Wav2Vec2", SOUND),
    "wav2vec2-layers": ("Wav2Vec2", SOUND | {"feat_extract_norm": "layer"}),
    "hubert-large": (
        "Hubert",
        SOUND | {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
}


def made(row, folder, reads):
    """A random model of transformers, and ours of the folder that it writes."""
    name, fields = row
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**fields)
    model = getattr(transformers, f"{name}Model")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder, safe_serialization=True)
    encoder = read_encoder_config(folder, reads)
    network = FAMILIES[encoder.model_type].network
    abstract = nnx.eval_shape(lambda: network(encoder, ModelConfig(), rngs=nnx.Rngs(0)))
    graphdef = nnx.split(abstract, nnx.Param)[0]
    params = load_weights(folder, encoder).params
    ours = jax.jit(lambda params, inputs: nnx.merge(graphdef, params)(inputs))
    return model, lambda inputs: ours(params, jnp.asarray(inputs))


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name, tmp_path):
    model, ours = made(TEXTS[name], tmp_path, "text")
    lengths, pad = np.array([[40], [23], [2]]), model.config.pad_token_id
    tokens = np.random.default_rng(0).integers(4, 50, (3, 40))
    real = np.arange(40) < lengths
    with torch.no_grad():
        theirs = model(
            torch.tensor(np.where(real, tokens, pad)),
            attention_mask=torch.tensor(real.astype(int)),
        ).last_hidden_state.numpy()
    result = ours(np.where(real, tokens, -1).astype(np.int32))
    np.testing.assert_allclose(result[real], theirs[real], atol=1e-4)


@pytest.mark.parametrize("name", IMAGES)
def test_images(name, tmp_path):
    model, ours = made(IMAGES[name], tmp_path, "images")
    images = np.float32(np.random.default_rng(0).normal(size=(2, 18, 18, 3)))
    with torch.no_grad():
        theirs = model(torch.tensor(images).permute(0, 3, 1, 2)).last_hidden_state
    if theirs.ndim == 4:
        theirs = theirs.permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours(images), theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds(name, tmp_path):
    model, ours = made(SOUNDS[name], tmp_path, "audio")
    lengths = np.array([400, 250, 90])
    real = np.arange(400) < lengths[:, None]
    noise = np.random.default_rng(0).normal(size=(3, 400))
    waveforms = np.float32(np.where(real, noise, 0))
    told = model.config.feat_extract_norm == "layer"
    mask = torch.tensor(real.astype(int)) if told else None
    with torch.no_grad():
        theirs = model(torch.tensor(waveforms), attention_mask=mask).last_hidden_state
    result = np.asarray(ours(waveforms))
    assert result.shape == theirs.shape
    frames = [result.shape[1]] * 3
    if told:
        frames = model._get_feat_extract_output_lengths(torch.tensor(lengths)).tolist()
    for mine, other, count in zip(result, theirs.numpy(), frames, strict=True):
        np.testing.assert_allclose(mine[:count], other[:count], atol=1e-4)
