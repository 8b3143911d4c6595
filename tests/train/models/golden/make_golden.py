"""Makes the golden folders: tiny random models, and what transformers makes of them.

    pip install torch transformers
    python tests/train/models/golden/make_golden.py [NAME ...]

Without names it makes all of them. Each folder holds config.json and model.safetensors
as `save_pretrained` writes them, and outputs.npz with `tokens` (-1 where there is no
token), `images` or `waveforms`, the last `hidden` states and, for a model with a
classifier, its `logits`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
VOCABULARY, CLASSES, LENGTHS = 60, 3, (12, 7, 1, 9)
# Weights are so large that a wrong name or a missing transposition cannot hide.
STANDARD_DEVIATION = 0.4


def make_models():
    """Returns folder -> model: bare and with a classifier, of BERT and its build."""
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 24,
        "max_position_embeddings": 20,
    }
    distilbert_sizes = {
        "vocab_size": VOCABULARY,
        "dim": 16,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 24,
        "max_position_embeddings": 20,
    }
    roberta = transformers.RobertaConfig(
        **sizes,
        hidden_act="gelu_new",
        layer_norm_eps=1e-5,
        type_vocab_size=1,
        num_labels=CLASSES,
    )
    distilbert = transformers.DistilBertConfig(**distilbert_sizes, num_labels=CLASSES)
    return {
        "bert": transformers.BertModel(transformers.BertConfig(**sizes)),
        "roberta": transformers.RobertaForTokenClassification(roberta),
        "distilbert": transformers.DistilBertForTokenClassification(distilbert),
    }


def make_modernbert():
    """Returns one with blocks that attend to three tokens to each side, and to all."""
    config = transformers.ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=20,
        local_attention=6,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
    )
    return transformers.ModernBertModel(config)


def make_deberta():
    """Returns one of the third version, with fewer rows of distances than tokens."""
    config = transformers.DebertaV2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=20,
        relative_attention=True,
        position_buckets=4,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        num_labels=CLASSES,
    )
    return transformers.DebertaV2ForTokenClassification(config)


def make_vit():
    """Returns one that reads four patches."""
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        image_size=8,
        patch_size=4,
        num_labels=CLASSES,
    )
    return transformers.ViTForImageClassification(config)


def make_dinov2():
    """Returns one whose positions are of nine patches, and which reads four."""
    config = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        mlp_ratio=2,
        image_size=12,
        patch_size=4,
    )
    return transformers.Dinov2Model(config)


def make_convnext():
    """Returns one of two stages, the second of two blocks."""
    config = transformers.ConvNextConfig(
        num_stages=2,
        hidden_sizes=[4, 6],
        depths=[1, 2],
        patch_size=2,
        num_labels=CLASSES,
    )
    return transformers.ConvNextForImageClassification(config)


WAV2VEC2 = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "conv_dim": (6, 8),
    "conv_kernel": (5, 3),
    "conv_stride": (3, 2),
    "num_conv_pos_embedding_groups": 2,
    "vocab_size": 10,
}
# As base models are, and as large ones.
GROUP = {"num_conv_pos_embeddings": 4}
LAYER = {
    "num_conv_pos_embeddings": 5,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}


def make_wav2vec2(options):
    """Returns one with two convolutions."""
    config = transformers.Wav2Vec2Config(**WAV2VEC2, **options)
    return transformers.Wav2Vec2Model(config)


def make_hubert():
    """Returns one with two convolutions."""
    return transformers.HubertModel(transformers.HubertConfig(**WAV2VEC2, **GROUP))


# Each from a seed of its own.
MORE = {
    "modernbert": make_modernbert,
    "deberta-v2": make_deberta,
    "vit": make_vit,
    "dinov2": make_dinov2,
    "convnext": make_convnext,
    "wav2vec2": lambda: make_wav2vec2(GROUP),
    "wav2vec2-large": lambda: make_wav2vec2(LAYER),
    "hubert": make_hubert,
}


def make_tokens(pad):
    """Returns tokens [n, length], -1 after each sequence's end, none of them `pad`."""
    tokens = torch.randint(0, VOCABULARY - 1, (len(LENGTHS), max(LENGTHS)))
    tokens += tokens >= pad
    lengths = torch.tensor(LENGTHS)[:, None]
    return torch.where(torch.arange(max(LENGTHS)) < lengths, tokens, -1)


def run_text(model):
    """Returns tokens, and what the model makes of them."""
    tokens = make_tokens(model.config.pad_token_id)
    mask = tokens >= 0
    ids = torch.where(mask, tokens, model.config.pad_token_id)
    outputs = model(ids, attention_mask=mask.long(), output_hidden_states=True)
    return {"tokens": tokens.int(), "hidden": outputs.hidden_states[-1]}, outputs


def run_images(model):
    """Returns images with channels last, and what the model makes of them."""
    images = torch.randn(3, 8, 8, 3)
    pixels = images.permute(0, 3, 1, 2)
    hidden = model.base_model(pixels).last_hidden_state
    return {"images": images, "hidden": hidden}, model(pixels)


def run_audio(model):
    """Returns waveforms, two with padding, and what the model makes of them.

    Base models hear padding as silence; large ones are told of it.
    """
    waveforms = torch.randn(3, 200)
    lengths = torch.tensor([200, 120, 61])[:, None]
    mask = torch.arange(200) < lengths
    waveforms = torch.where(mask, waveforms, 0.0)
    told = model.config.feat_extract_norm == "layer"
    outputs = model(waveforms, attention_mask=mask.long() if told else None)
    return {"waveforms": waveforms, "hidden": outputs.last_hidden_state}, outputs


def write(name, model):
    """Fills the model with random numbers, runs it and writes its folder."""
    model.eval()
    run = {"pixel_values": run_images, "input_values": run_audio}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, STANDARD_DEVIATION)
        arrays, outputs = run.get(model.main_input_name, run_text)(model)
    if "logits" in outputs:
        arrays["logits"] = outputs.logits
    model.save_pretrained(HERE / name, safe_serialization=True)
    arrays = {key: value.numpy() for key, value in arrays.items()}
    np.savez(HERE / name / "outputs.npz", **arrays)


def main(names):
    """Writes the folders of some names, or every folder."""
    torch.manual_seed(0)
    for name, model in make_models().items():
        if not names or name in names:
            write(name, model)
    for name, make in MORE.items():
        if not names or name in names:
            torch.manual_seed(0)
            write(name, make())


if __name__ == "__main__":
    main(sys.argv[1:])
