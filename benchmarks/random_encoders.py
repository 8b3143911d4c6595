"""Makes small encoders of pictures and of sound, with random weights, to fine-tune.

    pip install torch transformers
    python benchmarks/random_encoders.py FOLDER

Writes FOLDER/convnext_random and FOLDER/hubert_random as `save_pretrained` does, of a
size that two CPU cores train in minutes. No package brings pretrained ones so small:
these show that a folder of transformers trains here, not what pretraining buys.
"""

import argparse
from pathlib import Path

import torch
import transformers


def convnext():
    """Returns a ConvNeXt for pictures of 32 pixels, and their preprocessing."""
    config = transformers.ConvNextConfig(
        patch_size=2, hidden_sizes=[32, 64, 128, 192], depths=[2] * 4, image_size=32
    )
    processor = transformers.ConvNextImageProcessor(
        size={"shortest_edge": 32},
        crop_pct=1.0,
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
    )
    return transformers.ConvNextModel(config), processor


def hubert():
    """Returns a HuBERT for waveforms, and their preprocessing."""
    config = transformers.HubertConfig(
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        conv_dim=(48,) * 7,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
    )
    processor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    return transformers.HubertModel(config), processor


def main():
    """Writes both folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    torch.manual_seed(0)
    for name, make in {"convnext": convnext, "hubert": hubert}.items():
        for part in make():
            part.save_pretrained(folder / f"{name}_random")


if __name__ == "__main__":
    main()
