"""The parts of convolutional networks: norm, pooling, blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train.config import ModelConfig
from train.models.convolution import Blocks, Convolution, max_pool

pytestmark = pytest.mark.standard_promotion(reason="flax's layers need it")

FLOAT32 = jnp.dtype("float32")


def numbers(*shape):
    return jax.random.normal(jax.random.key(0), shape)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (1, 2), (1, 1)])
def test_pooling_is_that_of_flax(height, width):
    x = numbers(2, height, width, 3)
    expected = nnx.max_pool(x, (2, 2), strides=(2, 2), padding="SAME")
    np.testing.assert_array_equal(max_pool(x), expected, strict=True)


@pytest.mark.parametrize(("outputs", "groups"), [(16, 1), (48, 3), (8, 1), (24, 1)])
def test_channels_are_normalised_in_groups_of_16_of_one_example(
    quick_jit, outputs, groups
):
    def apply(x):
        return Convolution(3, outputs, dtype=FLOAT32, rngs=nnx.Rngs(0))(x)

    out = quick_jit(apply)(10.0 * numbers(2, 6, 6, 3)).reshape(2, 36, groups, -1)
    np.testing.assert_allclose(out.mean((1, 3)), np.zeros((2, groups)), atol=1e-5)
    np.testing.assert_allclose(out.var((1, 3)), np.ones((2, groups)), rtol=1e-3)


def test_pooling_comes_before_the_norm(quick_jit):
    def apply(x):
        layer = Convolution(3, 16, dtype=FLOAT32, rngs=nnx.Rngs(0))
        return layer(x, pool=True), layer.norm(max_pool(layer.convolution(x)))

    got, expected = quick_jit(apply)(numbers(2, 6, 6, 3))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_initial_weights_are_those_of_he():
    kernel = Convolution(64, 64, dtype=FLOAT32, rngs=nnx.Rngs(0)).convolution.kernel
    np.testing.assert_allclose(np.std(kernel[...]), np.sqrt(2 / (9 * 64)), rtol=0.02)


def test_blocks_halve_the_sides_and_double_the_channels():
    def apply(x):
        blocks = Blocks(ModelConfig(width=8, depth=3), 3, rngs=nnx.Rngs(0))
        assert blocks.channels == 32
        return blocks(x)

    assert jax.eval_shape(apply, numbers(2, 9, 16, 3)).shape == (2, 2, 2, 32)


def test_no_block_leaves_the_input():
    blocks = Blocks(ModelConfig(depth=0), 3, rngs=nnx.Rngs(0))
    x = numbers(2, 4, 4, 3)
    assert blocks.channels == 3
    assert blocks(x) is x


def test_bfloat16_is_computed_in_bfloat16():
    config = ModelConfig(width=16, depth=1, compute_dtype="bfloat16")

    def apply(x):
        return Blocks(config, 3, rngs=nnx.Rngs(0))(x)

    assert jax.eval_shape(apply, numbers(2, 4, 4, 3)).dtype == jnp.bfloat16
