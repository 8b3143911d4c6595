"""Labels as class indices: what they become, and what is refused."""

import functools

import numpy as np
import pytest

from train.config import DataConfig
from train.data.examples import Encoded
from train.data.records import Records
from train.errors import DataError
from train.targets import Calibration
from train.targets.one_class import OneClass, lead

NONE = Encoded(np.zeros(0))


def records(values, *, split="train", untyped=False):
    column = np.empty(len(values), object)
    column[:] = values
    return Records(split, f"{split} file", {"label": column}, untyped)


def encode(train, validation=None, *, untyped=False):
    """Returns the classes of training, and the labels of validation by them."""
    config, target = DataConfig(), OneClass()
    classes = target.find_classes(records(train, untyped=untyped), config)
    held = records(
        train if validation is None else validation, split="validation", untyped=untyped
    )
    return classes, target.encode(held, Encoded(np.zeros(0)), classes, config)


def test_classes_are_the_sorted_labels_of_training():
    classes, labels = encode(["b", "a", "c", "a"], ["c", "c", "a"])
    assert classes == ("a", "b", "c")
    assert labels.tolist() == [2, 2, 0]
    assert labels.dtype == np.int32


def test_whole_numbers_keep_their_order():
    classes, labels = encode([10, -3, 2])
    assert classes == (-3, 2, 10)
    assert labels.tolist() == [2, 0, 1]


def test_untyped_numbers_are_numbers_and_codes_are_text():
    assert encode(["10", "2"], untyped=True)[0] == (2, 10)
    assert encode(["007", "x1"], untyped=True)[0] == ("007", "x1")
    assert encode(["10", "2"])[0] == ("10", "2")


@pytest.mark.parametrize(
    ("values", "untyped", "words"),
    [
        ([0, 1, "two"], False, ["all text or all whole numbers", "2 int, 1 str"]),
        ([0, None, 1], False, ["1 missing labels", "row 2"]),
        (["a", "", "b"], True, ["1 missing labels", "row 2"]),
        ([0.0, float("nan")], False, ["1 missing labels", "row 2"]),
        ([0.5, 1.5], False, ["2 float"]),
        ([True, 1], False, ["1 bool, 1 int"]),
        ([0.0, 1.0], False, ["2 float", "write 1 for 1.0"]),
        (["a", " \u3000"], False, ["1 missing labels", "row 2"]),
        (["a", "\ud83d"], False, ["'\\ud83d' in row 2", "no character"]),
        ([[0], [1]], False, ["2 list", "--config.task=multi_label"]),
    ],
)
def test_refuses_labels(values, untyped, words):
    with pytest.raises(DataError) as refusal:
        encode(values, untyped=untyped)
    for word in ["train file", "`label`", *words]:
        assert word in str(refusal.value)


def test_refuses_a_label_that_training_never_has():
    with pytest.raises(DataError) as refusal:
        encode(["a", "b"], ["a", "c", "c", "d"])
    for word in ["validation file", "label 'c' in 2 rows", "and 1 more labels"]:
        assert word in str(refusal.value)


def test_refuses_a_column_that_is_not_there():
    with pytest.raises(DataError, match="no column `class`; it has `label`"):
        OneClass().find_classes(records(["a"]), DataConfig(label_column="class"))


def test_metrics_are_those_of_the_largest_logit():
    # Labels 0, 0, 1; predictions 0, 1, 1: precision and recall 1 and 1/2, both ways.
    logits = np.log([[0.75, 0.25], [0.25, 0.75], [0.25, 0.75]]).astype(np.float32)
    labels = np.array([0, 0, 1], np.int32)
    figures = OneClass().score(logits, labels, ("a", "b"))
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["macro_f1"] == pytest.approx(2 * 1 * 0.5 / (1 + 0.5))
    # Every confidence is 3/4, two in three are right.
    assert figures["ece"] == pytest.approx(3 / 4 - 2 / 3)
    assert "ece_calibrated" not in figures


def test_calibration_makes_confidence_the_share_that_is_right():
    logits = np.log([[0.95, 0.05]] * 4).astype(np.float32)
    labels = np.array([0, 0, 0, 1], np.int32)
    calibration = OneClass().calibrate(logits, labels)
    # sigmoid(log(19) / T) = 3/4
    assert calibration.temperature == pytest.approx(np.log(19) / np.log(3), rel=1e-3)
    figures = OneClass().score(logits, labels, ("a", "b"), calibration)
    assert figures["ece"] == pytest.approx(0.95 - 0.75, abs=1e-6)
    assert figures["ece_calibrated"] == pytest.approx(0.0, abs=1e-3)


def test_lead_is_over_the_strongest_other():
    logits, labels = np.log([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]), np.array([0, 2])
    in_probability = lead(logits, labels, unit="probability")
    np.testing.assert_allclose(in_probability, [0.7 - 0.2, 0.3 - 0.5])
    in_logits = lead(logits, labels, unit="logits")
    np.testing.assert_allclose(in_logits, np.log([0.7 / 0.2, 0.3 / 0.5]))
    alone = np.ones((1, 1)), np.array([0])
    assert lead(*alone, unit="probability").tolist() == [1.0]
    assert lead(*alone, unit="logits").tolist() == [np.inf]


def test_an_answer_has_its_calibrated_probability_and_lead():
    logits = np.log([[0.64, 0.36]]).astype(np.float32)
    # Temperature 2 takes square roots: 0.8 and 0.6, over 1.4.
    answers = functools.partial(
        OneClass().answers,
        logits,
        Encoded(np.zeros(1)),
        ("a", "b"),
        Calibration(2.0, 0.0),
    )
    (answer,) = answers(unit="probability")
    assert answer["label"] == "a"
    assert answer["probability"] == pytest.approx(0.8 / 1.4)
    assert answer["margin"] == pytest.approx((0.8 - 0.6) / 1.4)
    # Logits count as they are.
    (answer,) = answers(unit="logits")
    assert answer["probability"] == pytest.approx(0.8 / 1.4)
    assert answer["margin"] == pytest.approx(np.log(0.64 / 0.36), rel=1e-6)


def test_one_class_alone_leads_by_no_number_of_logits():
    alone = Encoded(np.zeros(1)), ("a",), Calibration(1.0, 0.0)
    (answer,) = OneClass().answers(np.ones((1, 1), np.float32), *alone, unit="logits")
    assert answer == {"label": "a", "probability": 1.0, "margin": None}


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["-1", "0", "1"], (-1, 0, 1)),
        (["09", "10", "11"], ("09", "10", "11")),
        (["1", "2", "other"], ("1", "2", "other")),
        (["9" * 5000, "1"], ("1", "9" * 5000)),
    ],
)
def test_text_is_whole_numbers_where_all_of_it_is(values, classes):
    assert encode(values, untyped=True)[0] == classes


def test_text_of_another_split_is_read_as_the_classes_are():
    assert encode(["01", "10"], ["10"], untyped=True)[1].tolist() == [1]
    assert encode(["1", "10"], ["10"], untyped=True)[1].tolist() == [1]
    with pytest.raises(DataError, match=r"has label 'x' in 1 rows.* training never"):
        encode(["1", "10"], ["x", "10"], untyped=True)


@pytest.mark.parametrize("untyped", [False, True])
def test_outer_spaces_are_no_part_of_a_label(capsys, untyped):
    classes, labels = encode(["cat", "dog", "cat ", "dog"], [" dog"], untyped=untyped)
    assert classes == ("cat", "dog")
    assert labels.tolist() == [1]
    said = capsys.readouterr().err
    assert "train file: label column `label` has 1 labels with outer spaces" in said
    assert "the first in row 3" in said


def test_a_class_of_an_earlier_run_keeps_its_spaces():
    held = records(["cat ", "cat"], split="test")
    labels = OneClass().encode(held, NONE, ("cat", "cat "), DataConfig())
    assert labels.tolist() == [1, 0]


def test_numbers_with_spaces_are_numbers():
    assert encode(["1", " 2"], untyped=True)[0] == (1, 2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["cat", "Cat"], ["'Cat' and 'cat' differ only in case"]),
        (["caf\u00e9", "cafe\u0301"], [r"'cafe\u0301' and 'caf\xe9'", "(NFC)"]),
        (["ca\u200bt", "cat"], [r"'ca\u200bt'", "cannot be seen"]),
        (["a  b", "a b"], ["'a  b' and 'a b' differ only in spaces"]),
        (["a", "A", "b", "B", "\u0430"], ["and 2 more pairs are so"]),
    ],
)
def test_classes_that_look_alike_are_named(capsys, values, words):
    assert len(encode(values)[0]) == len(values)
    (line,) = capsys.readouterr().err.splitlines()
    for word in ["note: train file: labels ", *words]:
        assert word in line


def test_true_and_false_are_the_texts_that_csv_has_for_them():
    assert encode([True, False])[0] == ("False", "True")
    assert encode([True, False], ["True"])[1].tolist() == [1]
    assert encode(["True", "False"], [False], untyped=False)[1].tolist() == [0]
    with pytest.raises(DataError, match="1 missing labels, the first in row 2"):
        encode([True, None])


@pytest.mark.parametrize(
    ("train", "held", "words"),
    [
        ([0, 1], ["0"], ["the whole number 0 there, the text '0' here"]),
        (["0", "1"], [0], ["the text '0' there, the whole number 0 here"]),
        (["cat"], ["Cat"], ["training has 'cat'", "differs only in case"]),
        (["cat"], ["x", "x", "Cat"], ["label 'Cat' in 1 rows", "and 1 more labels"]),
    ],
)
def test_says_of_an_unknown_label_what_training_has(train, held, words):
    with pytest.raises(DataError) as refusal:
        encode(train, held)
    for word in [*words, "training never has", "write both alike"]:
        assert word in str(refusal.value)


def test_the_calibration_error_of_no_number_is_none():
    logits = np.array([[np.nan, 0.0], [1.0, 0.0]], np.float32)
    assert np.isnan(OneClass().score(logits, np.zeros(2, int), ("a", "b"))["ece"])


@pytest.mark.parametrize("name", ["NaN", "None", "<NA>", "null"])
def test_a_class_that_seems_to_be_missing_is_named(capsys, name):
    assert encode(["a", name], untyped=True)[0] == tuple(sorted(["a", name]))
    assert f"train file: '{name}' is taken for a class" in capsys.readouterr().err
    encode(["none", "other"])
    assert not capsys.readouterr().err
