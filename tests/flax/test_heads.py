"""Both modules own a kernel and a bias, and hand them to the layer or to the loss."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from as_softmax_jax import as_softmax_loss
from as_softmax_jax.flax import linen as linen_heads
from as_softmax_jax.flax import nnx as nnx_heads

FEATURES = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32) * 3
LABELS = np.arange(6)


@pytest.fixture(params=["nnx", "linen"])
def head(request):
    """A head as functions of its parameters: logits, losses, and the parameters."""

    def make(**keywords):
        if request.param == "linen":
            module = linen_heads.ASSoftmaxHead(40, **keywords)
            params = module.init(jax.random.key(0), FEATURES)["params"]

            def logits(params, x):
                return module.apply({"params": params}, x)

            def losses(params, x, t, **k):
                return module.apply({"params": params}, x, t, **k)

            return logits, losses, params
        module = nnx_heads.ASSoftmaxHead(5, 40, rngs=nnx.Rngs(0), **keywords)
        graphdef, params = nnx.split(module)
        return (
            lambda params, x: nnx.merge(graphdef, params)(x),
            lambda params, x, t, **k: nnx.merge(graphdef, params).loss(x, t, **k),
            params,
        )

    return make


@pytest.mark.parametrize(
    ("use_bias", "margin"),
    [
        (True, {"logit_margin": 2.0}),
        (False, {"delta": 0.1}),
        pytest.param(True, {"delta": 0.1}, marks=pytest.mark.long),
        pytest.param(False, {"logit_margin": 2.0}, marks=pytest.mark.long),
    ],
)
def test_the_loss_is_that_of_the_logits(head, use_bias, margin):
    logits, losses, params = head(use_bias=use_bias)
    where = LABELS != 2
    keywords = {"where": where} | margin
    dense = as_softmax_loss(logits(params, FEATURES), LABELS, **keywords)
    got = losses(params, FEATURES, LABELS, **keywords)
    np.testing.assert_allclose(got, dense, rtol=1e-5, atol=1e-6)

    def dense_mean(params):
        return as_softmax_loss(logits(params, FEATURES), LABELS, **keywords).mean()

    def mean(params):
        return losses(params, FEATURES, LABELS, **keywords).mean()

    expected, grads = jax.grad(dense_mean)(params), jax.grad(mean)(params)
    assert len(jax.tree.leaves(grads)) == 1 + use_bias
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        grads,
        expected,
    )


def test_products_are_of_the_dtype_asked_for(head):
    logits, losses, params = head(dtype=jnp.bfloat16)
    assert logits(params, FEATURES).dtype == jnp.bfloat16
    loss = losses(params, FEATURES, LABELS, delta=0.1)
    assert loss.dtype == jnp.float32
    grads = jax.grad(lambda p: losses(p, FEATURES, LABELS, delta=0.1).sum())(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {np.dtype("float32")}


def test_the_kernel_starts_as_flax_starts_its_own():
    dense = flax.linen.Dense(40).init(jax.random.key(0), FEATURES)
    ours = linen_heads.ASSoftmaxHead(40).init(jax.random.key(0), FEATURES)
    jax.tree.map(np.testing.assert_array_equal, dense, ours)
    linear = nnx.Linear(5, 40, rngs=nnx.Rngs(0))
    head = nnx_heads.ASSoftmaxHead(5, 40, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(linear.kernel[...], head.kernel[...])


def test_a_keyword_of_the_loss_without_labels_is_refused():
    head = linen_heads.ASSoftmaxHead(40)
    for margin in ("delta", "logit_margin"):
        with pytest.raises(TypeError, match=f"`{margin}` belongs to the loss"):
            head.init(jax.random.key(0), FEATURES, **{margin: 0.1})
