"""Two-head average-K: the batch's threshold, and what the second layer learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.losses import (
    average_k_threshold,
    softmax_loss,
    two_head_average_k_loss,
)

PROBS = np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
LOGITS = jnp.log(jnp.asarray(PROBS, jnp.float32))


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (0.2, np.inf),  # of two examples less than half a class
        (0.5, (0.7 + 0.4) / 2),
        (1.0, (0.4 + 0.35) / 2),
        (1.5, (0.35 + 0.25) / 2),
        (2.5, (0.2 + 0.1) / 2),
        (3.0, 0.0),
    ],
)
def test_the_threshold_is_midway_between_two_probabilities(k, expected):
    np.testing.assert_allclose(average_k_threshold(LOGITS, k=k), expected, rtol=1e-6)


def test_the_threshold_leaves_out_rows_and_classes_and_bad_rows():
    where = jnp.array([True, False])
    found = average_k_threshold(LOGITS, k=1, where=where)
    np.testing.assert_allclose(found, (0.7 + 0.2) / 2, rtol=1e-6)
    mask = jnp.array([True, True, False])
    first = PROBS[:, :2] / PROBS[:, :2].sum(axis=1, keepdims=True)
    expected = np.sort(first.ravel())[::-1][1:3].mean()
    found = average_k_threshold(LOGITS, k=1, class_mask=mask)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert average_k_threshold(LOGITS, k=2, class_mask=mask) == 0
    bad = jnp.concatenate([LOGITS, jnp.full((1, 3), jnp.nan)])
    np.testing.assert_array_equal(
        average_k_threshold(bad, k=1), average_k_threshold(LOGITS, k=1)
    )
    assert average_k_threshold(LOGITS, k=1, where=jnp.zeros(2, bool)) == jnp.inf


def test_as_many_pseudo_labels_as_were_asked_for():
    logits = jax.random.normal(jax.random.key(0), (64, 10))
    for k in (1.0, 2.5, 7.0):
        threshold = average_k_threshold(logits, k=k)
        chosen = jax.nn.softmax(logits) >= threshold
        assert int(chosen.sum()) == 64 * k
        slope = jax.grad(
            lambda u, t=threshold: two_head_average_k_loss(
                logits, jnp.zeros(64, int), set_logits=u, threshold=t
            ).sum()
        )(jnp.zeros((64, 10)))
        np.testing.assert_array_equal(slope, jnp.where(chosen, -0.5, 0.5))


@pytest.mark.parametrize("k", [0.0, -1.0, 3.5])
def test_a_number_of_answers_that_cannot_be_is_refused(k):
    with pytest.raises(ValueError, match="`k` must be above 0 and at most 3"):
        average_k_threshold(LOGITS, k=k)
    assert jnp.isnan(jax.jit(lambda k: average_k_threshold(LOGITS, k=k))(k))


def test_no_gradient_flows_through_threshold_or_pseudo_labels():
    labels, u = jnp.array([0, 1]), jnp.ones((2, 3))

    def total(logits):
        threshold = average_k_threshold(logits, k=1.5)
        loss = two_head_average_k_loss(
            logits, labels, set_logits=u, threshold=threshold
        )
        return loss.sum()

    expected = jax.grad(lambda o: softmax_loss(o, labels).sum())(LOGITS)
    np.testing.assert_allclose(jax.grad(total)(LOGITS), expected, rtol=1e-6)


def test_a_second_layer_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="`set_logits` must have the shape"):
        two_head_average_k_loss(
            LOGITS, jnp.array([0, 1]), set_logits=jnp.ones((2, 4)), threshold=0.5
        )
    with pytest.raises(TypeError, match="`set_logits` must be floating point"):
        two_head_average_k_loss(
            LOGITS, jnp.array([0, 1]), set_logits=jnp.ones((2, 3), int), threshold=0.5
        )
