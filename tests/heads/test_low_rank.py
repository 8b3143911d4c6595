"""Logits of a trained layer by a preview: values, the bound, what is certain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.heads import low_rank_kernel, low_rank_logits

FEATURES = np.array([[-0.8, 1.4, -0.1], [2.3, -0.8, -0.1], [0.1, 0.9, 1.0]])
WIDE = np.array(
    [
        [0.9, -0.4, 0.3, 0.1, 0.7, -0.8],
        [0.2, 0.8, -0.7, -0.5, 0.4, 0.6],
        [-0.3, 0.5, 1.1, -0.9, 0.2, -0.1],
    ]
)


@pytest.mark.parametrize("layout", ["dc", "cd"])
def test_float64_values(layout):
    with jax.enable_x64(True):
        kernel = WIDE if layout == "dc" else WIDE.T
        low_rank = low_rank_kernel(kernel, width=2, kernel_layout=layout)
        logits, bound, certain = low_rank_logits(FEATURES, low_rank, top_k=2)
        expected = [-0.8401308971, 1.39, -1.102165057, -0.5108682588, -0.4603401369]
        np.testing.assert_allclose(logits[0], [*expected, 1.49], rtol=1e-9)
        expected = [0.4301308971, 0.2121528232, 0.2278349427, 0.1791317412]
        expected += [0.4403401369, 0.01884588879]
        np.testing.assert_allclose(bound[0], expected, rtol=1e-9)
        assert certain.all()
        np.testing.assert_array_equal(
            jnp.argmax(logits, 1), np.argmax(FEATURES @ WIDE, 1)
        )


def draw(decay):
    """Features [40, 16] and a kernel whose directions decay."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(16, 500)) * decay ** np.arange(16)[:, None]
    turn, _ = np.linalg.qr(rng.normal(size=(16, 16)))
    return rng.normal(size=(40, 16)).astype("f"), (turn @ kernel).astype("f")


@pytest.mark.parametrize("decay", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_bound_holds_and_what_is_certain_is_right(decay, dtype):
    x, w = (jnp.asarray(a, dtype) for a in draw(decay))
    bias = jnp.linspace(-1, 1, 500)
    low_rank = low_rank_kernel(w, width=6)
    found = low_rank_logits(x, low_rank, top_k=20, bias=bias)
    assert found.logits.dtype == jnp.float32
    exact = np.float64(x) @ np.float64(w) + np.float64(bias)
    assert (np.abs(found.logits - exact) <= found.bound).all()
    best = np.argmax(exact, 1)
    certain = np.asarray(found.certain)
    np.testing.assert_array_equal(np.argmax(found.logits, 1)[certain], best[certain])
    shares = {0.5: 1.0, 0.8: 0.5, 1.0: 0.0}
    assert abs(certain.mean() - shares[decay]) <= 0.5
    assert certain.all() if decay == 0.5 else not certain.all()


@pytest.mark.parametrize(("width", "top_k"), [(16, 1), (3, 500)])
def test_at_full_width_or_with_all_classes_it_is_exact(width, top_k):
    x, w = draw(0.9)
    found = low_rank_logits(x, low_rank_kernel(w, width=width), top_k=top_k)
    np.testing.assert_allclose(found.logits, x @ w, rtol=1e-4, atol=1e-5)
    if top_k == 500:
        assert found.certain.all()


def test_more_features_than_classes_and_one_row():
    x, w = draw(0.9)
    few = low_rank_logits(x[0], low_rank_kernel(w[:, :5], width=4), top_k=5)
    assert few.logits.shape == few.bound.shape == (5,)
    assert few.certain.shape == ()
    np.testing.assert_allclose(few.logits, x[0] @ w[:, :5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: low_rank_kernel(WIDE, width=4), "at most the 3 features"),
        (lambda: low_rank_kernel(WIDE[0], width=1), r"`kernel` must be \[D, C\]"),
        (lambda: logits(top_k=7), "at most the 6 classes"),
        (lambda: logits(features=np.ones((2, 4))), r"`features` must be \[..., 3\]"),
        (lambda: logits(bias=np.ones(5)), r"`bias` must have the shape \(6,\)"),
    ],
)
def test_what_misfits_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def logits(features=FEATURES, top_k=2, bias=None):
    low_rank = low_rank_kernel(WIDE, width=2)
    return low_rank_logits(features, low_rank, top_k=top_k, bias=bias)
