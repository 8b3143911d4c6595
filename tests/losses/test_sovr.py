"""SOVR: the threshold of a batch, and which examples switch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import draw

from as_softmax_jax.losses import (
    LOSSES,
    multi_label_sigmoid_loss,
    softmax_loss,
    sovr_loss,
    sovr_threshold,
)

ROW = LOSSES["sovr"]
MARGINS = np.array([3.0, -1.0, 2.0, 0.5, 7.0])
LOGITS = jnp.asarray(np.stack([MARGINS, np.zeros(5)], axis=1), jnp.float32)
FIRST = jnp.zeros(5, int)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, -np.inf), (0.19, -np.inf), (0.2, -1), (0.4, 0.5), (0.79, 2), (1.0, 7)],
)
def test_the_threshold_is_a_margin_of_the_batch(share, expected):
    assert sovr_threshold(LOGITS, FIRST, share=share) == expected


def test_a_share_counts_as_it_is_written():
    logits = jnp.stack([jnp.arange(100.0), jnp.zeros(100)], axis=1)
    for percent in range(101):
        found = sovr_threshold(logits, jnp.zeros(100, int), share=percent / 100)
        assert found == (percent - 1 if percent else -np.inf)


def test_the_threshold_leaves_out_rows_and_bad_rows():
    where = jnp.array([True, False, True, True, True])
    assert sovr_threshold(LOGITS, FIRST, share=0.25, where=where) == 0.5
    bad, labels = LOGITS.at[1, 0].set(jnp.nan), FIRST.at[3].set(9)
    assert sovr_threshold(bad, labels, share=0.34) == 2
    assert sovr_threshold(LOGITS, FIRST, share=1.0, where=where & False) == -np.inf


def test_what_lies_at_the_threshold_or_below_switches():
    loss = sovr_loss(LOGITS, FIRST, threshold=0.5, weight=1.0)
    one_vs_rest = np.log1p(np.exp(-MARGINS)) + np.log(2)
    expected = np.where(MARGINS <= 0.5, one_vs_rest, np.log1p(np.exp(-MARGINS)))
    np.testing.assert_allclose(loss, expected, rtol=1e-6, atol=1e-7)


def test_with_none_and_with_all_it_is_one_of_its_parts():
    logits, labels = draw(ROW)
    none = sovr_loss(logits, labels, threshold=-np.inf, weight=0.4)
    np.testing.assert_array_equal(none, softmax_loss(logits, labels))
    every = sovr_loss(logits, labels, threshold=np.inf, weight=0.4)
    targets = jax.nn.one_hot(labels, 12, dtype=jnp.int32)
    expected = 0.4 * multi_label_sigmoid_loss(logits, targets)
    np.testing.assert_allclose(every, expected, rtol=1e-6)


def test_an_example_without_a_rival_never_switches():
    loss = sovr_loss(jnp.ones((1, 1)), FIRST[:1], threshold=np.inf, weight=1.0)
    assert loss == 0


def test_no_weight_is_no_part_even_of_an_infinite_loss():
    logits = jnp.array([-jnp.inf, 0.0])
    loss = sovr_loss(logits, jnp.array(0), threshold=0.0, weight=0.0)
    assert loss == 0


def test_what_cannot_be_is_refused():
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"`share` must be in \[0, 1\]"):
            sovr_threshold(LOGITS, FIRST, share=share)
        assert jnp.isnan(
            jax.jit(lambda s: sovr_threshold(LOGITS, FIRST, share=s))(share)
        )
    loss = sovr_loss(LOGITS, FIRST, threshold=jnp.array(jnp.nan), weight=1.0)
    assert jnp.isnan(loss).all()
