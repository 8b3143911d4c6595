"""Loops over rows whose number only the running program knows."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.heads._blocks import for_rows


@pytest.mark.parametrize("num_rows", [16, 32, 48, 160])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40, 129, 160])
def test_every_row_comes_once_and_few_in_vain(count, num_rows):
    count = min(count, num_rows)

    def add(offset, size, times):
        return times.at[offset + jnp.arange(size)].add(1)

    @jax.jit
    def run(count):
        none = jnp.zeros(num_rows, jnp.int32)
        return for_rows(count, num_rows, add, none, sizes=(64, 16))

    expected = np.arange(num_rows) < -(-count // 16) * 16
    np.testing.assert_array_equal(run(count), expected)


def test_what_has_no_row_is_not_computed():
    # A chunk of all rows is the same on each trip, which XLA takes out of a loop.
    x, w = jnp.ones((64, 8)), jnp.ones((8, 8))

    @jax.jit
    def run(count, x, w):
        def product(offset, size, carry):
            return carry + jax.lax.dynamic_slice_in_dim(x, offset, size) @ w

        return for_rows(count, 64, product, jnp.zeros((64, 8)), sizes=(64,))

    text = run.lower(jnp.int32(0), x, w).compile().as_text()
    entry = re.search(r"ENTRY.*?\n}", text, re.DOTALL).group()
    assert "dot_general" in text
    assert "dot_general" not in entry
