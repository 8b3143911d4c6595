"""The score of DisMax on any logits: its reference, masks, what cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from three_examples import LOGITS

from as_softmax_jax.reference._distance import max_mean_entropy_score as reference
from as_softmax_jax.scores import max_mean_entropy_score


def test_is_its_reference():
    with jax.enable_x64(True):
        found = max_mean_entropy_score(LOGITS)
        np.testing.assert_allclose(found, reference(jnp.asarray(LOGITS)), rtol=1e-12)


def test_masked_and_absent_classes_have_no_part():
    logits = jnp.asarray(LOGITS, jnp.float32)
    expected = max_mean_entropy_score(logits[:, :3])
    mask = jnp.array([True, True, True, False])
    found = max_mean_entropy_score(logits.at[:, 3].set(jnp.nan), class_mask=mask)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    absent = logits.at[:, 3].set(-jnp.inf)
    np.testing.assert_allclose(max_mean_entropy_score(absent), expected, rtol=1e-6)
    gradient = jax.grad(lambda o: max_mean_entropy_score(o).sum())(absent)
    assert jnp.isfinite(gradient).all()
    first = max_mean_entropy_score(logits.T, axis=0)
    np.testing.assert_array_equal(first, max_mean_entropy_score(logits))


def test_rows_left_out_are_0_and_bad_ones_nan():
    logits = jnp.asarray(LOGITS, jnp.float32).at[0, 0].set(jnp.nan)
    found = max_mean_entropy_score(logits)
    np.testing.assert_array_equal(jnp.isnan(found), [True, False, False])
    found = max_mean_entropy_score(logits, where=jnp.array([False, True, True]))
    assert found[0] == 0
    assert not jnp.isnan(found).any()
    with pytest.raises(TypeError, match="`logits` must be floating point"):
        max_mean_entropy_score(jnp.ones((2, 3), int))
