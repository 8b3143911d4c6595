"""What the commands refuse, a row a case: files, flags, and parts of the line."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import pyarrow
import pyarrow.parquet

PNG = io.BytesIO()
PIL.Image.new("L", (4, 4)).save(PNG, "PNG")
PNG = PNG.getvalue()
GIT_LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
Content = str | bytes | Callable[[Path], None] | None


class Case(NamedTuple):
    """A command that must end with `code`, one line, and all files as they were."""

    files: Mapping[str, Content]  # those that differ from the usual ones; None: absent
    flags: Sequence[str]  # {folder} is where the files are
    words: Sequence[str]  # parts of the line
    command: str = "train"
    code: int = 2


def missing_path(path):
    paths = pyarrow.array(["a.png", None]).dictionary_encode()
    table = pyarrow.table({"image": paths, "label": ["a", "b"]})
    pyarrow.parquet.write_table(table, path)


def two_columns_of_one_name(path):
    columns = [pyarrow.array([1.0]), pyarrow.array([2.0]), pyarrow.array(["a"])]
    pyarrow.parquet.write_table(pyarrow.table(columns, ["x", "x", "label"]), path)


TRAIN = "x,y,label\n1,2,a\n3,4,b\n"
VALIDATION = "x,y,label\n1,3,a\n"
TEXT = '{"text": "turn it on", "label": "on"}\n'
TEXT_FLAGS = [
    *("--config.task=text", "--config.data.train=train.jsonl"),
    "--config.data.validation=validation.jsonl",
]

CASES = {
    "no such file": Case(
        {},
        ["--config.data.validation=valid.csv"],
        [
            *("valid.csv: no such file, the folder has", "validation.csv"),
            "--config.data.validation",
        ],
    ),
    "no such folder": Case(
        {},
        ["--config.data.path=/no/such/folder"],
        ["/no/such/folder/train.csv: no such file", "--config.data.path"],
    ),
    "empty split": Case(
        {"validation.csv": "x,y,label\n"},
        [],
        ["validation.csv", "the validation split is empty"],
    ),
    "no label column": Case(
        {},
        ["--config.data.label_column=class"],
        ["train.csv: no column `class`", "`x`, `y`, `label`"],
    ),
    "no feature column": Case(
        {"validation.csv": "x,label\n1,a\n"},
        [],
        ["validation.csv: no column `y`", "`x`, `label`"],
    ),
    "no text column": Case(
        {},
        ["--config.task=text"],
        ["train.csv: no column `text`", "`x`, `y`, `label`"],
    ),
    "label that training never has": Case(
        {"validation.csv": "x,y,label\n1,2,c\n1,2,c\n1,2,d\n"},
        [],
        ["validation split has label 'c' in 2 rows", "1 more", "training never has"],
    ),
    "labels of mixed types": Case(
        {
            "train.jsonl": '{"x": 1, "y": 2, "label": "a"}\n'
            '{"x": 1, "y": 2, "label": 7}\n'
        },
        ["--config.data.train=train.jsonl"],
        ["train.jsonl", "`label`", "1 str, 1 int"],
    ),
    "two columns of one name": Case(
        {"train.csv": "x,y,x,label\n1,2,3,a\n"},
        [],
        ["train.csv:1: two columns have the name `x`"],
    ),
    "a feature too large to square": Case(
        {"train.csv": "x,y,label\n1,2,a\n3,1e300,b\n"},
        [],
        ["train.csv", "`y` has values too large to square"],
    ),
    "a list as Python writes it": Case(
        {"train.csv": "text,label\nhello,\"['a', 'b']\"\n"},
        ["--config.task=multi_label"],
        ["train.csv: row 1 of column `label`", "as Python writes it", "'|'"],
    ),
    "no token that follows another": Case(
        {"train.jsonl": '{"text": "a b"}\n', "validation.jsonl": '{"text": "a"}\n'},
        [
            *("--config.task=next_token", "--config.data.train=train.jsonl"),
            "--config.data.validation=validation.jsonl",
        ],
        ["validation.jsonl: the validation split has no text of two tokens"],
    ),
    "a bad row where validation is held out": Case(
        {"train.csv": "x,y,label\n" + "1,2,a\n" * 19 + "1,,a\n"},
        ["--config.data.validation=", "--config.data.validation_share=0.5"],
        ["train.csv", "`y` has '' in row 20"],
    ),
    "text that is not UTF-8": Case(
        {"train.csv": "x,y,label\n1,2,caf\xe9\n".encode("latin-1")},
        [],
        ["train.csv:2: not UTF-8"],
    ),
    "a feature that is not a number": Case(
        {"train.csv": "x,y,label\n1,2,a\n3,four,b\n"},
        [],
        ["train.csv", "`y` has 'four' in row 2", "--config.data.feature_columns"],
    ),
    "a feature that is missing": Case(
        {"train.csv": "x,y,label\n1,,a\n3,4,b\n"},
        [],
        ["train.csv", "`y` has '' in row 1"],
    ),
    "a feature that is NaN": Case(
        {"train.csv": "x,y,label\n1,2,a\nnan,4,b\ninf,4,b\n"},
        [],
        ["train.csv", "`x` has 2 values that are not finite", "row 2"],
    ),
    "no feature at all": Case(
        {"train.csv": "label\na\nb\n"},
        [],
        ["train.csv: no column but the label"],
    ),
    "images out of a table": Case(
        {"train.csv": "image,label\n1,a\n", "validation.csv": "image,label\n1,a\n"},
        ["--config.task=image"],
        ["train.csv", "column `image`", "No such file", "row 1"],
    ),
    "config with a syntax error": Case(
        {"config.py": "def get_config():\n    return (\n"},
        [],
        ["config.py:2: syntax error"],
    ),
    "config that is not there": Case(
        {"config.py": None}, [], ["cannot read", "config.py"]
    ),
    "unknown key": Case(
        {},
        ["--config.loss.dleta=0.1"],
        ["unknown key `loss.dleta`; did you mean `loss.delta`?"],
    ),
    "wrong type": Case(
        {}, ["--config.seed=one"], ["`seed`", "a whole number", "'one'"]
    ),
    "delta out of range": Case(
        {}, ["--config.loss.delta=1.5"], ["`loss.delta`", "1.5"]
    ),
    "delta below 0": Case({}, ["--config.loss.delta=-0.1"], ["`loss.delta`", "-0.1"]),
    "both margins": Case(
        {},
        ["--config.loss.delta=0.1", "--config.loss.logit_margin=2"],
        ["`loss.logit_margin` and `loss.delta`: a loss takes one margin; leave out"],
    ),
    "a margin in logits below 0": Case(
        {}, ["--config.loss.logit_margin=-1"], ["`loss.logit_margin`", "at least 0"]
    ),
    "a margin of a class that there is not": Case(
        {},
        ["--config.loss.class_margins.ann=0.5"],
        ["`loss.class_margins`: no class 'ann'; "],
    ),
    "margins of classes for a loss without": Case(
        {},
        ["--config.loss.name=softmax", "--config.loss.class_margin_power=0.5"],
        ["`loss.class_margin_power`: softmax has no margin; leave it out"],
    ),
    "unknown task": Case(
        {},
        ["--config.task=txt"],
        ["`task`: no 'txt'; did you mean `text`?"],
    ),
    "unknown loss": Case(
        {},
        ["--config.loss.name=as-softmax"],
        ["`loss.name`: no 'as-softmax'; did you mean `as_softmax`?"],
    ),
    "unknown model": Case({}, ["--config.model.name=cnn"], ["no 'cnn'", "`mlp`"]),
    "more devices than there are": Case(
        {},
        ["--config.mesh.data=64"],
        ["64 x 1 devices", "`mesh.data`"],
    ),
    "more examples than are counted": Case(
        {},
        ["--config.training.epochs=2000000000"],
        ["`training.epochs`", "2^31"],
    ),
    # Files.
    "a row that is too long": Case(
        {"train.csv": "x,y,label\n1,2,a\n3,4,5,b\n"},
        [],
        ["train.csv:3: 4 values for 3 columns"],
    ),
    "a kind of file that is not known": Case(
        {"train.xlsx": "x,y,label\n1,2,a\n"},
        ["--config.data.train=train.xlsx"],
        ["train.xlsx: unknown kind of file", ".parquet"],
    ),
    "JSON that is none": Case(
        {"train.jsonl": '{"x": 1, "y": 2, "label": "a"}\n{"x": 1,\n'},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:2: not JSON"],
    ),
    "JSON that is no object": Case(
        {"train.jsonl": "[1, 2]\n"},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:1"],
    ),
    "Parquet that is cut short": Case(
        {"train.parquet": b"PAR1\x00\x00"},
        ["--config.data.train=train.parquet"],
        ["train.parquet"],
    ),
    "an empty file": Case({"train.csv": ""}, [], ["train.csv"]),
    "unknown source": Case(
        {},
        ["--config.data.source=file"],
        ["`data.source`: no 'file'; did you mean `files`?"],
    ),
    "a class folder that is not there": Case(
        {},
        ["--config.data.source=folders", "--config.task=image"],
        ["no such folder", "--config.data.path"],
    ),
    "no room for a held-out share": Case(
        {},
        ["--config.data.validation=", "--config.data.validation_share=0.1"],
        ["0.1 of 2 training examples is 0", "--config.data.validation_share"],
    ),
    "TFDS without a name": Case(
        {},
        ["--config.data.source=tfds"],
        ["--config.data.name=imdb_reviews"],
    ),
    # Labels.
    "a missing label": Case(
        {"train.csv": "x,y,label\n1,2,a\n3,4,\n"},
        [],
        ["train.csv", "1 missing labels, the first in row 2"],
    ),
    "labels that are fractions": Case(
        {"train.jsonl": '{"x": 1, "y": 2, "label": 0.5}\n'},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl", "all text or all whole numbers", "1 float"],
    ),
    "several labels that are no list": Case(
        {"train.jsonl": '{"text": "a", "label": 7}\n'},
        ["--config.task=multi_label", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1", "it must be a list"],
    ),
    "several labels of which there are none": Case(
        {"train.jsonl": '{"text": "a", "label": []}\n'},
        ["--config.task=multi_label", "--config.data.train=train.jsonl"],
        ["train.jsonl", "no example has a label"],
    ),
    "tags of another number than words": Case(
        {"train.jsonl": '{"tokens": ["a", "b"], "label": ["O"]}\n'},
        ["--config.task=tokens", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1 has 2 tokens and 1 tags"],
    ),
    "tags that mark nothing": Case(
        {"train.jsonl": '{"tokens": ["a"], "label": ["PER"]}\n'},
        ["--config.task=tokens", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1", "tag 'PER'", "--config.data.tags=flat"],
    ),
    # Inputs.
    "text that is a number": Case(
        {"train.jsonl": '{"text": 5, "label": "a"}\n'},
        ["--config.task=text", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1 of text column `text` is 5; it must be text"],
    ),
    "words that are no list": Case(
        {"train.jsonl": '{"tokens": 3, "label": ["O"]}\n'},
        ["--config.task=tokens", "--config.data.train=train.jsonl"],
        ["train.jsonl: row 1 of column `tokens` is 3; it must be a list"],
    ),
    "a recording that is not there": Case(
        {
            "train.csv": "audio,label\na.wav,a\n",
            "validation.csv": "audio,label\na.wav,a\n",
        },
        ["--config.task=audio"],
        ["train.csv", "column `audio`", "row 1"],
    ),
    # Models.
    "a width that heads do not divide": Case(
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.width=10", "--config.model.heads=4"],
        ["`model.width`: 10 does not divide into 4 heads"],
    ),
    "a pretrained model without a folder": Case(
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.name=pretrained"],
        ["`model.name` 'pretrained'", "name a folder"],
    ),
    "a pretrained folder that is not there": Case(
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.pretrained=/no/such/encoder"],
        ["`model.pretrained`: no folder /no/such/encoder"],
    ),
    "a pretrained folder without a tokenizer": Case(
        {"train.jsonl": TEXT, "validation.jsonl": TEXT},
        [*TEXT_FLAGS, "--config.model.pretrained=configs"],
        ["tokenizer.json"],
    ),
    "a dtype that is not known": Case(
        {},
        ["--config.model.compute_dtype=float16"],
        ["`model.compute_dtype`: no 'float16'"],
    ),
    "dropout of everything": Case(
        {},
        ["--config.model.dropout=1.0"],
        ["`model.dropout`", "at most 0.99"],
    ),
    "a blocked head and a loss of all logits": Case(
        {},
        ["--config.model.head=blocked", "--config.loss.name=entmax"],
        ["`model.head`: blocked goes with as_softmax, softmax"],
    ),
    "a share of the classes of a dense head": Case(
        {},
        ["--config.model.class_share=0.5"],
        ["`model.class_share`", "`model.head` to blocked"],
    ),
    "a share of the classes that is none": Case(
        {},
        ["--config.model.class_share=0"],
        ["`model.class_share`", "at least"],
    ),
    # Losses and optimizers.
    "a loss for several labels": Case(
        {},
        ["--config.loss.name=multi_label_as_softmax"],
        ["`loss.name`: multi_label_as_softmax wants any number of labels"],
    ),
    "an option that the loss has not": Case(
        {},
        ["--config.loss.options.smoothing=0.1"],
        ["`loss.options`: as_softmax has no 'smoothing'"],
    ),
    "an option that must be whole": Case(
        {},
        ["--config.loss.name=sparse_softmax", "--config.loss.options.k=1.5"],
        ["`loss.options.k` must be whole; got 1.5"],
    ),
    "an option out of its range": Case(
        {},
        ["--config.loss.name=entmax", "--config.loss.options.alpha=0.5"],
        ["`loss`: entmax", "alpha"],
    ),
    "delta that is not a number": Case(
        {},
        ["--config.loss.delta=nan"],
        ["`loss.delta`", "a finite number"],
    ),
    "unknown optimizer": Case(
        {},
        ["--config.optimizer.name=adam"],
        ["`optimizer.name`: no 'adam'; did you mean `adamw`?"],
    ),
    "a learning rate below 0": Case(
        {},
        ["--config.optimizer.learning_rate=-1"],
        ["`optimizer.learning_rate`", "at least 0"],
    ),
    "an average that never moves": Case(
        {},
        ["--config.optimizer.ema_decay=1"],
        ["`optimizer.ema_decay`", "at most"],
    ),
    # Training.
    "no epoch": Case(
        {}, ["--config.training.epochs=0"], ["`training.epochs`", "least 1"]
    ),
    "a metric that is not measured": Case(
        {},
        ["--config.training.metric=f2"],
        ["`training.metric`: no 'f2'"],
    ),
    "unknown window": Case(
        {},
        ["--config.training.window=ratio"],
        ["`training.window`: no 'ratio'"],
    ),
    "compact training and windows": Case(
        {},
        ["--config.training.mode=compact", "--config.training.window=settled_ratio"],
        ["`training.window`: compact batches", "set it to none"],
    ),
    "compact training of a loss that never is 0": Case(
        {},
        ["--config.training.mode=compact", "--config.loss.name=softmax"],
        ["`training.mode`: softmax never has a loss of exactly 0", "as_softmax"],
    ),
    "groups by length of what has none": Case(
        {},
        ["--config.training.group_by_length=true"],
        ["`training.group_by_length`: inputs of features are all of one size"],
    ),
    "augmentation of what is no image": Case(
        {},
        ["--config.data.augment=flip"],
        ["`data.augment`"],
    ),
    "no checkpoint to keep": Case(
        {},
        ["--config.training.keep_checkpoints=0"],
        ["`training.keep_checkpoints`", "at least 1"],
    ),
    # The command.
    "a flag that is none": Case({}, ["--delta=0.1"], ["unknown flag '--delta=0.1'"]),
    "a key without a value": Case(
        {},
        ["--config.loss.delta"],
        ["unknown flag '--config.loss.delta'", "--config.loss.delta=0.2"],
    ),
    "a configuration that fails": Case(
        {"config.py": "def get_config():\n    return 1 / 0\n"},
        [],
        ["config.py:2: ZeroDivisionError"],
    ),
    "a configuration that returns something else": Case(
        {"config.py": "def get_config():\n    return {}\n"},
        [],
        ["config.py: define get_config()"],
    ),
    "a configuration with an unknown key": Case(
        {
            "config.py": "from train.config import *\n"
            "def get_config():\n    return Config(loss=LossConfig(dleta=0.1))\n"
        },
        [],
        ["config.py:3: unknown key `dleta`; did you mean `delta`?"],
    ),
    "a cache that cannot be written": Case(
        {},
        ["--compilation-cache=/proc/nothing"],
        ["--compilation-cache: cannot write to /proc/nothing"],
    ),
    "half of what tells a process of the others": Case(
        {},
        ["--coordinator=localhost:1234"],
        ["--coordinator, --num-processes and --process-id go together"],
    ),
    "a process that is none of them": Case(
        {},
        ["--coordinator=localhost:1", "--num-processes=2", "--process-id=2"],
        ["--process-id: 2 is none of 2 processes"],
    ),
    # CSV: its first line, what parts it, its quotes.
    "values parted by semicolons": Case(
        {"train.csv": "x;y;label\n1,5;2;a\n"},
        [],
        ["train.csv:1: ", "one column, 'x;y;label'", "parted by semicolons"],
    ),
    "values parted by semicolons, without a comma": Case(
        {"train.csv": "x;y;label\n1;2;a\n"},
        [],
        ["train.csv:1: ", "one column, 'x;y;label'", "parted by semicolons"],
    ),
    "values parted by tabs": Case(
        {"train.csv": "x\ty\tlabel\n1\t2\ta\n"},
        [],
        ["train.csv:1: ", r"'x\ty\tlabel'", "parted by tabs"],
    ),
    "values parted by bars": Case(
        {"train.csv": "x|label\n1|a\n"}, [], ["'x|label'", "parted by bars"]
    ),
    "a first line for a spreadsheet": Case(
        {"train.csv": "sep=;\nx;label\n1;a\n"}, [], ["train.csv:1: ", "'sep=;'"]
    ),
    "a first line for a spreadsheet, with a comma": Case(
        {"train.csv": "sep=,\nx,y,label\n1,2,a\n"},
        [],
        ["train.csv:1: 'sep=' is for spreadsheets; remove the line"],
    ),
    "a title in the first line": Case(
        {"train.csv": "My table\nx,y,label\n1,2,a\n"},
        [],
        ["train.csv:2: 3 values for 1 columns", "the first line names ['My table']"],
    ),
    "a first line of spaces": Case(
        {"train.csv": "  \nx,y,label\n"}, [], ["train.csv:1: the first line is empty"]
    ),
    "an empty first line": Case(
        {"train.csv": "\nx,y,label\n1,2,a\n"},
        [],
        ["train.csv:1: the first line is empty", "must name the columns"],
    ),
    "a first line of commas alone": Case(
        {"train.csv": ",,\n1,2,a\n"}, [], ["train.csv:1: the first line is empty"]
    ),
    "no first line with names": Case(
        {"train.csv": "1,2,a\n3,4,b\n"},
        [],
        ["no column `label`", "`1`, `2`, `a`", "as its first line must name them"],
    ),
    "a quote that never closes": Case(
        {"train.csv": 'x,y,label\n1,2,a\n1,"2,a\n' + "1,2,a\n" * 50},
        [],
        ["train.csv:3: not CSV", "a quote opens here"],
    ),
    "a quote that never closes after one that does": Case(
        {"train.csv": 'x,y,label\n1,2,"a\nb"\n"say ""\nit""",2,"a\n1,2,a\n'},
        [],
        ["train.csv:5: not CSV", "a quote opens here"],
    ),
    "a quote that closes in another row": Case(
        {"train.csv": 'x,y,label\n1,"2,a\n1,2,a\n1,"2",a\n'},
        [],
        ["train.csv:2: not CSV", "a quote opens here"],
    ),
    "a quote in the last line": Case(
        {"train.csv": 'x,y,label\n1,2,a\n1,2,"a'}, [], ["train.csv:3: not CSV"]
    ),
    "a long row over several lines": Case(
        {"train.csv": 'x,y,label\n1,2,3,"a\nb"\n'},
        [],
        ["train.csv:2: 4 values for 3 columns"],
    ),
    "a space in a column's name": Case(
        {"train.csv": "x,y, label\n1,2,a\n"},
        [],
        ["no column `label`", "` label`", "differs only in outer spaces"],
    ),
    "two spaces in a column's name": Case(
        {"train.csv": "x,the  label\n1,a\n"},
        ["--config.data.label_column=the label"],
        ["no column `the label`", "`the  label`", "differs only in spaces"],
    ),
    "a character without width in a column's name": Case(
        {"train.csv": "x,y,la\u200bbel\n1,2,a\n"},
        [],
        ["no column `label`", r"`la\u200bbel`", "cannot be seen"],
    ),
    "a no-break space in a column's name": Case(
        {"train.csv": "x,the\xa0label\n1,a\n"},
        ["--config.data.label_column=the label"],
        [r"`the\xa0label`", "differs only in spaces"],
    ),
    "a line break in a column's name": Case(
        {"train.csv": 'x,"la\nbel"\n1,a\n'}, [], [r"`la\nbel`"]
    ),
    "a column's name in capitals": Case(
        {"train.csv": "x,y,Label\n1,2,a\n"}, [], ["`Label`", "differs only in case"]
    ),
    "thousands of columns": Case(
        {"train.csv": ",".join(f"c{k}" for k in range(5000)) + "\n1" + ",1" * 4999},
        [],
        ["no column `label`; it has `c0`, `c1`", "`c39` and 4960 more"],
    ),
    "UTF-16": Case(
        {"train.csv": TRAIN.encode("utf-16")}, [], ["train.csv:1: not UTF-8", "UTF-16"]
    ),
    "UTF-16 without its mark": Case(
        {"train.csv": TRAIN.encode("utf-16-le")}, [], ["train.csv:1: not UTF-8"]
    ),
    # JSON Lines.
    "JSON that is nested too deep": Case(
        {"train.jsonl": '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}\n"},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:1: cannot be read: nested too deep"],
    ),
    "a number of thousands of digits": Case(
        {"train.jsonl": '{"x": 1' + "0" * 5000 + "}\n"},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:1: cannot be read", "digits"],
    ),
    "two values of one name": Case(
        {"train.jsonl": '{"x": 1, "y": 2, "x": 3, "label": "a"}\n'},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:1: two values have the name `x`"],
    ),
    "one array of all rows": Case(
        {"train.jsonl": '[\n{"x": 1, "label": "a"}\n]\n'},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:1: not JSON", "one object a line"],
    ),
    "objects over several lines": Case(
        {"train.jsonl": '{\n"x": 1,\n"label": "a"\n}\n'},
        ["--config.data.train=train.jsonl"],
        ["train.jsonl:1: not JSON", "one object a line, not objects over several"],
    ),
    # Files that are something else.
    "a file where a folder of classes is meant": Case(
        {"train": "mine"},
        [
            *("--config.data.source=folders", "--config.task=image"),
            "--config.data.train=train",
        ],
        ["no such folder, it is a file", "--config.data.source=files"],
    ),
    "a file where the data folder is meant": Case(
        {"data": "mine"}, ["--config.data.path={folder}/data"], ["data is a file"]
    ),
    "a pretrained tokenizer that Git LFS has not fetched": Case(
        {
            "train.jsonl": TEXT,
            "validation.jsonl": TEXT,
            "encoder/config.json": "{}",
            "encoder/model.safetensors": GIT_LFS,
            "encoder/tokenizer.json": GIT_LFS,
        },
        [*TEXT_FLAGS, "--config.model.pretrained={folder}/encoder"],
        ["Git LFS pointer", "git lfs pull"],
    ),
    "images that Git LFS has not fetched": Case(
        {"train/a/1.png": GIT_LFS, "validation/a/1.png": GIT_LFS},
        [
            *("--config.data.source=folders", "--config.task=image"),
            *("--config.data.train=train", "--config.data.validation=validation"),
        ],
        ["a/1.png, row 1", "Git LFS pointer", "git lfs pull"],
    ),
    "an image that git-annex has not fetched": Case(
        {
            "train/a/1.png": "/annex/objects/SHA256E-s5--0.png\n",
            "validation/a/1.png": "",
        },
        [
            *("--config.data.source=folders", "--config.task=image"),
            *("--config.data.train=train", "--config.data.validation=validation"),
        ],
        ["git-annex pointer", "git annex get"],
    ),
    "Parquet with two columns of one name": Case(
        {"train.parquet": two_columns_of_one_name},
        ["--config.data.train=train.parquet"],
        ["train.parquet: two columns have the name `x`; rename one"],
    ),
    "a missing path among categories": Case(
        {"train.parquet": missing_path, "a.png": PNG},
        ["--config.task=image", "--config.data.train=train.parquet"],
        ["train.parquet: 1 of 2 files cannot be decoded", "row 2: None is no file"],
    ),
    # Labels of one split in another form than in training.
    "numbers in training and text in validation": Case(
        {
            "train.csv": "x,y,label\n1,2,0\n3,4,1\n",
            "validation.jsonl": '{"x": 1, "y": 2, "label": "0"}\n',
        },
        ["--config.data.validation=validation.jsonl"],
        [
            "label '0'",
            "training never has",
            "the whole number 0 there, the text '0' here",
        ],
    ),
    "text in training and numbers in validation": Case(
        {
            "train.csv": "x,y,label\n1,2,0\n3,4,one\n",
            "validation.jsonl": '{"x": 1, "y": 2, "label": 0}\n',
        },
        ["--config.data.validation=validation.jsonl"],
        ["label 0 in", "the text '0' there, the whole number 0 here"],
    ),
    "numbers in training and fractions in validation": Case(
        {"validation.csv": "x,y,label\n1,2,1.0\n", "train.csv": "x,label,y\n1,1,2\n"},
        [],
        ["label '1.0'", "the whole number 1 there, the text '1.0' here"],
    ),
    "two Unicode forms": Case(
        {
            "train.csv": "x,y,label\n1,2,caf\u00e9\n",
            "validation.csv": "x,y,label\n1,2,cafe\u0301\n",
        },
        [],
        [r"'caf\xe9'", r"'cafe\u0301' differs only in Unicode form (NFC)"],
    ),
    "another case": Case(
        {"validation.csv": "x,y,label\n1,2,A\n"},
        [],
        ["label 'A'", "training has 'a', from which 'A' differs only in case"],
    ),
    "a byte-order mark in a label": Case(
        {"validation.csv": "x,y,label\n1,2,\ufeffa\n"},
        [],
        [r"'\ufeffa' differs only in characters that cannot be seen"],
    ),
    "a letter of another alphabet": Case(
        {"validation.csv": "x,y,label\n1,2,\u0430\n"},
        [],
        [r"'\u0430' differs only in letters of another alphabet"],
    ),
    "too few examples for all labels": Case(
        {"train.csv": "x,y,label\n1,2,a\n1,2,b\n1,2,c\n"},
        ["--config.data.train_examples=2"],
        ["train.csv: `data.train_examples`=2", "each of 3 labels"],
    ),
    "a column a class": Case(
        {"train.csv": "text,joy,fear\nhello,1,0\nbye,0,1\n"},
        ["--config.task=multi_label"],
        [
            "train.csv: no column `label`",
            "`joy`, `fear` hold 0 and 1",
            "label_columns=joy,fear",
        ],
    ),
    # Predicting and evaluating.
    "predicting a folder": Case(
        {"photos/1.png": "mine"},
        ["--input={folder}/photos"],
        [
            "photos: a folder, where a .parquet, .jsonl, .csv, .tsv file is meant",
            "paths",
        ],
        command="predict",
    ),
    "predicting into a folder": Case(
        {"in.csv": "x,y\n1,2\n", "answers/mine": "mine"},
        ["--input={folder}/in.csv", "--output={folder}/answers"],
        ["--output", "answers is a folder"],
        command="predict",
    ),
    "predicting into the input": Case(
        {"in.jsonl": '{"x": 1, "y": 2}\n'},
        ["--input={folder}/in.jsonl", "--output={folder}/in.jsonl"],
        ["--output", "is the --input, which would be lost"],
        command="predict",
    ),
    "evaluating a split that is a folder": Case(
        {"held/1.png": "mine"},
        ["--split=test", "--config.data.test=held"],
        ["held: a folder, where a", "--config.data.test"],
        command="evaluate",
    ),
}
