"""The k-th largest number by its bits is that of a sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax._core.order import kth_largest

ENDS = np.finfo(np.float32).max


def drawn(dtype):
    """Rows of normal numbers, of ties, of the ends of the range, and of -inf."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 9))
    rows[1] = np.round(rows[1])
    rows[2] = rng.choice([-ENDS, -1.0, -0.0, 0.0, 1e-30, ENDS], 9)
    rows[3, :5] = -np.inf
    rows[4] = -np.inf
    rows[5] = -1e-3 * np.arange(9)
    return rows.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_it_is_that_of_a_sort(k, dtype):
    with jax.enable_x64(dtype == np.float64):
        values = drawn(dtype)
        found = jax.jit(kth_largest, static_argnums=1)(values, k)
        assert found.dtype == dtype
        expected = np.sort(values, axis=-1)[:, 9 - k, None]
        np.testing.assert_array_equal(found, expected)


def test_it_is_a_constant():
    def above(values):
        return (values - kth_largest(values, 2)).sum()

    values = jnp.array([3.0, 1.0, 2.0])
    np.testing.assert_array_equal(jax.grad(above)(values), [1, 1, 1])
    assert kth_largest(values, 2).shape == (1,)
