"""Bad input to the library: one line that names the argument."""

import re

import jax
import numpy as np
import optax
import pytest

from as_softmax_jax import (
    active_count_window,
    adaptive_multi_steps,
    as_softmax_loss,
    check_labels,
    compact_value_and_grad,
    heads,
    linear_as_softmax_loss,
    multi_label_as_softmax_loss,
    settled_ratio_window,
)

LOGITS, LABELS = np.zeros((4, 3), np.float32), np.zeros(4, np.int32)
FEATURES, KERNEL = np.zeros((4, 2), np.float32), np.zeros((2, 3), np.float32)

# name -> (call, error, what the line says)
CALLS = {
    "logits that are whole numbers": (
        lambda: as_softmax_loss(LABELS[:, None], LABELS, delta=0.1),
        (TypeError, "`logits` must be floating point"),
    ),
    "logits without a class": (
        lambda: as_softmax_loss(LOGITS[:, :0], LABELS, delta=0.1),
        (ValueError, "at least one class"),
    ),
    "labels that are one-hot": (
        lambda: as_softmax_loss(LOGITS, LOGITS, delta=0.1),
        (TypeError, "`labels` must be integers"),
    ),
    "labels of another batch": (
        lambda: as_softmax_loss(LOGITS, LABELS[:3], delta=0.1),
        (ValueError, "(4,); got (3,)"),
    ),
    "delta above 1": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=1.5),
        (ValueError, "`delta`"),
    ),
    "a margin between logits below 0": (
        lambda: as_softmax_loss(LOGITS, LABELS, logit_margin=-1.0),
        (ValueError, "`logit_margin` must be at least 0, and may be inf; got -1.0"),
    ),
    "no margin": (
        lambda: as_softmax_loss(LOGITS, LABELS),
        (ValueError, "takes one margin, `logit_margin` (of logits"),
    ),
    "two margins": (
        lambda: linear_as_softmax_loss(
            FEATURES, KERNEL, LABELS, delta=0.1, logit_margin=2.0
        ),
        (ValueError, "`delta` (of probabilities, the paper's, for example 0.1)"),
    ),
    "weights in place of a mask": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=0.1, where=LOGITS[:, 0]),
        (TypeError, "`where` must be boolean"),
    ),
    "an axis that is not there": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=0.1, axis=2),
        (ValueError, "`axis` must be in [-2, 2)"),
    ),
    "an implementation that is none": (
        lambda: as_softmax_loss(LOGITS, LABELS, delta=0.1, implementation="cuda"),
        (ValueError, "cuda"),
    ),
    "class indices for several labels": (
        lambda: multi_label_as_softmax_loss(LOGITS, LABELS, delta=0.1),
        (ValueError, "`targets` must be multi-hot"),
    ),
    "a kernel of the other layout": (
        lambda: linear_as_softmax_loss(FEATURES, KERNEL.T, LABELS, delta=0.1),
        (ValueError, "`kernel` must have the shape (2, C)"),
    ),
    "too few classes for the labels": (
        lambda: heads.sample_classes(
            jax.random.key(0), LABELS, num_classes=9, num_sampled=3
        ),
        (ValueError, "`num_sampled` must be in [4, 9]"),
    ),
    "windows without a length": (
        lambda: adaptive_multi_steps(
            optax.sgd(0.1), settled_ratio_window(), max_mini_steps=0
        ),
        (ValueError, "`max_mini_steps` must be an integer of at least 1"),
    ),
    "a window of no active example": (
        lambda: active_count_window(0),
        (ValueError, "`target` must be an integer of at least 1"),
    ),
    "capacities that do not increase": (
        lambda: compact_value_and_grad(lambda p, b: b, capacities=(8, 4)),
        (ValueError, "`capacities`"),
    ),
    "a label that is no class": (
        lambda: check_labels(LABELS + 3, num_classes=3),
        (ValueError, "3"),
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_the_library_refuses(case):
    call, (error, words) = CALLS[case]
    with pytest.raises(error, match=re.escape(words)) as refusal:
        call()
    assert "\n" not in str(refusal.value)
