"""The float64 truth, the inputs that all batteries draw, and the double oracle.

The oracle is NumPy in float64, written apart from the package. A fast form passes
when its error against this truth is no larger than that of the plain form in the
same dtype, plus a small slack (see `assert_no_worse`). No tolerance is guessed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Truth(NamedTuple):
    """AS-Softmax in float64."""

    loss: np.ndarray  # [N]
    gradient: np.ndarray  # [N, C], for a cotangent of 1 in each row
    kept: np.ndarray  # [N, C] bool
    settled: np.ndarray  # [N] bool
    clear: np.ndarray  # [N] bool: no class within rounding error of the margin


def as_softmax(
    logits, labels, delta=None, rounding=2.0**-23, *, logit_margin=None
) -> Truth:
    """Computes AS-Softmax by its definition, in float64, for clean inputs.

    Args:
      logits: [N, C], as the code under test sees them.
      labels: [N] integers in [0, C).
      delta: a margin between probabilities, a number or [N]; or else
      rounding: the unit of rounding of the dtype that decides the mask. A row is
        `clear` when no |p_t - p_i - delta|, or |o_t - o_i - m|, is within 16 such
        units of the logits' size.
      logit_margin: m, a margin between logits, a number or [N].

    Returns:
      The truth and which rows a comparison may use.
    """
    o = np.asarray(logits, np.float64)
    t = np.asarray(labels)
    onehot = np.arange(o.shape[1]) == t[:, None]
    size = np.abs(o).max(-1, initial=0, where=np.isfinite(o))
    slack = 16 * rounding * (1 + size)[:, None]
    margin = np.asarray(logit_margin if delta is None else delta, np.float64)
    margin = np.broadcast_to(margin, t.shape)[:, None]
    by = by_logits if delta is None else by_probs
    dropped, near = by(o, onehot, margin, slack)
    kept = onehot | ~dropped
    o_t = o[onehot]
    log_total = logsumexp(np.where(kept, o, -np.inf))
    loss = log_total - o_t
    settled = kept.sum(-1) == 1
    gradient = np.where(kept, np.exp(o - log_total[:, None]), 0.0) - onehot
    gradient[settled] = 0.0
    loss = np.where(settled, 0.0, loss)
    return Truth(loss, gradient, kept, settled, ~(near & ~onehot).any(-1))


def by_logits(o, onehot, m, slack):
    """Which classes a margin between logits drops, and which are close to it."""
    with np.errstate(invalid="ignore"):  # of -inf - -inf
        lead = o[onehot][:, None] - o
        near = np.abs(lead - m) <= slack
    # Of equal numbers the difference is exactly 0.
    return lead > m, near & (m > 0)


def by_probs(o, onehot, delta, slack):
    """Which classes the paper's margin drops, and which are close to it."""
    p = softmax(o)
    p_t, o_t = p[onehot][:, None], o[onehot][:, None]
    gap = p_t - p - delta
    # Probabilities round where logits do not: ties are decided on logits.
    dropped = np.where(delta == 0, o < o_t, gap > 0)
    near = (np.abs(gap) <= slack) & (p_t > delta - slack)
    near &= (p > 0) | (p_t <= 2 * delta)
    return dropped, near & (delta > 0) & (delta < 1)


def softmax(o):
    """Softmax over the last axis in float64."""
    e = np.exp(o - o.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logsumexp(o):
    """Log of the sum of exponentials over the last axis in float64."""
    m = o.max(-1)
    return m + np.log(np.exp(o - m[..., None]).sum(-1))


def draw(kind, n, c, *, seed=0, scale=1.0, logit_margin=None):
    """Draws logits [n, c] float32 and labels [n] whose rows are of one kind.

    Args:
      kind: "hard" (every class is kept), "settled", "partial" (a few classes
        compete), or "mixed", a third of each.
      n: rows.
      c: classes, at least 2; "partial" needs 3.
      seed: of NumPy's generator.
      scale: of the logits' noise.
      logit_margin: the margin that the kinds are meant for; None: delta = 0.1.

    Returns:
      ``(logits, labels)``.
    """
    rng = np.random.default_rng(seed)
    o = rng.normal(size=(n, c)) * scale
    t = rng.integers(0, c, n)
    rows = np.arange(n)
    which = np.array(["hard", "partial", "settled"])[rows % 3]
    which = which if kind == "mixed" else np.full(n, kind)
    rival = (t + 1 + rng.integers(0, c - 1, n)) % c
    low, high, close = label_places(o, logit_margin)
    o[rows, t] = np.where(which == "hard", low, high)
    o[rows, rival] = np.where(which == "partial", close, o[rows, rival])
    return o.astype(np.float32), t.astype(np.int32)


def label_places(o, logit_margin):
    """Where a label is of a hard row and of another, and a rival that is kept."""
    if logit_margin is None:
        # p_t near 0.9 leaves nobody within 0.1; near 0.45 with a rival near 0.42, one.
        rest = logsumexp(o)
        return rest - 4, rest + 2.5, rest + 2.45
    m, high = logit_margin, o.max(-1)
    return o.min(-1) + m / 2, high + 1.5 * m, high + m


def assert_no_worse(actual, naive, truth, *, slack, rows=None):
    """Holds a fast form to the error of the plain one against the truth.

    Args:
      actual: what the code under test gave.
      naive: what the plain form gave in the same dtype.
      truth: float64.
      slack: the error allowed on top, relative to the largest true value of the
        row (or 1); a few units of rounding of the output's dtype.
      rows: which rows to compare; None: all.
    """
    actual, naive = np.asarray(actual, np.float64), np.asarray(naive, np.float64)
    truth = np.asarray(truth, np.float64)
    if rows is not None:
        assert np.mean(rows) >= 0.5, "the inputs leave too few rows to compare"
        actual, naive, truth = actual[rows], naive[rows], truth[rows]
    finite = np.isfinite(truth)
    np.testing.assert_array_equal(np.isfinite(actual), finite)
    np.testing.assert_array_equal(actual[~finite], truth[~finite])
    size = np.maximum(1.0, np.max(np.abs(truth), initial=0, where=finite))
    error = np.max(np.abs(actual - truth), initial=0, where=finite)
    allowed = np.max(np.abs(naive - truth), initial=0, where=finite) + slack * size
    assert error <= allowed, f"error {error:.3g} above {allowed:.3g}"


def assert_is_derivative(f, *arrays, step=1e-6):
    """Holds the gradient of the sum of f by each array to a central difference.

    Along random directions, in float64, which must be enabled.
    """
    gradients = jax.grad(lambda *a: jnp.sum(f(*a)), tuple(range(len(arrays))))(*arrays)
    for i, gradient in enumerate(gradients):
        for seed in range(3):
            along = np.random.default_rng(seed).normal(size=np.shape(arrays[i]))

            def at(times, i=i, along=along):
                moved = arrays[i] + times * along
                return np.sum(f(*arrays[:i], moved, *arrays[i + 1 :]))

            slope = (at(step) - at(-step)) / (2 * step)
            expected = np.vdot(np.asarray(gradient), along)
            np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)
