"""Bad input: to the command, one line, exit code 2, nothing written; to the library."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import train
from as_softmax_jax import (
    active_count_window,
    adaptive_multi_steps,
    as_softmax_loss,
    check_labels,
    compact_value_and_grad,
    heads,
    linear_as_softmax_loss,
    multi_label_as_softmax_loss,
    settled_ratio_window,
)
from train.__main__ import main

pytestmark = pytest.mark.standard_promotion(
    reason="optax's chains and flax's layers break under strict promotion"
)

CONFIG = """
from train.config import *

def get_config():
    return Config(
        task="features",
        data=DataConfig(source="files", train="train.csv", validation="validation.csv"),
        model=ModelConfig(width=4, depth=1),
        training=TrainingConfig(epochs=1, batch_size=8),
        mesh=MeshConfig(data=1),
    )
"""
TRAIN = "x,y,label\n1,2,a\n3,4,b\n"
VALIDATION = "x,y,label\n1,3,a\n"
TEXT = '{"text": "turn it on", "label": "on"}\n'
TEXT_FLAGS = [
    *("--config.task=text", "--config.data.train=train.jsonl"),
    "--config.data.validation=validation.jsonl",
]

# name -> (files that differ, flags, what the line says)
CASES = {
    "no such file": (
        {},
        ["--config.data.validation=valid.csv"],
        [
            *("valid.csv: no such file, the folder has", "validation.csv"),
            "--config.data.validation",
        ],
    ),
    "no such folder": (
        {},
        ["--config.data.path=/no/such/folder"],
        ["/no/such/folder/train.csv: no such file", "--config.data.path"],
    ),
    "empty split": (
        {"validation.csv": "x,y,label\n"},
        [],
        ["validation.csv", "the validation split is empty"],
    ),
    "no label column": (
        {},
        ["--config.data.label_column=class"],
        ["train.csv: no column `class`", "`x`, `y`, `label`"],
    ),
    "no feature column": (
        {"validation.csv": "x,label\n1,a\n"},
        [],
        ["validation.csv: no column `y`", "`x`, `label`"],
    ),
    "no text column": (
        {},
        ["--config.task=text"],
        ["train.csv: no column `text`", "`x`, `y`, `label`"],
    ),
    "label that training never has": (
        {"validation.csv": "x,y,label\n1,2,c\n1,2,c\n1,2,d\n"},
        [],
        ["validation split has label 'c' in 2 rows", "1 more", "training never has"],
    ),
    "labels of mixed types": (
        {
            "train.jsonl": '{"x": 1, "y": 2, "label": "a"}\n'
            '{"x": 1, "y": 2, "label": 7}\n'
        },
        ["--config.data.train=train.jsonl"],
        ["train.jsonl", "`label`", "1 str, 1 int"],
    ),
    "two columns of one name": (
        {"train.csv": "x,y,x,label\n1,2,3,a\n"},
        [],
        ["train.csv:1: two columns have the name `x`"],
    ),
    "a feature too large to square": (
        {"train.csv": "x,y,label\n1,2,a\n3,1e300,b\n"},
        [],
        ["train.csv", "`y` has values too large to square"],
    ),
    "a list as Python writes it": (
        {"train.csv": "text,label\nhello,\"['a', 'b']\"\n"},
        ["--config.task=multi_label"],
        ["train.csv: row 1 of column `label`", "as Python writes it", "'|'"],
    ),
    "no token that follows another": (
        {"train.jsonl": '{"text": "a b"}\n', "validation.jsonl": '{"text": "a"}\n'},
        [
            *("--config.task=next_token", "--config.data.train=train.jsonl"),
            "--config.data.validation=validation.jsonl",
        ],
        ["validation.jsonl: the validation split has no text of two tokens"],
    ),
    "a bad row where validation is held out": (
        {"train.csv": "x,y,label\n" + "1,2,a\n" * 19 + "1,,a\n"},
        ["--config.data.validation=", "--config.data.validation_share=0.5"],
        ["train.csv", "`y` has '' in row 20"],
    ),
    "text that is not UTF-8": (
        {"train.csv": "x,y,label\n1,2,caf\xe9\n".encode("latin-1")},
        [],
        ["train.csv:2: not UTF-8"],
    ),
    "a feature that is not a number": (
        {"train.csv": "x,y,label\n1,2,a\n3,four,b\n"},
        [],
        ["train.csv", "`y` has 'four' in row 2", "--config.data.feature_columns"],
    ),
    "a feature that is missing": (
        {"train.csv": "x,y,label\n1,,a\n3,4,b\n"},
        [],
        ["train.csv", "`y` has '' in row 1"],
    ),
    "a feature that is NaN": (
        {"train.csv": "x,y,label\n1,2,a\nnan,4,b\ninf,4,b\n"},
        [],
        ["train.csv", "`x` has 2 values that are not finite", "row 2"],
    ),
    "no feature at all": (
        {"train.csv": "label\na\nb\n"},
        [],
        ["train.csv: no column but the label"],
    ),
    "images out of a table": (
        {"train.csv": "image,label\n1,a\n", "validation.csv": "image,label\n1,a\n"},
        ["--config.task=image"],
        ["train.csv", "column `image`", "No such file", "row 1"],
    ),
    "config with a syntax error": (
        {"config.py": "def get_config():\n    return (\n"},
        [],
        ["config.py:2: syntax error"],
    ),
    "config that is not there": ({"config.py": None}, [], ["cannot read", "config.py"]),
    "unknown key": (
        {},
        ["--config.loss.dleta=0.1"],
        ["unknown key `loss.dleta`; did you mean `loss.delta`?"],
    ),
    "wrong type": ({}, ["--config.seed=one"], ["`seed`", "a whole number", "'one'"]),
    "delta out of range": ({}, ["--config.loss.delta=1.5"], ["`loss.delta`", "1.5"]),
    "delta below 0": ({}, ["--config.loss.delta=-0.1"], ["`loss.delta`", "-0.1"]),
    "unknown task": (
        {},
        ["--config.task=txt"],
        ["`task`: no 'txt'; did you mean `text`?"],
    ),
    "unknown loss": (
        {},
        ["--config.loss.name=as-softmax"],
        ["`loss.name`: no 'as-softmax'; did you mean `as_softmax`?"],
    ),
    "unknown model": ({}, ["--config.model.name=cnn"], ["no 'cnn'", "`mlp`"]),
    "more devices than there are": (
        {},
        ["--config.mesh.data=64"],
        ["64 x 1 devices", "`mesh.data`"],
    ),
    "more examples than are counted": (
        {},
        ["--config.training.epochs=2000000000"],
        ["`training.epochs`", "2^31"],
    ),
    # Files.
    "a row that is too long": (
        {"train.csv": "x,y,label\n1,2,a\n3,4,5,b\n"},
        [],
        ["train.csv:3: 4 values for 3 columns"],
    ),
    "a kind of file that is not known": (
        {"train.xlsx": "x,y,label\n1,2,a\n"},
        ["--config.data.train=train.xlsx"],
        ["train.xlsx: unknown kind of file", ".parquet"],
    ),
    "JSON that is none": (
        {"train.jsonl": '{"x": 1, "y": 2, "label": "a"}\n{"x": 1,\n'},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:2: not JSON"],
    ),
    "JSON that is no object": (
        {"train.jsonl": "[1, 2]\n"},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:1"],
    ),
    "Parquet that is cut short": (
        {"train.parquet": b"PAR1\x00\x00"},
        ["--config.data.train=train.parquet"],
        ["train.parquet"],
    ),
    "an empty file": ({"train.csv": ""}, [], ["train.csv"]),
    "unknown source": (
        {},
        ["--config.data.source=file"],
        ["`data.source`: no 'file'; did you mean `files`?"],
    ),
    "a class folder that is not there": (
        {},
        ["--config.data.source=folders", "--config.task=image"],
        ["no such folder", "--config.data.path"],
    ),
    "no room for a held-out share": (
        {},
        ["--config.data.validation=", "--config.data.validation_share=0.1"],
        ["0.1 of 2 training examples is 0", "--config.data.validation_share"],
    ),
    "TFDS without a name": (
        {},
        ["--config.data.source=tfds"],
        ["--config.data.name=imdb_reviews"],
    ),
    # Labels.
    "a missing label": (
        {"train.csv": "x,y,label\n1,2,a\n3,4,\n"},
        [],
        ["train.csv", "1 missing labels, the first in row 2"],
    ),
    "labels that are fractions": (
        {"train.jsonl": '{"x": 1, "y": 2, "label": 0.5}\n'},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl", "all text or all whole numbers", "1 float"],
    ),
    "several labels that are no list": (
        {"train.jsonl": '{"text": "a", "label": 7}\n'},
        ["--config.task=multi_label", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1", "it must be a list"],
    ),
    "several labels of which there are none": (
        {"train.jsonl": '{"text": "a", "label": []}\n'},
        ["--config.task=multi_label", "--config.data.train=train.jsonl"],
        ["train.jsonl", "no example has a label"],
    ),
    "tags of another number than words": (
        {"train.jsonl": '{"tokens": ["a", "b"], "label": ["O"]}\n'},
        ["--config.task=tokens", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1 has 2 tokens and 1 tags"],
    ),
    "tags that mark nothing": (
        {"train.jsonl": '{"tokens": ["a"], "label": ["PER"]}\n'},
        ["--config.task=tokens", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1", "tag 'PER'", "--config.data.tags=flat"],
    ),
    # Inputs.
    "text that is a number": (
        {"train.jsonl": '{"text": 5, "label": "a"}\n'},
        ["--config.task=text", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1 of text column `text` is 5; it must be text"],
    ),
    "words that are no list": (
        {"train.jsonl": '{"tokens": 3, "label": ["O"]}\n'},
        ["--config.task=tokens", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1 of column `tokens` is 3; it must be a list"],
    ),
    "a recording that is not there": (
        {
            "train.csv": "audio,label\na.wav,a\n",
            "validation.csv": "audio,label\na.wav,a\n",
        },
        ["--config.task=audio"],
        ["train.csv", "column `audio`", "row 1"],
    ),
    # Models.
    "a width that heads do not divide": (
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.width=10", "--config.model.heads=4"],
        ["`model.width`: 10 does not divide into 4 heads"],
    ),
    "a pretrained model without a folder": (
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.name=pretrained"],
        ["`model.name` 'pretrained'", "name a folder"],
    ),
    "a pretrained folder that is not there": (
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.pretrained=/no/such/encoder"],
        ["`model.pretrained`: no folder /no/such/encoder"],
    ),
    "a pretrained folder without a tokenizer": (
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.pretrained=configs"],
        ["tokenizer.json"],
    ),
    "a dtype that is not known": (
        {},
        ["--config.model.compute_dtype=float16"],
        ["`model.compute_dtype`: no 'float16'"],
    ),
    "dropout of everything": (
        {},
        ["--config.model.dropout=1.0"],
        ["`model.dropout`", "at most 0.99"],
    ),
    "a blocked head and a loss of all logits": (
        {},
        ["--config.model.head=blocked", "--config.loss.name=entmax"],
        ["`model.head`: blocked goes with as_softmax and softmax"],
    ),
    "a share of the classes of a dense head": (
        {},
        ["--config.model.class_share=0.5"],
        ["`model.class_share`", "`model.head` to blocked"],
    ),
    "a share of the classes that is none": (
        {},
        ["--config.model.class_share=0"],
        ["`model.class_share`", "at least"],
    ),
    # Losses and optimizers.
    "a loss for several labels": (
        {},
        ["--config.loss.name=multi_label_as_softmax"],
        ["`loss.name`: multi_label_as_softmax wants any number of labels"],
    ),
    "an option that the loss has not": (
        {},
        ["--config.loss.options.smoothing=0.1"],
        ["`loss.options`: as_softmax has no 'smoothing'"],
    ),
    "an option that must be whole": (
        {},
        ["--config.loss.name=sparse_softmax", "--config.loss.options.k=1.5"],
        ["`loss.options.k` must be whole; got 1.5"],
    ),
    "an option out of its range": (
        {},
        ["--config.loss.name=entmax", "--config.loss.options.alpha=0.5"],
        ["`loss`: entmax", "alpha"],
    ),
    "delta that is not a number": (
        {},
        ["--config.loss.delta=nan"],
        ["`loss.delta`", "a finite number"],
    ),
    "unknown optimizer": (
        {},
        ["--config.optimizer.name=adam"],
        ["`optimizer.name`: no 'adam'; did you mean `adamw`?"],
    ),
    "a learning rate below 0": (
        {},
        ["--config.optimizer.learning_rate=-1"],
        ["`optimizer.learning_rate`", "at least 0"],
    ),
    "an average that never moves": (
        {},
        ["--config.optimizer.ema_decay=1"],
        ["`optimizer.ema_decay`", "at most"],
    ),
    # Training.
    "no epoch": ({}, ["--config.training.epochs=0"], ["`training.epochs`", "least 1"]),
    "a metric that is not measured": (
        {},
        ["--config.training.metric=f2"],
        ["`training.metric`: no 'f2'"],
    ),
    "unknown window": (
        {},
        ["--config.training.window=ratio"],
        ["`training.window`: no 'ratio'"],
    ),
    "compact training and windows": (
        {},
        ["--config.training.mode=compact", "--config.training.window=settled_ratio"],
        ["`training.window`: compact batches", "set it to none"],
    ),
    "compact training of a loss that never is 0": (
        {},
        ["--config.training.mode=compact", "--config.loss.name=softmax"],
        ["`training.mode`: softmax never has a loss of exactly 0", "as_softmax"],
    ),
    "groups by length of what has none": (
        {},
        ["--config.training.group_by_length=true"],
        ["`training.group_by_length`: inputs of features are all of one size"],
    ),
    "augmentation of what is no image": (
        {},
        ["--config.data.augment=flip"],
        ["`data.augment`"],
    ),
    "no checkpoint to keep": (
        {},
        ["--config.training.keep_checkpoints=0"],
        ["`training.keep_checkpoints`", "at least 1"],
    ),
    # The command.
    "a flag that is none": ({}, ["--delta=0.1"], ["unknown flag '--delta=0.1'"]),
    "a key without a value": (
        {},
        ["--config.loss.delta"],
        ["unknown flag '--config.loss.delta'", "--config.loss.delta=0.2"],
    ),
    "a configuration that fails": (
        {"config.py": "def get_config():\n    return 1 / 0\n"},
        [],
        ["config.py:2: ZeroDivisionError"],
    ),
    "a configuration that returns something else": (
        {"config.py": "def get_config():\n    return {}\n"},
        [],
        ["config.py: define get_config()"],
    ),
    "a configuration with an unknown key": (
        {
            "config.py": "from train.config import *\n"
            "def get_config():\n    return Config(loss=LossConfig(dleta=0.1))\n"
        },
        [],
        ["config.py:3: unknown key `dleta`; did you mean `delta`?"],
    ),
    "a cache that cannot be written": (
        {},
        ["--compilation-cache=/proc/nothing"],
        ["--compilation-cache: cannot write to /proc/nothing"],
    ),
    "half of what tells a process of the others": (
        {},
        ["--coordinator=localhost:1234"],
        ["--coordinator, --num-processes and --process-id go together"],
    ),
    "a process that is none of them": (
        {},
        ["--coordinator=localhost:1", "--num-processes=2", "--process-id=2"],
        ["--process-id: 2 is none of 2 processes"],
    ),
}

LOGITS, LABELS = np.zeros((4, 3), np.float32), np.zeros(4, np.int32)
FEATURES, KERNEL = np.zeros((4, 2), np.float32), np.zeros((2, 3), np.float32)

# name -> (call, error, what the line says)
CALLS = {
    "logits that are whole numbers": (
        lambda: as_softmax_loss(LABELS[:, None], LABELS, delta=0.1),
        (TypeError, "`logits` must be floating point"),
    ),
    "logits without a class": (
        lambda: as_softmax_loss(LOGITS[:, :0], LABELS, delta=0.1),
        (ValueError, "at least one class"),
    ),
    "labels that are one-hot": (
        lambda: as_softmax_loss(LOGITS, LOGITS, delta=0.1),
        (TypeError, "`labels` must be integers"),
    ),
    "labels of another batch": (
        lambda: as_softmax_loss(LOGITS, LABELS[:3], delta=0.1),
        (ValueError, "(4,); got (3,)"),
    ),
    "delta above 1": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=1.5),
        (ValueError, "`delta`"),
    ),
    "weights in place of a mask": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=0.1, where=LOGITS[:, 0]),
        (TypeError, "`where` must be boolean"),
    ),
    "an axis that is not there": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=0.1, axis=2),
        (ValueError, "`axis` must be in [-2, 2)"),
    ),
    "an implementation that is none": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=0.1, implementation="cuda"),
        (ValueError, "cuda"),
    ),
    "class indices for several labels": (
        lambda: multi_label_as_softmax_loss(LOGITS, LABELS, delta=0.1),
        (ValueError, "`targets` must be multi-hot"),
    ),
    "a kernel of the other layout": (
        lambda: linear_as_softmax_loss(FEATURES, KERNEL.T, LABELS, delta=0.1),
        (ValueError, "`kernel` must have the shape (2, C)"),
    ),
    "too few classes for the labels": (
        lambda: heads.sample_classes(
            jax.random.key(0), LABELS, num_classes=9, num_sampled=3
        ),
        (ValueError, "`num_sampled` must be in [4, 9]"),
    ),
    "windows without a length": (
        lambda: adaptive_multi_steps(
            optax.sgd(0.1), settled_ratio_window(), max_mini_steps=0
        ),
        (ValueError, "`max_mini_steps` must be an integer of at least 1"),
    ),
    "a window of no active example": (
        lambda: active_count_window(0),
        (ValueError, "`target` must be an integer of at least 1"),
    ),
    "capacities that do not increase": (
        lambda: compact_value_and_grad(lambda p, b: b, capacities=(8, 4)),
        (ValueError, "`capacities`"),
    ),
    "a label that is no class": (
        lambda: check_labels(LABELS + 3, num_classes=3),
        (ValueError, "3"),
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_the_library_refuses(case):
    call, (error, words) = CALLS[case]
    with pytest.raises(error, match=re.escape(words)) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@pytest.fixture
def run(tmp_path, capsys):
    """Returns a function: files and flags -> exit code, standard error, workdir."""

    def run(files, flags):
        contents = {
            "config.py": CONFIG,
            "train.csv": TRAIN,
            "validation.csv": VALIDATION,
        }
        for name, content in (contents | files).items():
            if content is not None:
                data = content.encode() if isinstance(content, str) else content
                (tmp_path / name).write_bytes(data)
        arguments = [f"--config={tmp_path / 'config.py'}"]
        arguments += [f"--workdir={tmp_path / 'run'}"]
        arguments += [f"--config.data.path={tmp_path}", *flags]
        code = main(arguments)
        return code, capsys.readouterr().err, tmp_path / "run"

    return run


@pytest.mark.parametrize("case", CASES)
def test_refuses(run, case):
    files, flags, words = CASES[case]
    code, stderr, workdir = run(files, flags)
    assert code == 2
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    for word in words:
        assert word in stderr
    assert not workdir.exists()


def test_refuses_the_workdir_of_another_configuration(run):
    code, _, workdir = run({}, [])
    assert code == 0
    held = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    code, stderr, _ = run({}, ["--config.loss.delta=0.2"])
    assert code == 2
    assert "holds a run of another configuration" in stderr
    assert "loss.delta: 0.1 there, 0.2 asked for" in stderr
    assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == held


def test_refuses_a_workdir_that_is_a_file(run, tmp_path):
    (tmp_path / "run").write_text("mine")
    code, stderr, workdir = run({}, [])
    assert code == 2
    assert "is a file; name a folder" in stderr
    assert workdir.read_text() == "mine"


def test_refuses_a_workdir_under_a_file(run, tmp_path):
    code, stderr, _ = run({}, [f"--workdir={tmp_path / 'train.csv' / 'run'}"])
    assert code == 2
    assert "cannot write to" in stderr
    assert stderr.count("\n") == 1


def test_names_the_extra_when_a_package_is_missing(tmp_path):
    code = (
        "import sys; sys.modules['grain'] = None\n"
        "from train.__main__ import main\n"
        f"sys.exit(main(['--config=configs/digits.py', '--workdir={tmp_path}/run']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(train.__file__).parents[1],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: the trainer needs grain: pip install 'as_softmax_jax[train]'\n"
    )
    assert not (tmp_path / "run").exists()
