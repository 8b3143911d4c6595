"""The best classes by blocks, and the log-sum-exp that comes block by block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracle import logsumexp

from as_softmax_jax.heads import LogSumExp, linear_top_k
from as_softmax_jax.heads._blocks import CLASSES
from as_softmax_jax.reference._log_sum_exp import log_sum_exp, mantissa_and_exponent

X = np.array([1.0, 3.0, -2.0, 100.0, 99.0, 95.5, -1000.0])
NOTHING = -np.inf, 0.0


def start(dtype=np.float64):
    return LogSumExp(*(jnp.asarray(value, dtype) for value in NOTHING))


def blocks(x, size):
    return [jnp.asarray(x[i : i + size]) for i in range(0, len(x), size)]


def test_blocks_of_three_in_float64():
    with jax.enable_x64(True):
        state, found = start(), []
        for block in blocks(X, 3):
            state = state.update(block)
            found.append(state)
        expected = [[3, 1.14207323], [100, 1.378988438], [100, 1.378988438]]
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(state.value(), 100.3213502, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 6, 7, 8])
def test_any_blocks_in_any_order_come_to_the_same(size):
    with jax.enable_x64(True):
        parts = [start().update(block) for block in blocks(X, size)]
        for order in (parts, parts[::-1]):
            state = start()
            for part in order:
                state = state.merge(part)
            np.testing.assert_allclose(state.value(), 100.3213502, rtol=1e-9)


def test_nothing_infinity_and_what_is_not_counted():
    low = jnp.full(3, -jnp.inf)
    assert start("f").value() == -jnp.inf
    assert start("f").update(low).merge(start("f").update(low)).value() == -jnp.inf
    assert start("f").update(low).update(jnp.ones(1)).value() == 1
    assert jnp.isnan(start("f").update(jnp.array([jnp.inf, 0.0])).value())
    some = start("f").update(jnp.array([5.0, 1.0]), jnp.array([False, True]))
    assert some.max == 5
    np.testing.assert_allclose(some.value(), 1, rtol=1e-6)


def test_its_gradient_is_softmax():
    x = jnp.array([1.0, -jnp.inf, 3.0, 2.0])

    def total(x):
        return start("f").update(x[:3]).update(x[3:]).value()

    np.testing.assert_allclose(jax.grad(total)(x), jax.nn.softmax(x), rtol=1e-5)


def test_powers_of_two_agree_to_a_few_ulp():
    with jax.enable_x64(True):
        mantissa, exponent = mantissa_and_exponent(jnp.asarray(X))
        np.testing.assert_allclose(mantissa, 1.662223583, rtol=1e-9)
        assert exponent == 144
        state = start().update(jnp.asarray(X)).value()
        twos = log_sum_exp(jnp.asarray(X), base2=True)
        np.testing.assert_allclose(twos, state, rtol=2.0**-50)
        plain = log_sum_exp(jnp.asarray(X - 100))
        np.testing.assert_allclose(plain + 100, state, rtol=2.0**-50)


def draw(n=20, d=8, c=2 * CLASSES + 77):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(n, d)), rng.normal(size=(d, c)), rng.normal(size=c)
    return x.astype("f"), w.astype("f"), b.astype("f")


@pytest.mark.parametrize(
    ("k", "c", "layout"),
    [(1, CLASSES, "dc"), (5, CLASSES - 1, "cd"), (7, 2 * CLASSES + 1, "dc")],
)
def test_the_best_are_those_of_all_logits(k, c, layout):
    x, w, b = draw(c=c)
    mask = np.arange(c) % 5 != 0
    given = {"bias": b, "class_mask": mask, "kernel_layout": layout, "k": k}
    x = x.reshape(4, 5, -1)
    best = jax.jit(lambda x, w: linear_top_k(x, w, **given))(
        x, w if layout == "dc" else w.T
    )
    logits = np.where(mask, np.float64(x) @ np.float64(w) + b, -np.inf)
    order = np.argsort(-logits, axis=-1)[..., :k]
    np.testing.assert_array_equal(best.classes, order)
    np.testing.assert_allclose(best.log_sum_exp, logsumexp(logits), rtol=1e-5)
    exact = np.take_along_axis(logits, order, -1)
    np.testing.assert_allclose(best.logits, exact, rtol=1e-5, atol=1e-5)
    p = np.exp(exact - logsumexp(logits)[..., None])
    np.testing.assert_allclose(best.probs(), p, rtol=1e-4)


def test_ties_go_to_the_first_class_and_fewer_valid_ones_are_told():
    x, w = jnp.ones((2, 3)), jnp.ones((3, 6))
    best = linear_top_k(x, w, k=4, class_mask=jnp.arange(6) % 2 == 1)
    np.testing.assert_array_equal(best.classes, [[1, 3, 5, -1]] * 2)
    np.testing.assert_array_equal(best.probs()[:, 3], 0)


def test_eight_devices_are_one():
    x, w, b = draw(c=1600)
    mask = np.arange(1600) < 1300  # one device, and half of another, hold padding
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))

    def spread(x, w, b, mask):
        return linear_top_k(x, w, k=6, bias=b, class_mask=mask, axis_name="model")

    mapped = jax.shard_map(
        spread,
        mesh=mesh,
        in_specs=(P(), P(None, "model"), P("model"), P("model")),
        out_specs=P(),
    )
    found = jax.jit(mapped)(x, w, b, mask)
    alone = linear_top_k(x, w, k=6, bias=b, class_mask=mask)
    np.testing.assert_array_equal(found.classes, alone.classes)
    np.testing.assert_allclose(found.logits, alone.logits, rtol=1e-5)
    np.testing.assert_allclose(found.log_sum_exp, alone.log_sum_exp, rtol=1e-5)


def test_half_precision_is_summed_in_float32():
    x, w, _ = (jnp.asarray(a, jnp.bfloat16) for a in draw())
    best = linear_top_k(x, w, k=3)
    assert best.logits.dtype == best.log_sum_exp.dtype == jnp.float32
    exact = np.float64(x) @ np.float64(w)
    np.testing.assert_allclose(best.logits[:, 0], exact.max(1), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 6}, "`k` must be at most the 5 classes"),
        ({"class_mask": np.ones((3, 5), bool)}, "`class_mask` must have the shape"),
        ({"bias": np.ones(4, "f")}, "`bias` must have the shape"),
        ({"kernel_layout": "xy"}, "`kernel_layout` must be one of"),
    ],
)
def test_what_misfits_is_refused(changes, message):
    given = {"features": np.ones((3, 4), "f"), "kernel": np.ones((4, 5), "f"), "k": 2}
    with pytest.raises(ValueError, match=message):
        linear_top_k(**(given | changes))
