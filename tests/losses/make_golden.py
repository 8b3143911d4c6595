"""Prints golden values out of plain formulas, in float64 NumPy, apart from the package.

    python tests/losses/make_golden.py poly maxsup    # these; without names, all

A formula takes one row of logits, a complex array, and its target: a label, multi-hot
targets, or a distribution. The gradient is by a complex step: the imaginary part of
f(z + i h e_j) / h, which has no difference of close numbers in it. So a formula uses
`where` and real parts in place of `abs`, and `.real` of what counts as a constant.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from golden import case
from golden.case import C1, C2, COUNTS, FAR, ONE, PAIRS, TWO, A, B, D, E, H, Q, T, X

CASES: list[tuple[str, Callable[..., Any], Any, Any, dict[str, Any]]] = []


def cases(*arrays: tuple[Any, Any], **keywords: Any) -> Callable[..., Any]:
    """Registers a formula, `<name>_loss`, for pairs of logits and target."""

    def register(formula: Callable[..., Any]) -> Callable[..., Any]:
        name = formula.__name__.removesuffix("_loss")
        CASES.extend((name, formula, *pair, keywords) for pair in arrays)
        return formula

    return register


def value_and_gradient(
    formula: Callable[..., Any], logits: Any, target: Any, keywords: dict[str, Any]
) -> tuple[float, np.ndarray]:
    """Returns the loss of one row and its gradient by the logits."""
    row = np.array(logits, complex)
    target = target if np.ndim(target) == 0 else np.array(target)
    step = 1e-30
    slopes = [
        np.imag(formula(row + 1j * step * one, target, **keywords)) / step
        for one in np.eye(len(row))
    ]
    return float(np.real(formula(row, target, **keywords))), np.array(slopes)


# --- pieces ---------------------------------------------------------------------------


def lse(z):
    """Log of the sum of exponentials."""
    top = z.real.max()
    return top + np.log(np.exp(z - top).sum())


def softmax(z):
    return np.exp(z - lse(z))


def softplus(x):
    """log(1 + e^x), by its larger part."""
    positive = np.real(x) > 0
    return np.where(positive, x, 0) + np.log1p(np.exp(np.where(positive, -x, x)))


def sigmoid(x):
    return np.exp(-softplus(-x))


def onehot(label, z):
    return (np.arange(len(z)) == label).astype(float)


def cross_entropy(z, label):
    return lse(z) - z[label]


# --- softmax and its kin --------------------------------------------------------------


@cases((A, 1), (B, 2), (X, 1))
def softmax_loss(z, label):
    return cross_entropy(z, label)


# --- several labels: decoupled softmax and soft top-k ---------------------------------


@cases((A, T), (B, T), (X, T))
def multi_label_decoupled_softmax_loss(z, targets):
    rivals = lse(z[targets == 0])
    return softplus(rivals - z[targets == 1]).mean()


@cases((A, T), (B, T), k=2)
def multi_label_soft_top_k_loss(z, targets, k, alpha=2.0):
    def total(t):
        return sigmoid(alpha * (z + t)).sum()

    low, high = -1e3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle).real < k else (low, middle)
    # One step of Newton's method carries the derivative of the root.
    chosen = sigmoid(alpha * (z.real + low))
    t = low - (total(low) - k) / (alpha * chosen * (1 - chosen)).sum()
    return softplus(-alpha * (z + t)[targets == 1]).mean()


# --- ordered classes, active classes --------------------------------------------------


@cases((D, 0), (D, 2), (D, 4))
def ordinal_cross_entropy_loss(z, label):
    passed = np.arange(len(z)) < label
    return (softplus(z) - np.where(passed, z, 0)).sum()


@cases((A, 1), (B, 2), active=(False, True, True, False))
@cases((A, 1), (B, 2), active=(False, True, True, False), mask_value=0.0)
def masked_softmax_loss(z, label, active, mask_value=-np.inf):
    there = np.array(active) | (np.arange(len(z)) == label)
    return cross_entropy(np.where(there, z, mask_value), label)


# --- robust to the distribution of labels ---------------------------------------------


def normalised(z, logit_norm):
    if logit_norm is None:
        return z
    values = softplus(z) if logit_norm == "softplus" else z
    return values / np.where(values.real > 0, values, -values).mean()


@cases((A, 1), (B, 2))
@cases((B, 2), temperature=10.0, logit_norm="softplus")
def ldr_kl_loss(z, label, temperature=1.0, margin=0.1, logit_norm=None):
    z = normalised(z, logit_norm)
    ahead = z - z[label] + margin * (1 - onehot(label, z))
    return temperature * (lse(ahead / temperature) - np.log(len(z)))


@cases((A, 1), temperature=9.99156741834473, base=10.0, logit_norm="l1")
@cases((B, 2), temperature=9.98805737746604, base=10.0, logit_norm="l1")
@cases((B, 2), temperature=0.75)
def aldr_kl_loss(
    z, label, temperature, base=1.0, alpha=2.0, margin=0.1, logit_norm=None
):
    loss = ldr_kl_loss(z, label, temperature, margin, logit_norm)
    penalty = alpha * np.log(len(z)) / (2 * base) * (temperature - base) ** 2
    return loss - penalty


# --- values of the batch --------------------------------------------------------------


@cases((A, 1), set_logits=D, threshold=0.256480327874265)
@cases((B, 2), set_logits=A, threshold=0.256480327874265, weight=0.5)
def two_head_average_k_loss(z, label, set_logits, threshold, weight=1.0):
    u, chosen = np.array(set_logits), softmax(z).real >= threshold
    return cross_entropy(z, label) + weight * (softplus(u) - chosen * u).sum()


@cases((A, 1), (B, 2), threshold=-3.0, weight=0.4)
def sovr_loss(z, label, threshold, weight):
    if (z[label] - np.delete(z, label).real.max()).real > threshold:
        return cross_entropy(z, label)
    sign = 1 - 2 * onehot(label, z)
    return weight * softplus(sign * z).sum()


@cases((A, 1), (B, 2), temperature=2.0)
def temperature_softmax_loss(z, label, temperature):
    return cross_entropy(z / temperature, label)


@cases((A, 1), (B, 2), (X, 1), smoothing=0.1)
def label_smoothing_loss(z, label, smoothing):
    q = (1 - smoothing) * onehot(label, z) + smoothing / len(z)
    return (q * (lse(z) - z)).sum()


@cases((A, 1), gamma=2.0)
def focal_loss(z, label, gamma):
    return (1 - softmax(z)[label]) ** gamma * cross_entropy(z, label)


@cases((A, 1), (B, 2), margin=0.3)
def soft_margin_softmax_loss(z, label, margin):
    return cross_entropy(z - margin * onehot(label, z), label)


# --- probabilities with exact zeros ---------------------------------------------------


@cases((A, 3), (A, 1), (B, 2), (D, 0), k=2)
def sparse_softmax_loss(z, label, k):
    strongest = np.argsort(-z.real, kind="stable")[:k]
    return lse(z[strongest]) - z[label]


@cases((A, 1), (B, 2), (D, 0), (E, 0), (A, Q))
def sparsemax_loss(z, target):
    return entmax_loss(z, target, alpha=2.0)


@cases((A, 1), (B, 2), (D, 0), (A, Q), alpha=1.5)
@cases((B, 2), alpha=1.25)
def entmax_loss(z, target, alpha):
    """At the p that is best its own change has no part in that of the loss."""
    q = onehot(target, z) if np.ndim(target) == 0 else target
    x, power = z.real - z.real.max(), 1 / (alpha - 1)
    low, high = -1.0, 0.0  # the threshold of (alpha - 1) x
    for _ in range(100):
        middle = (low + high) / 2
        total = (np.maximum((alpha - 1) * x - middle, 0) ** power).sum()
        low, high = (middle, high) if total >= 1 else (low, middle)
    p = np.maximum((alpha - 1) * x - low, 0) ** power
    p /= p.sum()
    entropies = (q**alpha - p**alpha).sum() / (alpha * (alpha - 1))
    return ((p - q) * (z - z.real.max())).sum() + entropies


# --- other curves ---------------------------------------------------------------------


@cases((A, 1), (B, 2), (X, 1))
@cases((A, Q))
def poly_loss(z, target, epsilon=2.0):
    """The mean over labels drawn from the target."""
    q = onehot(target, z) if np.ndim(target) == 0 else target
    return (q * (lse(z) - z + epsilon * (1 - softmax(z)))).sum()


@cases((A, 1), (B, 2), tau=0.0)
@cases((A, 1), tau=1.0)
@cases((A, 1), (B, 2), tau=1.7)
@cases((B, 2), (X, 1), tau=2.0)
def comp_sum_loss(z, label, tau):
    u = np.delete(np.exp(z - z[label]), label).sum() if tau < 2 else None
    if tau == 1:
        return np.log1p(u)
    p = softmax(z)[label]
    return 1 - p if tau == 2 else ((1 + u) ** (1 - tau) - 1) / (1 - tau)


# --- penalties ------------------------------------------------------------------------


@cases((A, 1), (B, 2), (X, 1))
def maxsup_loss(z, label, weight=0.1):
    largest = z[np.argmax(z.real)]
    return cross_entropy(z, label) + weight * (largest - z.mean())


@cases((A, 1), (B, 2), (TWO, 0), (ONE, 0))
def squentropy_loss(z, label):
    others = np.delete(z, label)
    return cross_entropy(z, label) + (others**2).sum() / max(len(others), 1)


# --- noisy labels ---------------------------------------------------------------------


@cases((A, 1), (B, 2))
def normalized_cross_entropy_loss(z, label):
    return (z[label] - lse(z)) / (z - lse(z)).sum()


@cases((A, 1), (B, 2))
def normalized_focal_loss(z, label, gamma=0.5):
    each = (1 - softmax(z).real) ** gamma * (z - lse(z))
    return each[label] / each.sum()


@cases((A, 1), (B, 2))
def mean_absolute_error_loss(z, label):
    return 1 - softmax(z)[label]


@cases((A, 1), (B, 2))
def reverse_cross_entropy_loss(z, label):
    return -np.log(1e-4) * np.delete(softmax(z), label).sum()


@cases((A, 1), (B, 2))
@cases((B, 2), active="nfl", passive="mae", active_weight=10.0, passive_weight=0.1)
def active_passive_loss(
    z, label, active="nce", passive="rce", active_weight=1.0, passive_weight=1.0
):
    by_name = {
        "nce": normalized_cross_entropy_loss,
        "nfl": normalized_focal_loss,
        "rce": reverse_cross_entropy_loss,
        "mae": mean_absolute_error_loss,
    }
    first, second = by_name[active](z, label), by_name[passive](z, label)
    return active_weight * first + passive_weight * second


# --- by another geometry --------------------------------------------------------------


@cases((A, Q), (B, Q), (X, Q), (A, 1))
def softmax_squared_error_loss(z, target):
    q = onehot(target, z) if np.ndim(target) == 0 else target
    return ((softmax(z) - q) ** 2).sum() / 2


@cases((A, 1), (B, 2), (TWO, 1))
@cases((B, 2), scale=0.5, shift=1.0)
def spherical_z_loss(z, label, scale=1.0, shift=0.0):
    deviation = np.sqrt(((z - z.mean()) ** 2).mean())
    return softplus(scale * (shift - (z[label] - z.mean()) / deviation)) / scale


@cases((A, 1), (B, 2), (X, 1))
def stablemax_loss(z, label):
    s = np.where(z.real >= 0, z + 1, 1 / (1 - np.where(z.real < 0, z, 0)))
    return -np.log(s[label] / s.sum())


# --- each class by itself -------------------------------------------------------------


@cases((A, 1), (H, 0))
def squared_hinge_loss(z, label):
    return multi_label_squared_hinge_loss(z, onehot(label, z))


@cases((B, T))
def multi_label_squared_hinge_loss(z, targets):
    short = 1 - np.where(targets == 1, z, -z)
    return (np.where(short.real > 0, short, 0) ** 2).sum()


@cases((A, 1), (X, 1))
def one_vs_rest_loss(z, label):
    return softplus(np.where(onehot(label, z) == 1, -z, z)).sum()


@cases((A, T), (B, T), (X, T))
@cases((B, T), gamma_pos=1.0, stop_weight_gradient=True)
def multi_label_asymmetric_loss(
    z, targets, gamma_neg=4.0, gamma_pos=0.0, clip=0.05, stop_weight_gradient=False
):
    p = sigmoid(z)
    above = (targets == 0) & (p.real > clip)
    excess = np.where(above, p - clip, 0)
    weights = np.where(targets == 1, sigmoid(-z) ** gamma_pos, excess**gamma_neg)
    if stop_weight_gradient:
        weights = weights.real
    costs = np.where(targets == 1, softplus(-z), -np.log(1 - excess))
    return (weights * costs).sum()


@cases((A, 1), (B, 2))
@cases((B, 2), gamma_pos=2.0)
def asymmetric_single_label_loss(z, label, gamma_neg=4.0, gamma_pos=0.0, smoothing=0.1):
    p, one = softmax(z), onehot(label, z)
    weights = np.where(one == 1, (1 - p) ** gamma_pos, p**gamma_neg)
    shares = (1 - smoothing) * one + smoothing / len(z)
    return (shares * weights * (lse(z) - z)).sum()


# --- a yes or no of each class by the Gumbel distribution -----------------------------


@cases((A, 1), (B, 2), (D, 3))
def gumbel_loss(z, label):
    return multi_label_gumbel_loss(z, onehot(label, z))


@cases((B, T), (FAR, T))
def multi_label_gumbel_loss(z, targets):
    there = np.where(z.real < -4, -np.exp(4) * (3 + z), np.exp(-z))
    absent = -np.log(1 - np.exp(-np.exp(-z)))  # no logit here is large
    return np.where(targets == 1, there, absent).sum()


# --- cosines, and class counts --------------------------------------------------------


@cases((C1, 2), (C2, 3), angle=0.3, cosine=0.1, scale=16.0)
def margin_softmax_loss(c, label, angle, cosine, scale):
    turned = c * np.cos(angle) - np.sqrt(1 - c**2) * np.sin(angle) - cosine
    one = onehot(label, c)
    return cross_entropy(scale * np.where(one == 1, turned, c), label)


@cases((C1, 2), (C2, 3))
def arcface_loss(c, label):
    return margin_softmax_loss(c, label, 0.5, 0.0, 64.0)


@cases((C1, 2), (C2, 3), key=0, deviation=0.0)
def elastic_arcface_loss(c, label, key, deviation):
    return margin_softmax_loss(c, label, 0.5, 0.0, 64.0)


@cases((C1, 2), (C2, 3), key=0, deviation=0.0)
def elastic_cosface_loss(c, label, key, deviation):
    return margin_softmax_loss(c, label, 0.0, 0.35, 64.0)


@cases((C1, 2), norms=26.8, norm_state=(20.0, 9.0))
@cases((C2, 3), norms=4.8, norm_state=(20.0, 9.0))
def adaface_loss(c, label, norms, norm_state):
    mean, deviation = norm_state
    quality = np.clip(0.333 * (norms - mean) / (deviation + 1e-3), -1, 1)
    return margin_softmax_loss(c, label, -0.4 * quality, 0.4 + 0.4 * quality, 64.0)


@cases((C1, 2), (C2, 3))
def madacos_loss(c, label):
    own, rivals = c[label].real, np.delete(c.real, label)
    scale = max(32.0, np.log(9999999 * 0.9 / 0.1) / (1 - own))
    margin = max(0.0, own - (lse(scale * rivals) + np.log(0.1 / 0.9)) / scale)
    return cross_entropy(scale * (c - margin * onehot(label, c)), label)


@cases((C1, 2), (C2, 3), bias=15.25)
@cases((C1, 2), bias=1.0, scale=8.0, exponent=1.5)
def sphereface2_loss(c, label, bias, scale=40.0, exponent=3.0):
    one, spread = onehot(label, c), 2 * ((c + 1) / 2) ** exponent - 1
    own = 0.7 * softplus(-scale * (spread - 0.4) - bias)
    others = 0.3 * softplus(scale * (spread + 0.4) + bias)
    return np.where(one == 1, own, others).sum() / scale


@cases((C1, 2), (C2, 3), pairs=PAIRS, cosine=0.35)
def unpg_loss(c, label, pairs, cosine):
    cosines, kept = (np.array(part).ravel() for part in pairs)
    logits = np.append(c - cosine * onehot(label, c), cosines[kept])
    return cross_entropy(64.0 * logits, label)


@cases((A, 1), (B, 2))
def dismax_loss(z, label):
    return cross_entropy(10.0 * z, label)


@cases((C1, 2), (C2, 3))
def real_am_softmax_loss(c, label):
    gaps = 30.0 * (c - c[label] + 0.2)
    hinged = np.where((gaps.real > 0) & (onehot(label, c) == 0), gaps, 0)
    return lse(hinged) - np.log(len(c))


@cases((C1, 2), (C2, 3), scale=32.0)
def circle_loss(c, label, scale):
    weights = np.maximum(c.real + 0.25, 0)
    own = np.maximum(1.25 - c.real, 0)
    one = onehot(label, c)
    z = scale * np.where(one == 1, own * (c - 0.75), weights * (c - 0.25))
    return cross_entropy(z, label)


@cases((A, 1), (B, 2), class_counts=COUNTS)
def balanced_softmax_loss(z, label, class_counts):
    return cross_entropy(z + np.log(class_counts), label)


@cases((C1, 2), (C2, 3), class_counts=COUNTS)
def ldam_loss(c, label, class_counts):
    roots = np.array(class_counts) ** -0.25
    margin = 0.5 * roots / roots.max() * onehot(label, c)
    return cross_entropy(30.0 * (c - margin), label)


def written(value: Any) -> str:
    """Writes an input by its name in `golden.case`, where it has one."""
    if isinstance(value, dict):
        items = (f"{name!r}: {written(held)}" for name, held in value.items())
        return f"{{{', '.join(items)}}}"
    named = (name for name, held in vars(case).items() if held is value)
    return next(named, repr(value)) if isinstance(value, tuple) else repr(value)


def main() -> None:
    """Prints the cases of the losses named, as they stand in `golden/`."""
    for name, formula, logits, target, keywords in CASES:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        loss, gradient = value_and_gradient(formula, logits, target, keywords)
        slopes = "".join(f"{slope + 0.0:.12g}, " for slope in gradient)
        inputs = f"{written(keywords)}, {written(logits)}, {written(target)}"
        print(f'Golden("{name}", {inputs}, {loss:.12g}, ({slopes})),')


if __name__ == "__main__":
    main()
