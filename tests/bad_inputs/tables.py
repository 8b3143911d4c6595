"""Tables with one fault, in every format that is read."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

# Three rows of each task; a fault takes the place of a value in the second.
GOOD = {
    "features": {"x": [1.0, 3.0, 2.0], "y": [2.0, 4.0, 3.0], "label": ["a", "b", "a"]},
    "text": {"text": ["turn on", "turn off", "on"], "label": ["on", "off", "on"]},
    "multi_label": {
        "text": ["turn on", "turn off", "on"],
        "label": [["on"], ["off"], ["on", "off"]],
    },
    "tokens": {
        "tokens": [["turn", "on"], ["turn", "off"], ["on", "off"]],
        "label": [["O", "B-on"], ["O", "B-off"], ["B-on", "B-off"]],
    },
}


def write_parquet(path, columns, encode=lambda array: array):
    arrays = {name: encode(pyarrow.array(values)) for name, values in columns.items()}
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def categories(array):
    """Text as codes and their dictionary, as data frames save categories."""
    if pyarrow.types.is_string(array.type):
        return array.dictionary_encode()
    if pyarrow.types.is_list(array.type):
        return pyarrow.ListArray.from_arrays(
            array.offsets, categories(array.values), mask=array.is_null()
        )
    return array


def write_categories(path, columns):
    write_parquet(path, columns, categories)


def write_views(path, columns):
    def encode(array):
        is_text = pyarrow.types.is_string(array.type)
        return array.cast(pyarrow.string_view()) if is_text else array

    write_parquet(path, columns, encode)


def write_row_groups(path, columns):
    """A row a group, each with a dictionary of its own."""
    table = pyarrow.table({n: categories(pyarrow.array(v)) for n, v in columns.items()})
    pyarrow.parquet.write_table(table, path, row_group_size=1)


def write_json_lines(path, columns):
    rows = zip(*columns.values(), strict=True)
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")


def write_csv(path, columns):
    def cell(name, value):
        if isinstance(value, list):
            value = (" " if name == "tokens" else "|").join(map(str, value))
        return "" if value is None else str(value)

    lines = [",".join(columns)]
    for row in zip(*columns.values(), strict=True):
        lines.append(",".join(map(cell, columns, row)))
    path.write_text("\n".join(lines), encoding="utf-8")


# name -> ending, writer. A new format is a line here, and one in `train.data.files`.
FORMATS = {
    "csv": (".csv", write_csv),
    "json lines": (".jsonl", write_json_lines),
    "parquet": (".parquet", write_parquet),
    "parquet of categories": (".parquet", write_categories),
    "parquet of views": (".parquet", write_views),
    "parquet of row groups": (".parquet", write_row_groups),
}
TYPED = tuple(name for name in FORMATS if name != "csv")
TEXTS = ("csv", "json lines")
# Where a table is read.
TRAINING = ("train", "validation", "test")
SPLITS = (*TRAINING, "evaluate")
EVERYWHERE = (*SPLITS, "predict")


class Fault(NamedTuple):
    """A value that no split may have, and parts of the line that says so."""

    task: str
    column: str
    value: Any
    words: Sequence[str]
    formats: Sequence[str] = tuple(FORMATS)
    places: Sequence[str] = EVERYWHERE


FAULTS = {
    # What is missing.
    "a missing label": Fault(
        "features",
        "label",
        None,
        ["column `label` has 1 missing labels, the first in row 2"],
        places=SPLITS,
    ),
    "a label of spaces": Fault(
        "features", "label", "  ", ["1 missing labels", "row 2"], places=SPLITS
    ),
    "a missing number": Fault("features", "y", None, ["column `y`", "row 2"]),
    "a missing text": Fault(
        "text", "text", None, ["row 2 of text column `text` is None"], TYPED
    ),
    "a missing label of a text": Fault(
        "text", "label", None, ["1 missing labels", "row 2"], places=SPLITS
    ),
    "a missing label of several": Fault(
        "multi_label",
        "label",
        ["on", None],
        ["1 missing labels, the first in row 2"],
        TYPED,
        TRAINING,
    ),
    "a missing list of labels": Fault(
        "multi_label", "label", None, ["row 2", "None"], TYPED, TRAINING
    ),
    "a missing word": Fault(
        "tokens", "tokens", ["turn", None], ["row 2", "`tokens`", "None"], TYPED
    ),
    "a missing tag": Fault(
        "tokens", "label", ["O", None], ["1 missing labels", "row 2"], TYPED, SPLITS
    ),
    # Numbers.
    "a number beyond float32": Fault(
        "features",
        "y",
        1e300,
        ["column `y` has 1e+300 in row 2, too far from training's"],
        places=("validation", "test", "evaluate", "predict"),
    ),
    "a number that overflows in the network": Fault(
        "features",
        "y",
        -1e38,
        ["column `y` has -1e+38 in row 2, too far from training's"],
        places=("validation", "test", "evaluate", "predict"),
    ),
    "a number too large to square": Fault(
        "features", "y", 1e300, ["`y` has values too large"], places=("train",)
    ),
    "a number beyond float64": Fault(
        "features", "y", "1" + "0" * 400, ["`y` has '1000", "too large"], TEXTS
    ),
    "a whole number beyond float64": Fault(
        "features", "y", 10**400, ["`y` has 1000", "row 2", "too large"], TEXTS[1:]
    ),
    "a number as Python writes it": Fault(
        "features", "y", "2021_03", ["`y` has '2021_03' in row 2", "no number"], TEXTS
    ),
    "a percentage": Fault("features", "y", "5%", ["'5%' in row 2"], TEXTS),
    "a number of base 16": Fault("features", "y", "0x10", ["'0x10' in row 2"], TEXTS),
    "a number with a decimal comma": Fault(
        "features", "y", '"1,5"', ["'1,5' in row 2"], ("csv",)
    ),
    # Half of a surrogate pair.
    "a text with half an emoji": Fault(
        "text",
        "text",
        "great \ud83d",
        ["row 2 of column `text`", r"'great \ud83d'", "no character"],
        TEXTS[1:],
    ),
    "a word with half an emoji": Fault(
        "tokens", "tokens", ["a", "\ude00"], ["row 2 of column `tokens`"], TEXTS[1:]
    ),
    "a label with half an emoji": Fault(
        "text", "label", "\ud83d", [r"'\ud83d' in row 2"], TEXTS[1:], SPLITS
    ),
    "a label of several with half an emoji": Fault(
        "multi_label", "label", ["\ud83d"], [r"'\ud83d' in row 2"], TEXTS[1:], TRAINING
    ),
    # Labels of another kind.
    "a label twice in a row": Fault(
        "multi_label",
        "label",
        ["on", "off", "on"],
        ["row 2 of column `label` has label 'on' 2 times"],
        places=TRAINING,
    ),
    "a list where one label is wanted": Fault(
        "text", "label", ["on"], ["1 list", "write the labels"], TEXTS[1:], SPLITS
    ),
    "a tag with a space": Fault(
        "tokens",
        "label",
        ["B-on O"],
        ["row 2", "tag 'B-on O'", "a tag holds no space", "'|'", "data.separator"],
        places=SPLITS,
    ),
    "tags parted by a comma": Fault(
        "tokens", "label", '"O,B-off"', ["tag 'O,B-off'", "'|'"], ("csv",), SPLITS
    ),
    "tags parted by a semicolon": Fault(
        "tokens", "label", "B-on;O", ["tag 'B-on;O'", "'|'"], ("csv",), SPLITS
    ),
}

# Labels of all three rows, which no row alone makes wrong.
COLUMNS = {
    "rows of 0 and 1": Fault(
        "multi_label",
        "label",
        [[0, 1, 0], [1, 0, 0], [0, 1, 1]],
        ["rows of 3 values that are 0 or 1, the first [", "a value a class"],
    ),
    "rows of 0 and 1 for two classes": Fault(
        "multi_label", "label", [[0, 1], [1, 0], [0, 1]], ["rows of 2 values"]
    ),
    "rows of 0 and 1 as text": Fault(
        "multi_label", "label", [["0", "1"], ["1", "1"], ["1", "0"]], ["of 2 values"]
    ),
    "rows of fractions": Fault(
        "multi_label",
        "label",
        [[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]],
        ["2 values"],
        TYPED,
    ),
    "rows of true and false": Fault(
        "multi_label", "label", [[True, False]] * 2 + [[True] * 2], ["2 values"], TYPED
    ),
    "tags that are numbers": Fault(
        "tokens",
        "label",
        [[1, 0], [0, 3], [2, 2]],
        ["row 1 of label column `label` has tag 1", "entities need names, not numbers"],
    ),
    "labels that are fractions": Fault(
        "features", "label", [1.0, 0.0, 1.0], ["3 float", "write 1 for 1.0"], TYPED
    ),
}
