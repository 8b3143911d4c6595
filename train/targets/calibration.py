"""Probabilities that mean what they say: temperature scaling and its measure.

AS-Softmax stops pushing the label's probability once it leads by the margin, so its
raw probabilities are timid; one temperature, fitted on validation data, corrects that
(Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599).

Where validation has no error any smaller temperature fits better, down to certainty.
There one of n + 2 labels counts as if it were the strongest other class, as in Platt's
scaling (Platt, "Probabilistic Outputs for Support Vector Machines", 1999).
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax

_NUM_BINS = 15
# Of the logarithm of the temperature.
_BOUNDS = (-4.0, 4.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature T with the smallest cross-entropy of logits / T.

    Args:
      logits: float [n, classes].
      labels: int [n].

    Returns:
      It, of the rows whose logits are finite; 1 where none are.
    """
    finite = np.isfinite(logits).all(axis=-1)
    logits, labels = logits[finite], labels[finite]
    rows = np.arange(len(labels))

    others = np.array(logits, np.float64)
    others[rows, labels] = -np.inf
    answers = np.stack([labels, others.argmax(axis=-1)])
    doubt = _doubt(logits[rows, labels] > others.max(axis=-1))

    def loss(temperature: float) -> float:
        log_probs = log_softmax(logits / temperature, axis=-1)
        own, other = -log_probs[rows, answers].mean(axis=-1)
        return float((1 - doubt) * own + doubt * other)

    return _best_temperature(loss) if finite.any() else 1.0


def fit_binary_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Returns the temperature with the smallest binary cross-entropy of logits / T.

    Args:
      logits: float [n, classes].
      targets: bool [n, classes].

    Returns:
      It, of the rows whose logits are finite; 1 where none are.
    """
    finite = np.isfinite(logits).all(axis=-1)
    logits, targets = logits[finite], targets[finite]
    signed = np.where(targets, logits, -logits).astype(np.float64)

    doubt = _doubt(signed > 0)

    def loss(temperature: float) -> float:
        own, other = (
            np.logaddexp(0.0, x / temperature).mean() for x in (-signed, signed)
        )
        return float((1 - doubt) * own + doubt * other)

    return _best_temperature(loss) if finite.any() else 1.0


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    r"""Returns the mean gap between confidence and accuracy over 15 equal bins.

    .. math:: \sum_b \frac{n_b}{n} | \text{accuracy}_b - \text{confidence}_b |

    Args:
      confidence: probabilities [n].
      correct: bool [n], what each probability was for came true.

    Returns:
      The gap; NaN where a probability is.
    """
    if not np.isfinite(confidence).all():
        return float("nan")
    bins = np.minimum((confidence * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / max(len(confidence), 1))


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns softmax(logits / T) over the last axis, float64."""
    return np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=-1))


def binary_probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns the sigmoid of logits / T, float64."""
    return expit(logits.astype(np.float64) / temperature)


def _doubt(right: np.ndarray) -> float:
    """Returns the share of labels that count as wrong; `right` has a row an example."""
    return 1 / (len(right) + 2) if right.all() else 0.0


def _best_temperature(loss: Callable[[float], float]) -> float:
    """Minimises over the logarithm, in which a factor counts alike up and down."""
    found = minimize_scalar(
        lambda log: loss(float(np.exp(log))), bounds=_BOUNDS, method="bounded"
    )
    return float(np.exp(found.x))
