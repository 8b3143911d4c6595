"""Temperatures: what logits were scaled by is found, and no certainty out of luck."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from train.targets.calibration import (
    binary_probabilities,
    fit_binary_temperature,
    fit_temperature,
    probabilities,
)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_finds_what_logits_were_scaled_by(scale):
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.normal(size=(20_000, 5))
    drawn = softmax(logits, axis=-1).cumsum(axis=-1) < rng.random((20_000, 1))
    labels = np.minimum(drawn.sum(axis=-1), 4)
    found = fit_temperature(scale * logits, labels)
    np.testing.assert_allclose(found, scale, rtol=0.03)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_finds_what_binary_logits_were_scaled_by(scale):
    rng = np.random.default_rng(0)
    logits = 2.0 * rng.normal(size=(20_000, 3))
    targets = rng.random(logits.shape) < expit(logits)
    found = fit_binary_temperature(scale * logits, targets)
    np.testing.assert_allclose(found, scale, rtol=0.03)


@pytest.mark.parametrize("rows", [11, 300])
def test_without_an_error_a_probability_is_as_sure_as_so_many_rows_allow(rows):
    # Of n + 2 labels n + 1 are right, as it counts: with equal leads the best
    # temperature gives each label just that.
    labels = np.arange(rows) % 2
    logits = 3.0 * np.eye(2)[labels]
    temperature = fit_temperature(logits, labels)
    sure = probabilities(logits, temperature).max(axis=-1)
    np.testing.assert_allclose(sure, (rows + 1) / (rows + 2), rtol=1e-4)
    targets = labels[:, None] == 1
    signed = np.where(targets, 3.0, -3.0)
    temperature = fit_binary_temperature(signed, targets)
    probs = binary_probabilities(signed, temperature)
    sure = np.where(targets, probs, 1 - probs)
    np.testing.assert_allclose(sure, (rows + 1) / (rows + 2), rtol=1e-4)


def test_one_class_and_nothing_finite_have_a_temperature():
    assert np.isfinite(fit_temperature(np.zeros((4, 1)), np.zeros(4, int)))
    assert fit_temperature(np.full((4, 2), np.nan), np.zeros(4, int)) == 1.0
