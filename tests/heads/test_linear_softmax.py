"""Softmax by blocks: small losses to their last digit, the filter of its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from as_softmax_jax import linear_as_softmax_loss
from as_softmax_jax.heads import linear_softmax_loss
from as_softmax_jax.heads._blocks import CLASSES

FEATURES = np.array([[-0.8, 1.4, -0.1], [2.3, -0.8, -0.1], [0.1, 0.9, 1.0]])
KERNEL = np.array([[-1.8, 1.2, -1.1, 0.6], [-0.4, 0.0, 0.2, -0.3], [-0.1, 1.6, 0, 2.7]])
BIAS = np.array([0.1, -0.2, 0.3, 0.0])
LABELS = np.array([2, 1, 3])


def draw(n=60, d=24, c=2 * CLASSES + 100, seed=0, dtype=np.float32):
    """Features whose label leads by far, a little or not at all."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(d, c))
    t = rng.integers(0, c, n)
    x = rng.normal(size=(n, d)) + np.linspace(0, 2, n)[:, None] * w[:, t].T
    return x.astype(dtype), w.astype(dtype), t.astype(np.int32)


@pytest.mark.parametrize("implementation", ["xla", "reference"])
@pytest.mark.parametrize("layout", ["dc", "cd"])
def test_float64_values_and_gradients(implementation, layout):
    with jax.enable_x64(True):

        def losses(features, kernel, bias):
            return linear_softmax_loss(
                features,
                kernel if layout == "dc" else kernel.T,
                LABELS,
                bias=bias,
                kernel_layout=layout,
                implementation=implementation,
            )

        operands = tuple(map(jnp.asarray, (FEATURES, KERNEL, BIAS)))
        expected = [0.5648132508, 0.3078307849, 0.4365956872]
        np.testing.assert_allclose(losses(*operands), expected, rtol=1e-9)
        by_features, by_kernel, by_bias = jax.grad(
            lambda *o: losses(*o).sum(), (0, 1, 2)
        )(*operands)
        np.testing.assert_allclose(
            by_features,
            [
                [-0.09793516625, -0.2407160836, 0.1315278851],
                [-0.1732804271, -0.07659632008, 0.2703892413],
                [-0.05981624945, 0.1091546168, -0.5663327925],
            ],
            rtol=1e-9,
        )
        expected = [0.3881480616, 0.01528232745, -0.347855358, -0.05557503106]
        np.testing.assert_allclose(by_bias, expected, rtol=1e-9)
        # Each row's features times its gradient by the logits.
        logits = FEATURES @ KERNEL + BIAS
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        p[np.arange(3), LABELS] -= 1
        np.testing.assert_allclose(by_kernel, FEATURES.T @ p, rtol=1e-9)


@pytest.mark.parametrize("lead", [20.0, 60.0, 80.0])
@pytest.mark.parametrize(
    "loss",
    [
        linear_softmax_loss,
        lambda *arrays: linear_as_softmax_loss(*arrays, logit_margin=np.inf),
        lambda *arrays: linear_as_softmax_loss(*arrays, delta=1.0),
    ],
    ids=["softmax", "logit_margin", "delta"],
)
def test_a_small_loss_and_its_gradient_are_not_rounded_to_0(lead, loss):
    # Label at `lead`, one other at 0: log(1 + e^-lead), and its derivative.
    x, w = jnp.array([[1.0]]), jnp.array([[0.0, lead]])
    value, gradient = jax.value_and_grad(lambda x: loss(x, w, jnp.array([1])).sum())(x)
    np.testing.assert_allclose(value, np.log1p(np.exp(-lead)), rtol=1e-5)
    exact = -lead / (1 + np.exp(np.float64(lead)))
    np.testing.assert_allclose(gradient, [[exact]], rtol=1e-5)


def gradients(x, w, t, **keywords):
    @jax.jit
    def both(x, w):
        def total(x, w):
            return linear_softmax_loss(x, w, t, **keywords).sum()

        return jax.value_and_grad(total, (0, 1))(x, w)

    return both(x, w)


@pytest.mark.parametrize("eps", [2.0**-12, 0.05])
def test_the_filter_leaves_out_blocks_that_are_small_throughout(eps):
    x, w, t = draw()
    (loss, (d_x, d_w)), (same, _) = (
        gradients(x, w, t, filter_eps=eps),
        gradients(x, w, t),
    )
    assert loss == same
    logits = np.float64(x) @ np.float64(w)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    off = p.copy()
    off[np.arange(len(t)), t] = 0
    starts = np.arange(0, w.shape[1], CLASSES)
    small = np.maximum.reduceat(off, starts, axis=1) < eps
    wrong = 1 - p[np.arange(len(t)), t]
    own = t[:, None] // CLASSES == np.arange(len(starts))
    left_out = np.where(own, (wrong < eps)[:, None], small)
    assert 0.1 < left_out.mean() < 1
    g = off
    g[np.arange(len(t)), t] = -wrong
    g[np.repeat(left_out, np.diff([*starts, w.shape[1]]), axis=1)] = 0
    # Rows that fill up a chunk of others are computed whole.
    scale = max(eps, 1e-6) * np.abs(w).sum(1).max()
    np.testing.assert_allclose(d_x, g @ w.T, atol=scale)
    scale = max(eps, 1e-6) * np.abs(x).sum(0).max()
    np.testing.assert_allclose(d_w, x.T @ g, atol=scale)


def test_a_filter_of_0_is_exact():
    x, w, t = draw()
    (_, exact), (_, at_0) = gradients(x, w, t), gradients(x, w, t, filter_eps=0.0)
    for ours, plain in zip(at_0, exact, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_half_precision_is_summed_in_float32():
    x, w, t = (jnp.asarray(a) for a in draw())
    x, w = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    loss, (d_x, d_w) = gradients(x, w, t, filter_eps=2.0**-12)
    assert d_x.dtype == d_w.dtype == jnp.bfloat16
    wide = gradients(x.astype(jnp.float32), w.astype(jnp.float32), t)
    np.testing.assert_allclose(loss, wide[0], rtol=1e-5)
    for ours, exact in zip((d_x, d_w), wide[1], strict=True):
        error = np.abs(ours.astype(jnp.float32) - exact).max()
        assert error < 2.0**-6 * np.abs(exact).max()


@pytest.mark.parametrize("eps", [None, 2.0**-12])
def test_eight_devices_are_one(eps):
    x, w, t = draw(c=2400)
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    spread = jax.shard_map(
        lambda x, w, t: linear_softmax_loss(x, w, t, axis_name="model", filter_eps=eps),
        mesh=mesh,
        in_specs=(P("data"), P(None, "model"), P("data")),
        out_specs=P("data"),
    )
    loss, found = jax.jit(
        jax.value_and_grad(lambda x, w: spread(x, w, t).sum(), (0, 1))
    )(x, w)
    expected, alone = gradients(x, w, t)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for ours, plain in zip(found, alone, strict=True):
        slack = 1e-5 if eps is None else eps * 60
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=slack)


def test_one_class_costs_nothing():
    x, w = jnp.ones((3, 2)), jnp.ones((2, 1))
    loss, found = gradients(x, w, jnp.zeros(3, int))
    assert loss == 0
    assert not any(np.any(part) for part in found)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"filter_eps": -0.1}, ValueError, r"`filter_eps` must be in \[0, 1\]"),
        ({"filter_eps": "a"}, TypeError, "`filter_eps` must be a number"),
        (
            {"filter_eps": 0.1, "implementation": "reference"},
            ValueError,
            "do not go together",
        ),
        ({"kernel": np.ones((5, 4), "f")}, ValueError, 'kernel_layout="cd"'),
        ({"implementation": "fast"}, ValueError, "`implementation` must be one of"),
    ],
)
def test_what_misfits_is_refused(changes, error, words):
    given = {"features": np.ones((3, 4), "f"), "kernel": np.ones((4, 5), "f")}
    with pytest.raises(error, match=words):
        linear_softmax_loss(**(given | {"labels": np.zeros(3, int)} | changes))
