"""Any number of classes an example."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from train.config import DataConfig
from train.data.examples import Encoded
from train.data.records import Records
from train.errors import DataError
from train.targets import Calibration
from train.targets.multi_label import MultiLabel

TARGET, CONFIG = MultiLabel(), DataConfig(label_column="labels")
NONE = Encoded(np.zeros(0))


def records(rows, *, split="train", untyped=False):
    column = np.empty(len(rows), object)
    column[:] = rows
    return Records(split, f"{split} file", {"labels": column}, untyped)


def test_labels_become_one_row_of_flags():
    train = records([["joy", "anger"], [], np.array(["fear"], object)])
    classes = TARGET.find_classes(train, CONFIG)
    assert classes == ("anger", "fear", "joy")
    labels = TARGET.encode(train, NONE, classes, CONFIG)
    assert labels.tolist() == [
        [True, False, True],
        [False, False, False],
        [False, True, False],
    ]


def test_text_is_parted_at_the_separator():
    rows = records(["joy| anger", "", "7"], untyped=True)
    assert TARGET.find_classes(rows, CONFIG) == ("7", "anger", "joy")
    rows = records(["joy; anger", ""], untyped=True)
    config = DataConfig(label_column="labels", separator=";")
    assert TARGET.find_classes(rows, config) == ("anger", "joy")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["a"], None], ["row 2", "None", "must be a list"]),
        ([["a"], 3], ["row 2", "must be a list", "data.separator"]),
        ([["a", 1]], ["1 str, 1 int"]),
        ([["a", None]], ["1 missing labels"]),
        ([[], []], ["no example has a label"]),
        ([["a"], ["b", "c", "b"]], ["row 2", "label 'b' 2 times"]),
        ([[2, 1], [0, 0]], ["row 2", "label 0 2 times"]),
        ([[0, 1, 0, 1], [1, 0, 0, 0]], ["rows of 4 values that are 0 or 1"]),
        ([[0.0, 1.0], [1.0, 1.0]], ["rows of 2 values that are 0 or 1"]),
        ([["0", "1"], ["1", "0"]], ["rows of 2 values", "[0, 3] for [1, 0, 0, 1]"]),
        ([np.array([False, True, True])], ["rows of 3 values that are 0 or 1"]),
        ([["a", "\udc80"]], ["row 1", "no character"]),
        ([[["a"]], [np.array(["b", "c"], object)]], ["1 list, 1 ndarray"]),
    ],
)
def test_refuses(rows, words):
    with pytest.raises(DataError) as refusal:
        TARGET.find_classes(records(rows), CONFIG)
    for word in ["train file", "`labels`", *words]:
        assert word in str(refusal.value)


def test_refuses_a_label_that_training_never_has():
    with pytest.raises(DataError, match="label 'b' in 1 rows"):
        TARGET.encode(records([["b"]], split="test"), NONE, ("a",), CONFIG)


def test_f1_counts_what_is_above_the_threshold():
    logits = np.array([[2.0, -1.0], [1.0, 0.5], [-1.0, -0.5]], np.float32)
    labels = np.array([[True, False], [True, False], [False, True]])
    figures = TARGET.score(logits, labels, ("a", "b"))
    # Above 0: a, a, b (wrong); the third b is missed. Of 3 right ones, 2 are found.
    assert figures["micro_f1"] == pytest.approx(2 * (2 / 3) * (2 / 3) / (4 / 3))
    assert figures["macro_f1"] == pytest.approx((1.0 + 0.0) / 2)
    assert figures["accuracy"] == pytest.approx(1 / 3)
    # The strongest are a, a and b, all of them labels.
    assert figures["precision_at_1"] == 1.0
    tuned = TARGET.score(logits, labels, ("a", "b"), Calibration(1.0, 0.75))
    # Only a, a are left.
    assert tuned["micro_f1_tuned"] == pytest.approx(2 * 1 * (2 / 3) / (1 + 2 / 3))


def test_the_threshold_has_the_best_micro_f1():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 4)).astype(np.float32)
    labels = logits + rng.normal(size=(50, 4)) > 0.7
    threshold = TARGET.calibrate(logits, labels).threshold

    def micro_f1(at):
        figures = TARGET.score(logits, labels, (0, 1, 2, 3), Calibration(1.0, at))
        return figures["micro_f1_tuned"]

    best = max(micro_f1(float(at)) for at in np.unique(logits) - 1e-6)
    assert micro_f1(threshold) == pytest.approx(best)
    assert micro_f1(threshold) > micro_f1(0.0)


def test_without_a_label_the_threshold_is_zero():
    calibration = TARGET.calibrate(np.ones((2, 3), np.float32), np.zeros((2, 3), bool))
    assert calibration.threshold == 0.0


def test_the_margin_is_of_the_weakest_label_over_the_strongest_other():
    logits = np.log([[0.5, 0.3, 0.2]] * 3)
    labels = np.array([[True, True, False], [False] * 3, [True] * 3])
    margins = TARGET.margins(logits, labels, unit="probability")
    np.testing.assert_allclose(margins, [0.1, 0.5, 0.2])


def test_the_margin_in_logits_is_how_far_each_class_is_on_its_side():
    logits = np.array([[3.0, -2.0, -1.5], [3.0, 2.0, -1.5], [-1.0, -2.0, -3.0]])
    labels = np.array([[True, False, False], [True, False, False], [False] * 3])
    margins = TARGET.margins(logits, labels, unit="logits")
    np.testing.assert_array_equal(margins, [1.5, -2.0, 1.0])
    correct = TARGET.correct(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_array_equal(margins > 0, correct)


def test_too_many_labels_to_settle_are_told_of_delta(capsys):
    labels = np.array([[True, True, False], [True, False, False]])
    TARGET.note_settling(labels, 0.4)
    assert capsys.readouterr().err == ""
    TARGET.note_settling(labels, 0.5)
    said = capsys.readouterr().err
    assert "`loss.delta`=0.5: 1 of 2 training examples" in said
    assert "a delta under 0.5 lets them, and so does `loss.logit_margin`" in said


def test_an_answer_lists_its_labels_the_likeliest_first():
    logits = np.log([[3.0, 0.25, 9.0]]).astype(np.float32)
    calibration = Calibration(1.0, 0.5)
    asked = logits, NONE, ("a", "b", "c"), calibration
    (answer,) = TARGET.answers(*asked, unit="probability")
    assert answer["labels"] == ["c", "a"]
    assert answer["probabilities"] == pytest.approx([0.9, 0.75])
    assert answer["margin"] == pytest.approx(0.75 - 0.2)
    # log 3 is nearest to the threshold of 0.5.
    (in_logits,) = TARGET.answers(*asked, unit="logits")
    assert in_logits == answer | {"margin": pytest.approx(np.log(3.0) - 0.5)}


@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_f1_of_any_number_of_classes_counts_positives(num_classes):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, num_classes))
    labels = rng.random(size=(40, num_classes)) < 0.3
    found = TARGET.score(logits, labels, ("a",) * num_classes)

    def f1(predicted, wanted):
        both = np.sum(predicted & wanted)
        return 2 * both / (predicted.sum() + wanted.sum())

    assert found["micro_f1"] == pytest.approx(f1(logits > 0, labels))
    of_classes = [f1(logits[:, k] > 0, labels[:, k]) for k in range(num_classes)]
    assert found["macro_f1"] == pytest.approx(np.mean(of_classes))
    none = TARGET.score(-abs(logits), labels, ("a",) * num_classes)
    assert none["micro_f1"] == none["macro_f1"] == 0.0


def test_missing_labels_are_counted_by_row():
    rows = records([["a", "b", "c"], ["a"], ["b", None]])
    with pytest.raises(DataError, match="1 missing labels, the first in row 3"):
        TARGET.find_classes(rows, CONFIG)


@pytest.mark.parametrize("separator", [" ", ",", ", ", ";"])
def test_refuses_cells_of_0_and_1_parted_by_something_else(separator):
    rows = records([separator.join("010"), separator.join("110")], untyped=True)
    with pytest.raises(DataError, match="rows of 3 values that are 0 or 1"):
        TARGET.find_classes(rows, CONFIG)


@pytest.mark.parametrize("rows", [[[0], [1], [0]], [[0, 1], [0, 1, 2]], [[0, 1]]])
def test_class_numbers_are_no_rows_of_0_and_1(rows):
    assert TARGET.find_classes(records(rows), CONFIG) == tuple(
        sorted({value for row in rows for value in row})
    )


def test_one_row_of_two_classes_is_a_list_of_labels():
    labels = TARGET.encode(records([[1, 0]]), NONE, (0, 1, 2), CONFIG)
    assert labels.tolist() == [[True, True, False]]


def test_refuses_a_column_a_class():
    flags = {"joy": np.array([0, 1]), "fear": np.array(["1", "0"], object)}
    text = np.array(["a", "b"], object)
    table = Records("train", "train file", {"text": text, **flags})
    with pytest.raises(DataError, match=r"`labels`, and `joy`, `fear` hold 0 and 1"):
        TARGET.find_classes(table, CONFIG)


def test_says_that_cells_may_be_parted_by_something_else(capsys):
    TARGET.find_classes(records(["joy, fear", "joy"], untyped=True), CONFIG)
    said = capsys.readouterr().err
    assert "no row is parted by '|', and 1 have ','" in said
    assert "--config.data.separator=','" in said
    TARGET.find_classes(records(["joy, fear|anger"], untyped=True), CONFIG)
    assert not capsys.readouterr().err


def test_no_number_among_the_logits_leaves_the_threshold_at_zero():
    logits = np.array([[np.nan, 1.0]], np.float32)
    found = TARGET.calibrate(logits, np.ones((1, 2), bool))
    assert found == Calibration(temperature=1.0, threshold=0.0)


@pytest.mark.parametrize("num_classes", [1, 2, 30])
def test_f1_is_that_of_scikit_learn(num_classes):
    rng = np.random.default_rng(num_classes)
    labels = rng.random((50, num_classes)) < 0.2
    logits = rng.normal(size=labels.shape).astype(np.float32)
    labels[:, 0] = False  # a class without a label
    logits[:, -1] = -1.0  # one that is never predicted
    figures = TARGET.score(logits, labels, tuple(range(num_classes)))
    decisions = labels.ravel(), (logits > 0).ravel()
    micro = f1_score(*decisions, zero_division=0.0)
    of_classes = [
        f1_score(a, b, zero_division=0.0)
        for a, b in zip(labels.T, logits.T > 0, strict=True)
    ]
    assert figures["micro_f1"] == pytest.approx(micro, abs=1e-15)
    assert figures["macro_f1"] == pytest.approx(np.mean(of_classes), abs=1e-15)
    exact = accuracy_score(labels, logits > 0) if num_classes > 1 else None
    assert exact in (None, pytest.approx(figures["accuracy"]))
