"""Identities: where one loss is another one, by the formulas of both.

That a loss is its baseline at one value of a keyword is `softmax_at` of its row, which
`test_every_loss.py` tests.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import CLASSES, ROWS, draw

from as_softmax_jax.losses import LOSSES

EVERY, SOME = np.ones(CLASSES, bool), np.arange(CLASSES) % 3 != 1
ZEROS = np.zeros((ROWS, CLASSES))

# Loss, its keywords, the loss that it is, its keywords.
SAME = (
    ("entmax", {"alpha": 2.0}, "sparsemax", {}),
    ("focal", {"gamma": 0.0}, "softmax", {}),
    ("aldr_kl", {"temperature": 1.0}, "ldr_kl", {}),
    ("masked_softmax", {"active": EVERY}, "softmax", {}),
    ("masked_softmax", {"active": SOME}, "softmax", {"class_mask": SOME}),
    ("sovr", {"threshold": -np.inf, "weight": 1.0}, "softmax", {}),
    (
        "two_head_average_k",
        {"set_logits": ZEROS, "threshold": 0.1, "weight": 0.0},
        "softmax",
        {},
    ),
    ("sparse_softmax", {"k": CLASSES}, "softmax", {}),
    ("am_softmax", {"margin": 0.0, "scale": 1.0}, "softmax", {}),
    ("comp_sum", {"tau": 2.0}, "mean_absolute_error", {}),
    ("reverse_cross_entropy", {"log_zero": -1.0}, "mean_absolute_error", {}),
    ("normalized_focal", {"gamma": 0.0}, "normalized_cross_entropy", {}),
    ("active_passive", {"passive_weight": 0.0}, "normalized_cross_entropy", {}),
    (
        "active_passive",
        {"active": "nfl", "passive_weight": 0.0},
        "normalized_focal",
        {},
    ),
    ("active_passive", {"active_weight": 0.0}, "reverse_cross_entropy", {}),
    (
        "active_passive",
        {"active_weight": 0.0, "passive": "mae"},
        "mean_absolute_error",
        {},
    ),
    ("asymmetric_single_label", {"gamma_neg": 0.0}, "label_smoothing", {}),
    ("asymmetric_single_label", {"smoothing": 0.0, "gamma_pos": 2.0}, "focal", {}),
    ("multi_label_softmax", {}, "multi_label_as_softmax", {"logit_margin": math.inf}),
    (
        "multi_label_asymmetric",
        {"gamma_neg": 0.0, "clip": 0.0},
        "multi_label_sigmoid",
        {},
    ),
)

# A loss of one label, and the one of several that it is for a label alone.
SAME_AS_ONE_HOT = (
    ("squared_hinge", "multi_label_squared_hinge"),
    ("one_vs_rest", "multi_label_sigmoid"),
)


def loss_and_gradient(name, keywords, logits, target):
    """Of each row."""
    loss, vjp = jax.vjp(lambda o: LOSSES[name].function(o, target, **keywords), logits)
    return loss, vjp(jnp.ones_like(loss))[0]


def assert_same(found, expected):
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-11, atol=1e-11)


def name_of(case):
    name, keywords, *_ = case
    return "-".join([name, *keywords])


@pytest.fixture
def drawn():
    """Logits and targets of a loss, in float64."""
    with jax.enable_x64(True):
        yield lambda name: draw(LOSSES[name], dtype="float64")


@pytest.mark.parametrize("case", SAME, ids=name_of)
def test_one_loss_is_another(case, drawn):
    name, keywords, other, other_keywords = case
    arrays = drawn(name)
    found = loss_and_gradient(name, keywords, *arrays)
    assert_same(found, loss_and_gradient(other, other_keywords, *arrays))


@pytest.mark.parametrize(("name", "other"), SAME_AS_ONE_HOT)
def test_a_label_is_a_set_of_one(name, other, drawn):
    logits, labels = drawn(name)
    found = loss_and_gradient(name, {}, logits, labels)
    onehot = jax.nn.one_hot(labels, CLASSES)
    assert_same(found, loss_and_gradient(other, {}, logits, onehot))


def test_reverse_cross_entropy_is_absolute_error_times_minus_log_of_1e_4(drawn):
    logits, labels = drawn("softmax")
    found = loss_and_gradient("reverse_cross_entropy", {}, logits, labels)
    errors = loss_and_gradient("mean_absolute_error", {}, logits, labels)
    assert_same(found, [-math.log(1e-4) * part for part in errors])


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_comp_sum_from_1_to_2_is_generalised_cross_entropy(q, drawn):
    logits, labels = drawn("softmax")
    loss, _ = loss_and_gradient("comp_sum", {"tau": 1 + q}, logits, labels)
    p = np.take_along_axis(
        np.asarray(jax.nn.softmax(logits)), np.asarray(labels)[:, None], 1
    )
    np.testing.assert_allclose(loss, (1 - p[:, 0] ** q) / q, rtol=1e-11)


def test_stablemax_is_softmax_of_the_logarithms(drawn):
    logits, labels = drawn("softmax")
    found, _ = loss_and_gradient("stablemax", {}, logits, labels)
    logarithms = jnp.sign(logits) * jnp.log1p(jnp.abs(logits))
    expected, _ = loss_and_gradient("softmax", {}, logarithms, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_maxsup_is_label_smoothing_where_the_label_is_the_largest(drawn):
    logits, _ = drawn("softmax")
    labels = jnp.argmax(logits, axis=-1)
    found = loss_and_gradient("maxsup", {"weight": 0.2}, logits, labels)
    smoothed = loss_and_gradient("label_smoothing", {"smoothing": 0.2}, logits, labels)
    assert_same(found, smoothed)


def test_twice_the_squared_error_is_the_brier_score(drawn):
    logits, labels = drawn("softmax")
    loss, _ = loss_and_gradient("softmax_squared_error", {}, logits, labels)
    errors = np.asarray(jax.nn.softmax(logits)) - np.eye(CLASSES)[np.asarray(labels)]
    np.testing.assert_allclose(2 * loss, (errors**2).sum(-1), rtol=1e-11)


def test_poly_of_a_distribution_is_the_mean_over_its_labels(drawn):
    logits, _ = drawn("poly")
    halves = jnp.zeros(logits.shape).at[:, 2].set(0.25).at[:, 5].set(0.75)
    found = loss_and_gradient("poly", {"epsilon": -0.5}, logits, halves)
    second, fifth = (
        loss_and_gradient("poly", {"epsilon": -0.5}, logits, jnp.full(len(logits), k))
        for k in (2, 5)
    )
    assert_same(
        found, [0.25 * a + 0.75 * b for a, b in zip(second, fifth, strict=True)]
    )
