"""Small runs of every kind of model, for the tests of what leaves the trainer."""

import json

import numpy as np
from small_inputs import write_data

from train.config import Config, with_flags
from train.loop import train_and_evaluate

# The name of a kind -> its task, the flags that make it, and inputs to answer.
TEXTS = ["turn on lamp", "off", "turn off the fan please", "fan " * 20, ""]
ROWS = [{"x": 0.2, "y": 0.1}, {"x": "1e0", "y": 3}, {"x": -2, "y": 0.5}]
MIXED = [{"age": "3", "port": "S"}, {"age": None, "port": "Q"}, {"age": 2, "port": ""}]
_SMALL = ["model.width=8", "model.depth=1", "model.heads=2", "data.max_length=8"]
_PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
_NOISE = np.random.default_rng(1).normal(size=(3, 800)).astype(np.float32) * 0.1
KINDS = {
    "text": ("text", [], TEXTS),
    "multi_label": (
        "multi_label",
        ["loss.name=multi_label_as_softmax", "data.label_column=labels"],
        TEXTS,
    ),
    "tokens": (
        "tokens",
        ["data.label_column=tags"],
        [text.split() for text in TEXTS[:-1]],
    ),
    "next_token": ("next_token", [], TEXTS),
    "encoder": ("text", ["pretrained"], TEXTS),
    "encoder_cls": ("text", ["pretrained", "model.pooling=cls"], TEXTS),
    "encoder_labels": (
        "multi_label",
        [
            *("pretrained", "loss.name=multi_label_as_softmax"),
            "data.label_column=labels",
        ],
        TEXTS,
    ),
    "encoder_tags": (
        "tokens",
        ["pretrained", "data.label_column=tags"],
        [text.split() for text in TEXTS[:-1]],
    ),
    "cnn": ("image", ["data.image_size=16"], list(_PIXELS)),
    "resnet": ("image", ["model.name=resnet18"], list(_PIXELS)),
    "audio": ("audio", ["data.sample_rate=8000", "data.seconds=0.1"], list(_NOISE)),
    "table": ("features", ["data.feature_columns=x,y"], ROWS),
    "mixed": ("features", ["data.mixed_columns=true"], MIXED),
    "ordinal": ("ordinal_features", ["loss.name=ordinal_cross_entropy"], ROWS),
    "cosines": ("features", ["loss.name=am_softmax", "loss.options.scale=8"], ROWS),
    "distances": ("features", ["loss.name=dismax"], ROWS),
    "waves": ("ordinal_features", ["loss.name=softmax", "model.head=fourier"], ROWS),
    "sets": ("features", ["loss.name=two_head_average_k"], ROWS),
}
# Rows by their number, of the tables that have columns of their own.
_TABLES = {
    "mixed": lambda k: {"age": k % 5 or None, "port": "SCQ"[k % 3], "label": k % 2},
    "ordinal": lambda k: {"x": k % 3 + k / 20, "y": k / 12, "label": k % 3},
    "waves": lambda k: {"x": k % 3 + k / 20, "y": k / 12, "label": k % 3},
}


def train_kind(kind, folder, encoder, *more):
    """Trains a small run of a kind; returns its folder and inputs to answer.

    `more` are keys and values of the configuration, after those of the kind.
    """
    task, flags, inputs = KINDS[kind]
    data = folder / "data"
    if kind in _TABLES:
        _write_table(data, _TABLES[kind])
    else:
        write_data(task, data)
    if "pretrained" in flags:
        flags = [*flags[1:], f"model.pretrained={encoder}"]
    flags = [
        *(f"data.path={data}", "data.source=files", "training.batch_size=8"),
        *("training.epochs=2", "mesh.data=1", "optimizer.learning_rate=0.02"),
        *(*_SMALL, *flags, *more),
    ]
    config = with_flags(Config(task=task), [f"--config.{flag}" for flag in flags])
    train_and_evaluate(config, folder / "run", quiet=True)
    return folder / "run", inputs


def _write_table(folder, row):
    folder.mkdir()
    lines = "\n".join(json.dumps(row(k)) for k in range(12))
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
