"""A tag for each word of a text, by the word's first piece."""

import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from seqeval import metrics as entities
from sklearn.metrics import precision_recall_fscore_support

from ..command.lines import escaped
from ..command.notices import notice
from ..config import DataConfig
from ..data.examples import NO_LABEL, Classes, Encoded
from ..data.names import shown
from ..data.records import Records
from ..errors import DataError
from ..storage import finite
from . import Calibration, LabelEvidence, LossTarget, Unit
from .calibration import fit_temperature, probabilities
from .labels import (
    Label,
    index_of,
    label_lists,
    note_doubtful_classes,
    refuse_unknown,
)
from .metric import Metric, calibration_errors, loss
from .one_class import (
    ONE_OF_ALL,
    calibration_error,
    count_classes,
    label_evidence,
    label_lead,
    lead,
    quality_of_single,
)
from .quality import Quality

OUTSIDE = "O"
# What parts tags in files is no part of one.
_BIO = re.compile(r"O|[BI]-[^\s,;|]+")


class Tags:
    """Labels int32 [n, length + unseen]: NO_LABEL but at each word's first piece.

    Words beyond the longest text that the model reads have their tags in the columns
    behind those of the tokens, `unseen` of them in the longest row. No batch holds
    these: nothing is trained on them, and scores count them as answered O.
    """

    loss_target: LossTarget = "labels"
    ordered = False
    one_label = False
    labels_are_given = True
    counted = "token"
    metrics: tuple[Metric, ...] = (
        loss("tokens"),
        Metric("f1", "F1", counted_over="entities"),
        Metric("precision", "precision", counted_over="entities"),
        Metric("recall", "recall", counted_over="entities"),
        Metric("accuracy", "accuracy", counted_over="tokens"),
        *calibration_errors("tokens"),
    )
    metric = "f1"
    ranking_metric = "f1"
    margin_meanings = ONE_OF_ALL

    def find_classes(self, train: Records, config: DataConfig) -> Classes:
        """Returns the tags of the training split, and O.

        An I- tag stands with its B- tag, so that every entity can be written.
        """
        classes = {tag for row in _tags(train, config) for tag in row} | {OUTSIDE}
        if config.tags == "bio":
            classes |= {f"B-{tag[2:]}" for tag in classes if tag != OUTSIDE}
        elif all(tag.isdecimal() for tag in classes - {OUTSIDE}) and len(classes) > 1:
            notice(
                f"{train.origin}: tags are numbers, and F1 counts each of them, 0 too; "
                f"where a number means that a word has no tag, write {OUTSIDE}"
            )
        note_doubtful_classes(train, sorted(classes))
        return tuple(sorted(classes))

    def encode(
        self, records: Records, encoded: Encoded, classes: Classes, config: DataConfig
    ) -> np.ndarray:
        """Returns the tags at the words' first pieces, then those of unseen words."""
        index, tags_of = index_of(classes), _tags(records, config)
        refuse_unknown(records, list(itertools.chain(*tags_of)), classes)
        n, length = encoded.inputs.shape
        unseen = [int(np.sum(pieces >= length)) for pieces in encoded.first_pieces]
        width = length + max(unseen, default=0)
        labels = np.full((n, width), NO_LABEL, np.int32)
        rows = zip(labels, tags_of, encoded.first_pieces, strict=True)
        for k, (row, tags, pieces) in enumerate(rows):
            if len(tags) != len(pieces):
                raise DataError(
                    f"{records.origin}: row {records.number(k)} has {len(pieces)} "
                    f"tokens and {len(tags)} tags; give each token one tag"
                )
            seen = pieces < length
            numbers = np.array([index[tag] for tag in tags], np.int32)
            row[pieces[seen]] = numbers[seen]
            row[length : length + unseen[k]] = numbers[~seen]
        return labels

    def class_counts(self, labels: np.ndarray, num_classes: int) -> np.ndarray:
        """Returns how often each class is a label."""
        return count_classes(labels, num_classes)

    def where(self, batch: dict[str, jax.Array]) -> jax.Array:
        """Returns the first pieces of the words of real rows, [n, length]."""
        return batch["where"][:, None] & (batch["labels"] != NO_LABEL)

    def correct(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
        """Returns whether the largest logit is the tag's, [n, length]."""
        return jnp.argmax(logits, axis=-1) == labels

    def lead(self, logits: jax.Array, labels: jax.Array, *, unit: Unit) -> jax.Array:
        """Returns p_t - max over i != t of p_i, or that of the logits, [n, length]."""
        return label_lead(logits, labels, unit=unit)

    def note_settling(self, labels: np.ndarray, delta: float) -> None:
        """Says nothing: every token can settle."""

    def outputs(self, logits: jax.Array, labels: jax.Array | None) -> jax.Array:
        """Returns the logits."""
        return logits

    def score(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration | None = None,
    ) -> dict[str, float]:
        """Returns precision, recall and F1 of entities, and accuracy of tags.

        Entities count when type and both ends are right, as CoNLL counts them; tags
        that are no B- and I- count one by one, O left out. Words that the model does
        not read count as answered O; they have no part in calibration.
        """
        answered = np.full(labels.shape, index_of(classes)[OUTSIDE])
        answered[:, : logits.shape[1]] = logits.argmax(axis=-1)
        precision, recall, f1 = _scores(answered, labels, classes)
        known = labels != NO_LABEL
        accuracy = float(np.mean(answered[known] == labels[known]))
        logits, flat = _labelled(logits, labels)
        figures = {
            "f1": f1,
            "precision": precision,
            "recall": recall,
            "accuracy": accuracy,
            "ece": calibration_error(logits, flat, 1.0),
        }
        if calibration:
            figures["ece_calibrated"] = calibration_error(
                logits, flat, calibration.temperature
            )
        return figures

    def quality(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration,
    ) -> Quality | None:
        """Returns how good tags are, one by one, of the words that were read."""
        logits, flat = _labelled(logits, labels)
        return quality_of_single(logits, flat, classes, calibration.temperature)

    def margins(
        self, logits: np.ndarray, labels: np.ndarray, *, unit: Unit
    ) -> np.ndarray:
        """Returns p_t - max over i != t of p_i, or of the logits, of words, flat."""
        return lead(*_labelled(logits, labels), unit=unit)

    def evidence(
        self,
        outputs: np.ndarray,
        labels: np.ndarray,
        num_classes: int,
        *,
        unit: Unit,
    ) -> LabelEvidence:
        """Returns the least margin of each text, and the tags there are and ahead."""
        labels = labels[:, : outputs.shape[1]]
        known = labels != NO_LABEL
        of_words = label_evidence(
            self.margins(outputs, labels, unit=unit), labels[known], num_classes
        )
        margins = np.full(labels.shape, np.inf)
        margins[known] = of_words.margins
        return of_words._replace(margins=margins.min(axis=1))

    def contradiction(
        self, logits: np.ndarray, label: np.ndarray, classes: Classes, *, unit: Unit
    ) -> dict[str, Any]:
        """Returns the word, from 1 on, whose tag is contradicted most."""
        logits, flat = _labelled(logits, label)
        word = int(np.argmin(lead(logits, flat, unit=unit)))
        return {
            "word": word + 1,
            "label": classes[flat[word]],
            "predicted": classes[logits[word].argmax()],
        }

    def calibrate(self, logits: np.ndarray, labels: np.ndarray) -> Calibration:
        """Returns the temperature; there is no threshold."""
        return Calibration(fit_temperature(*_labelled(logits, labels)), threshold=0.0)

    def class_probabilities(
        self, outputs: np.ndarray, calibration: Calibration
    ) -> np.ndarray | None:
        """Returns None: a text has a tag for each word."""
        return None

    def answers(
        self,
        logits: np.ndarray,
        encoded: Encoded,
        classes: Classes,
        calibration: Calibration,
        *,
        unit: Unit,
    ) -> list[dict[str, Any]]:
        """Returns tags, probabilities and margins, one a word.

        A word beyond the longest text that the model reads is tagged O, with a
        probability of None.
        """
        answers = []
        for row, pieces in zip(logits, encoded.first_pieces, strict=True):
            seen = pieces[pieces < len(row)]
            temperature = calibration.temperature
            p = probabilities(row[seen], temperature)
            best = p.argmax(axis=-1)
            margins = lead(row[seen], best, unit=unit, temperature=temperature)
            unseen = len(pieces) - len(seen)
            answers.append(
                {
                    "tags": [str(classes[k]) for k in best] + [OUTSIDE] * unseen,
                    "probabilities": p.max(axis=-1).tolist() + [None] * unseen,
                    "margins": [finite(m) for m in margins.tolist()] + [None] * unseen,
                }
            )
        return answers


def _tags(records: Records, config: DataConfig) -> list[list[str]]:
    """Returns each row's tags as text; refuses what the scheme does not know."""
    rows = label_lists(records, config)
    for k, row in enumerate(rows):
        for tag in row:
            if wrong := _unfit(tag, config):
                raise DataError(
                    f"{records.origin}: row {records.number(k)} of label column "
                    f"`{escaped(config.label_column)}` has tag {shown(tag)}; {wrong}"
                )
    return [[str(tag) for tag in row] for row in rows]


def _unfit(tag: Label, config: DataConfig) -> str:
    """Returns what is wrong with a tag and what to do; empty: nothing."""
    bio = config.tags == "bio"
    if isinstance(tag, int):
        return (
            "entities need names, not numbers: write O, B-TYPE or I-TYPE, in the order "
            "of the data set's list of names; --config.data.tags=flat would take each "
            "number for a tag of its own, 0 too"
            if bio
            else ""
        )
    if any(c.isspace() for c in tag):
        return (
            f"a tag holds no space; in text, tags are parted by {config.separator!r}: "
            "write them so, or name what parts them with --config.data.separator"
        )
    if bio and not _BIO.fullmatch(tag):
        written = "" if tag.isascii() else f" ({tag!a})"
        return (
            f"a tag must be O, B-TYPE or I-TYPE{written}, and in text parted by "
            f"{config.separator!r} (data.separator); or say --config.data.tags=flat "
            "for tags that mark no entities"
        )
    return ""


def _labelled(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits [words, classes] and labels [words] of the words that were read.

    Args:
      logits: [..., length, classes].
      labels: [..., length or more].
    """
    labels = labels[..., : logits.shape[-2]]
    where = labels != NO_LABEL
    return logits[where], labels[where]


def _scores(
    predictions: np.ndarray, labels: np.ndarray, classes: Classes
) -> tuple[float, float, float]:
    """Returns precision, recall and F1: of entities, or of flat tags."""
    names = np.array(classes, object)
    pairs = [
        (names[row[row != NO_LABEL]].tolist(), names[guess[row != NO_LABEL]].tolist())
        for row, guess in zip(labels, predictions, strict=True)
    ]
    true, predicted = ([pair[k] for pair in pairs] for k in range(2))
    if all(_BIO.fullmatch(str(name)) for name in classes):
        scores = (entities.precision_score, entities.recall_score, entities.f1_score)
        precision, recall, f1 = (s(true, predicted, zero_division=0) for s in scores)
    else:
        inside = [name for name in classes if name != OUTSIDE]
        flat = (list(itertools.chain(*rows)) for rows in (true, predicted))
        precision, recall, f1, _ = precision_recall_fscore_support(
            *flat, labels=inside, average="micro", zero_division=0
        )
    return float(precision), float(recall), float(f1)
