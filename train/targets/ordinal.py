"""One class an example, of classes that are in order: ratings, grades, stages."""

import numpy as np

from ..command.lines import escaped
from ..config import DataConfig
from ..data.examples import Classes
from ..data.names import shown
from ..data.records import Records
from ..errors import DataError
from . import Calibration
from .metric import Metric
from .one_class import OneClass


class Ordinal(OneClass):
    """Labels int32 [n], the ranks from 0 on; the prediction is the largest score.

    Of thresholds between the classes the scores are such that this is the number of
    thresholds that are passed, see `train.models.heads.class_scores`.
    """

    ordered = True
    metrics: tuple[Metric, ...] = (
        *OneClass.metrics,
        Metric("mean_absolute_error", "mean absolute error", "ranks", False),
        Metric("quadratic_weighted_kappa", "quadratic weighted kappa", ""),
    )

    def find_classes(self, train: Records, config: DataConfig) -> Classes:
        """Returns the classes from the lowest to the highest.

        Those of `data.class_order`, or else whole numbers in their order.
        """
        found = super().find_classes(train, config)
        names = {str(label): label for label in found}
        if config.class_order:
            return tuple(names[n] for n in _checked_order(train, config, set(names)))
        if any(isinstance(label, str) for label in found):
            raise DataError(
                f"{train.origin}: the labels of column "
                f"`{escaped(config.label_column)}` are text, such as "
                f"{shown(found[0])}, and do not say their order; give it from the "
                "lowest to the highest, as --config.data.class_order=low,middle,high"
            )
        return found

    def score(
        self,
        logits: np.ndarray,
        labels: np.ndarray,
        classes: Classes,
        calibration: Calibration | None = None,
    ) -> dict[str, float]:
        """Returns the metrics of one class, and how far off the answers are."""
        figures = super().score(logits, labels, classes, calibration)
        counts = np.zeros((len(classes), len(classes)), np.int64)
        np.add.at(counts, (labels, logits.argmax(axis=-1)), 1)
        return figures | {
            "mean_absolute_error": mean_absolute_error(counts),
            "quadratic_weighted_kappa": quadratic_weighted_kappa(counts),
        }


def mean_absolute_error(counts: np.ndarray) -> float:
    """Returns by how many ranks answers are off, in the mean.

    Args:
      counts: of [label, answer].
    """
    ranks = np.arange(len(counts))
    distance = np.abs(ranks[:, None] - ranks)
    return float((counts * distance).sum() / max(counts.sum(), 1))


def quadratic_weighted_kappa(counts: np.ndarray) -> float:
    r"""Returns the agreement beyond chance, by squared distances of ranks.

    .. math::
      \kappa = 1 - \frac{\sum_{ij} (i - j)^2 O_{ij}}{\sum_{ij} (i - j)^2 E_{ij}}

    with O the counts and E those of independent labels and answers. It is 1 for answers
    that are all right, and 0 for any that have nothing to do with the labels.

    Args:
      counts: of [label, answer].
    """
    ranks = np.arange(len(counts))
    distance = (ranks[:, None] - ranks) ** 2
    of_chance = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / max(counts.sum(), 1)
    expected = float((of_chance * distance).sum())
    # One class alone, and always answered.
    return 1.0 - float((counts * distance).sum()) / expected if expected else 1.0


def _checked_order(
    train: Records, config: DataConfig, there: set[str]
) -> tuple[str, ...]:
    """Returns `data.class_order`; refuses one that is not of the training labels."""
    order = config.class_order
    wrong = sorted(there ^ set(order))
    if wrong:
        what = "is not named in it" if wrong[0] in there else "is no label there"
        raise DataError(
            f"`data.class_order` must name each label of {train.origin} once: "
            f"{shown(wrong[0])} {what}"
        )
    if len(set(order)) < len(order):
        raise DataError(f"`data.class_order` names a label twice: {', '.join(order)}")
    return order
