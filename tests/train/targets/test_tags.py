"""A tag for each word."""

import numpy as np
import pytest

from train.config import DataConfig
from train.data.examples import NO_LABEL, Encoded
from train.data.records import Records
from train.errors import DataError
from train.targets import Calibration
from train.targets.tags import Tags

TARGET, CONFIG = Tags(), DataConfig(label_column="tags")
CLASSES = ("B-loc", "B-per", "I-loc", "I-per", "O")


def records(rows, *, split="train"):
    column = np.empty(len(rows), object)
    column[:] = rows
    return Records(split, f"{split} file", {"tags": column})


def logits_of(*rows):
    """Logits whose largest is the named tag."""
    return np.stack(
        [np.eye(5, dtype=np.float32)[[CLASSES.index(t) for t in row]] for row in rows]
    )


def labels_of(*rows):
    return np.array([[CLASSES.index(t) if t else NO_LABEL for t in r] for r in rows])


def test_a_tag_stands_at_the_first_piece_of_its_word():
    encoded = Encoded(np.zeros((2, 6)), first_pieces=[np.array([1, 3]), np.array([1])])
    labels = TARGET.encode(records([["B-loc", "O"], ["O"]]), encoded, CLASSES, CONFIG)
    assert labels.tolist() == [[-1, 0, -1, 4, -1, -1], [-1, 4, -1, -1, -1, -1]]


def test_words_beyond_the_text_have_their_tags_behind_it():
    pieces = [np.array([1, 9, 10]), np.array([0]), np.array([2, 3])]
    encoded = Encoded(np.zeros((3, 3)), first_pieces=pieces)
    rows = records([["B-loc", "I-loc", "O"], ["O"], ["B-per", "I-per"]])
    labels = TARGET.encode(rows, encoded, CLASSES, CONFIG)
    assert labels.tolist() == [
        [-1, 0, -1, 2, 4],
        [4, -1, -1, -1, -1],
        [-1, -1, 1, 3, -1],
    ]


def test_what_lies_beyond_the_text_counts_as_missed():
    # Two entities, each of two words; the second one begins where the text is cut.
    true = labels_of(["B-loc", "I-loc", "O", "B-per", "I-per"])
    guess = logits_of(["B-loc", "I-loc", "O"])
    figures = TARGET.score(guess, true, CLASSES)
    assert figures["precision"] == 1
    assert figures["recall"] == pytest.approx(1 / 2)
    assert figures["f1"] == pytest.approx(2 / 3)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    # What is not read has no probability.
    alone = TARGET.score(guess, true[:, :3], CLASSES)
    assert figures["ece"] == alone["ece"]
    assert TARGET.margins(guess, true, unit="probability").shape == (3,)
    assert TARGET.calibrate(guess, true) == TARGET.calibrate(guess, true[:, :3])


def test_an_inside_tag_brings_its_beginning():
    classes = TARGET.find_classes(records([["I-per", "I-loc"], ["B-loc"]]), CONFIG)
    assert classes == CLASSES


def test_entities_count_when_type_and_both_ends_are_right():
    true = labels_of(["B-loc", "I-loc", "O", "B-per"], ["O", "B-per", None, None])
    guess = logits_of(["B-loc", "O", "O", "B-per"], ["O", "B-per", "B-loc", "O"])
    figures = TARGET.score(guess, true, CLASSES)
    # Three entities, three predicted (the unlabelled one left out), two right.
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["f1"] == pytest.approx(2 / 3)
    assert figures["accuracy"] == pytest.approx(5 / 6)


def test_flat_tags_count_one_by_one_without_outside():
    classes = ("O", "x", "y")
    true = np.array([[0, 1, 2, NO_LABEL]])
    guess = np.eye(3, dtype=np.float32)[[[1, 1, 0, 2]]]
    figures = TARGET.score(guess, true, classes)
    # Two of three are no O, two predicted, one right.
    assert figures["precision"] == pytest.approx(1 / 2)
    assert figures["recall"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("tag", ["loc", "E-loc", "B", "b-loc", "I-"])
def test_refuses_a_tag_outside_bio(tag):
    with pytest.raises(DataError) as refusal:
        TARGET.find_classes(records([["O"], ["O", tag]]), CONFIG)
    for word in ["row 2", "`tags`", repr(tag), "B-TYPE", "data.tags=flat"]:
        assert word in str(refusal.value)
    flat = DataConfig(label_column="tags", tags="flat")
    assert tag in TARGET.find_classes(records([["O"], ["O", tag]]), flat)


def test_refuses_another_number_of_tags_than_of_tokens():
    encoded = Encoded(np.zeros((1, 6)), first_pieces=[np.array([1, 3])])
    with pytest.raises(DataError, match="row 1 has 2 tokens and 1 tags"):
        TARGET.encode(records([["O"]]), encoded, CLASSES, CONFIG)


def test_answers_have_a_tag_for_every_word():
    encoded = Encoded(np.zeros((1, 3)), first_pieces=[np.array([0, 2, 9])])
    asked = (
        logits_of(["B-loc", "O", "B-per"]),
        encoded,
        CLASSES,
        Calibration(1.0, 0.0),
    )
    (answer,) = TARGET.answers(*asked, unit="probability")
    assert answer["tags"] == ["B-loc", "B-per", "O"]
    likeliest = np.e / (np.e + 4)
    assert answer["probabilities"][:2] == pytest.approx([likeliest] * 2, rel=1e-6)
    assert answer["probabilities"][2] is answer["margins"][2] is None
    (in_logits,) = TARGET.answers(*asked, unit="logits")
    assert in_logits == answer | {"margins": [1.0, 1.0, None]}


def test_calibration_is_over_the_labelled_words():
    true = labels_of(["O", "O", "O", "B-loc", None])
    guess = 10 * logits_of(["O", "O", "O", "O", "B-per"])
    temperature = TARGET.calibrate(guess, true).temperature
    p = np.exp(10 / temperature)
    assert p / (p + 4) == pytest.approx(3 / 4, abs=1e-3)


@pytest.mark.parametrize("tags", ["bio", "flat"])
@pytest.mark.parametrize("tag", ["B-PER O", "B-PER\xa0O", "NOUN VERB"])
def test_refuses_a_tag_with_a_space(tag, tags):
    config = DataConfig(label_column="tags", tags=tags)
    with pytest.raises(DataError) as refusal:
        TARGET.find_classes(records([["O"], [tag]]), config)
    words = [f"row 2 of label column `tags` has tag {tag!r}", "a tag holds no space"]
    for word in [*words, "'|'", "--config.data.separator"]:
        assert word in str(refusal.value)


@pytest.mark.parametrize("tag", ["B-PER,O", "I-PER;O", "B-PER|O"])
def test_refuses_tags_that_are_not_parted(tag):
    with pytest.raises(DataError, match=r"must be O, B-TYPE or I-TYPE.*parted by '\|'"):
        TARGET.find_classes(records([[tag]]), CONFIG)


def test_tags_parted_by_spaces_are_read_with_that_separator():
    config = DataConfig(label_column="tags", separator=" ")
    assert TARGET.find_classes(records(["B-PER O"]), config) == ("B-PER", "O")


def test_a_letter_of_another_alphabet_is_seen():
    with pytest.raises(DataError, match=r"\('\\u041e'\)"):
        TARGET.find_classes(records([["\u041e"]]), CONFIG)


def test_numbers_need_names_and_flat_says_that_it_counts_each(capsys):
    with pytest.raises(DataError) as refusal:
        TARGET.find_classes(records([[1, 0], [3, 4]]), CONFIG)
    words = ["row 1", "tag 1", "names, not numbers", "tags=flat", "0 too"]
    for word in words:
        assert word in str(refusal.value)
    flat = DataConfig(label_column="tags", tags="flat")
    assert "0" in TARGET.find_classes(records([[1, 0], [3, 4]]), flat)
    assert "F1 counts each of them, 0 too" in capsys.readouterr().err


def test_a_missing_tag_is_refused():
    for tag in ("", None):
        with pytest.raises(DataError, match="1 missing labels, the first in row 2"):
            TARGET.find_classes(records([["O"], ["O", tag]]), CONFIG)
