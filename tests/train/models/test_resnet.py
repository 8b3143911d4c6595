"""ResNet-18: its size, its shapes, its initial blocks, and that examples do not mix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from train.config import ModelConfig
from train.data.examples import InputSpec
from train.models.resnet import BasicBlock, ResNet18

pytestmark = pytest.mark.standard_promotion(reason="flax's layers need it")


def build(side=32, **fields):
    spec = InputSpec((side, side, 3), 10, mean=(128.0,) * 3, deviation=(64.0,) * 3)
    return ResNet18(ModelConfig(**fields), spec, rngs=nnx.Rngs(0))


def images(n, side=32):
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), np.uint8)


def number_of_parameters(side):
    # Nothing but parameters: no running statistics, which nnx would refuse here.
    _, params = nnx.split(nnx.eval_shape(lambda: build(side)), nnx.Param)
    return sum(param.size for param in jax.tree.leaves(params))


def test_it_has_as_many_parameters_as_the_original():
    def convolution(kernel, inputs, outputs):
        return kernel**2 * inputs * outputs + 2 * outputs  # with its norm

    blocks = 4 * convolution(3, 64, 64)
    for width in (128, 256, 512):
        blocks += convolution(3, width // 2, width) + convolution(1, width // 2, width)
        blocks += 3 * convolution(3, width, width)
    head = 512 * 10 + 10  # the output layer, which is no part of the model
    small = convolution(3, 3, 64) + blocks
    large = convolution(7, 3, 64) + blocks
    assert number_of_parameters(64) == small == 11_173_962 - head
    assert number_of_parameters(65) == large == 11_181_642 - head


@pytest.mark.parametrize(
    ("side", "shape"), [(32, (4, 4)), (64, (8, 8)), (65, (3, 3)), (224, (7, 7))]
)
def test_the_stem_keeps_small_images_and_shrinks_large_ones(side, shape):
    features = jax.eval_shape(lambda: build(side).feature_maps(images(2, side)))
    assert features.shape == (2, *shape, 512)


def test_a_block_starts_as_the_identity(quick_jit):
    def apply(x):
        dtype = jnp.dtype("float32")
        return BasicBlock(16, 16, stride=1, dtype=dtype, rngs=nnx.Rngs(0))(x)

    x = nnx.relu(jax.random.normal(jax.random.key(0), (2, 5, 5, 16)))
    np.testing.assert_array_equal(quick_jit(apply)(x), x)


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_features_have_the_compute_dtype(compute_dtype):
    features = jax.eval_shape(lambda: build(compute_dtype=compute_dtype)(images(2)))
    assert features.shape == (2, 512)
    assert features.dtype == compute_dtype


def test_the_features_of_an_example_do_not_depend_on_the_others(quick_jit):
    apply = quick_jit(lambda images: build(8)(images))
    three = images(3, 8)
    # A copy: JAX may still be reading the array that it was given.
    one = three.copy()
    one[1:] = 0
    together, alone = apply(three), apply(one)
    np.testing.assert_array_equal(together[0], alone[0])
    assert (together[1] != alone[1]).any()


@pytest.mark.parametrize("remat", [False, True])
def test_activations_are_recomputed_when_asked_to(remat):
    jaxpr = jax.make_jaxpr(lambda images: build(8, remat=remat)(images))(images(1, 8))
    recomputed = [eqn for eqn in jaxpr.eqns if "remat" in eqn.primitive.name]
    assert len(recomputed) == (8 if remat else 0)  # one a block
