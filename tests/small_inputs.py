"""Small data of every task, a small encoder, and flags that point a config at them."""

import io
import json
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import soundfile
import tokenizers
from flax import nnx
from tokenizers import models, pre_tokenizers, processors

from train.config import ModelConfig, load
from train.data.examples import InputSpec
from train.models.pretrained import export_encoder, read_encoder_config
from train.recipe.network import Network

_BERT = Path(__file__).parent / "train" / "models" / "golden" / "bert"
SPLITS = ("train", "validation", "test")
WORDS = ("turn", "on", "off", "lamp", "fan")


def word_pieces():
    """A tokenizer of a few words, with the special tokens of BERT."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    unknown, vocabulary = words[1], {word: k for k, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def write_encoder(folder):
    """Writes a small encoder of random parameters as a Hugging Face folder."""
    config = read_encoder_config(_BERT)
    spec = InputSpec((8,), 2, encoder=config)
    # Module fixtures come before the one that lifts strict promotion for each test.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        network = Network("text", spec, ModelConfig(pretrained="folder"), "linear")
        params = network.init(nnx.Rngs(0))
    export_encoder(
        folder,
        config,
        params,
        classes=(0, 1),
        pooling="mean",
        tokenizer=word_pieces(),
        max_length=8,
        temperature=1.0,
        threshold=None,
    )


def write_data(task, folder):
    """Writes twelve rows of a task as every split, with the columns of its configs."""
    folder.mkdir()
    rows = [_row(task, number) for number in range(12)]
    for split in SPLITS:
        if task in ("image", "audio"):
            table = pyarrow.Table.from_pylist(rows)
            pyarrow.parquet.write_table(table, folder / f"{split}.parquet")
        else:
            lines = "\n".join(json.dumps(row) for row in rows)
            (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def small_flags(path, folder, encoder):
    """Returns flags that give a configuration small data and small shapes.

    Data with a name lies in the folder of that name under `folder`, for
    AS_SOFTMAX_DATA to say; `encoder` is what `write_encoder` wrote.
    """
    config, flags = load(path), []
    if config.data.source == "digits":
        return flags
    write_data(config.task, folder / (config.data.name or "data"))
    flags += ["--config.data.source=files"]
    if not config.data.name:
        flags += [f"--config.data.path={folder / 'data'}"]
    if config.data.train == "train.csv":
        flags += [f"--config.data.{split}={split}.jsonl" for split in SPLITS[:2]]
    if config.model.pretrained:
        flags += [f"--config.model.pretrained={encoder}"]
        flags += ["--config.data.max_length=8"]
    if config.data.image_size:
        flags += ["--config.data.image_size=16"]
    if config.data.outside_classes:
        # There are two classes, and an example of each is outside.
        flags += ["--config.data.outside_classes=0", "--config.data.outside=test"]
    if config.data.imbalance > 1:
        flags += ["--config.data.imbalance=1.5"]
    # One device: eight would take as much longer to compile.
    return [*flags, "--config.training.batch_size=8", "--config.mesh.data=1"]


def _row(task, number):
    """Returns one row: its class is its number's parity."""
    kind = number % 2
    words = ["turn", ("on", "off")[kind], ("lamp", "fan", "on")[number % 3]]
    if task == "tokens":
        return {"tokens": words, "tags": ["O", ("B-on", "B-off")[kind], "O"]}
    if task in ("text", "multi_label", "next_token"):
        label = ("on", "off")[kind]
        return {"text": " ".join(words), "label": label, "labels": [label]}
    if task == "features":
        return {"x": float(kind), "y": number / 12, "label": kind}
    content, label = io.BytesIO(), f"class-{kind}"
    random = np.random.default_rng(number)
    if task == "image":
        pixels = random.integers(0, 256, (20, 16, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).resize((16, 16)).save(content, "PNG")
    else:
        samples = random.normal(size=800) * 0.1
        soundfile.write(content, samples, 8000, format="WAV")
    held = {"bytes": content.getvalue(), "path": f"{number}"}
    return {task: held, "label": label}
