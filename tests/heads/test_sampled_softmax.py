"""Softmax against draws of a proposal: published values, hits, masks, what it nears."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.heads import sampled_softmax_loss
from as_softmax_jax.losses import softmax_loss

LOGITS = np.array([[1.1, -0.3, 0.4, 0.2, 0.9], [-0.6, 0.5, 1.3, 0.1, -0.2]])
LABELS, DRAWS = np.array([1, 2]), np.array([[0, 4, 3], [2, 0, 3]])
LOG_Q = np.array(
    [
        [-0.9656301021, -2.375630102, -3.555630102, -2.145630102, -0.9656301021],
        [-2.133066253, -2.553066253, -1.303066253, -0.8830662527, -2.133066253],
    ]
)


def of(ids):
    return np.take_along_axis(LOG_Q, ids, 1)


@pytest.mark.parametrize("layout", ["dc", "cd"])
@pytest.mark.parametrize("weighed", [True, False])
def test_float64_values_and_gradients(weighed, layout):
    expected = (
        [1.413568646, 0.9325211891],
        [
            [0.2408529625, -0.756726425, 0, 0.3186797351, 0.1971937274],
            [0.1349945072, 0, -0.2128795625, 0.07788505531, 0],
        ],
    )
    if not weighed:  # the second row draws its own label, which is left out
        expected = [2.497690267, 0.5089927709], None
    label_log_q = of(LABELS[:, None])[:, 0] if weighed else None
    with jax.enable_x64(True):

        def losses(logits):
            return sampled_softmax_loss(
                np.eye(2),
                logits if layout == "dc" else logits.T,
                LABELS,
                classes=DRAWS,
                log_q=of(DRAWS),
                label_log_q=label_log_q,
                kernel_layout=layout,
            )

        loss, back = jax.vjp(losses, jnp.asarray(LOGITS))
        np.testing.assert_allclose(loss, expected[0], rtol=1e-9)
        if expected[1] is not None:
            (found,) = back(jnp.ones(2))
            np.testing.assert_allclose(found, expected[1], rtol=1e-8, atol=1e-12)


def test_each_class_drawn_once_by_a_uniform_proposal_is_softmax():
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype("f") for s in ((4, 6), (6, 9), 9))
    t = rng.integers(0, 9, 4)
    classes = jnp.arange(9)
    # M Q = 1 for each.
    log_q = jnp.full(9, -np.log(9), jnp.float32)

    def sampled(x, w, b):
        return sampled_softmax_loss(x, w, t, classes=classes, log_q=log_q, bias=b)

    def whole(x, w, b):
        return softmax_loss(x @ w + b[None], t)

    found, exact = (jax.vjp(f, x, w, b) for f in (sampled, whole))
    np.testing.assert_allclose(found[0], exact[0], rtol=1e-5)
    for ours, plain in zip(found[1](jnp.ones(4)), exact[1](jnp.ones(4)), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-6)


def test_the_same_draws_for_all_rows_are_those_of_each():
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype("f") for s in ((2, 3, 6), (6, 9)))
    t, classes = rng.integers(0, 9, (2, 3)), np.array([1, 5, 5, 7])
    log_q = np.log([0.1, 0.3, 0.3, 0.2]).astype("f")
    mask = np.arange(9) != 7
    shared = sampled_softmax_loss(
        x, w, t, classes=classes, log_q=log_q, class_mask=mask
    )
    own = [np.broadcast_to(a, (2, 3, 4)) for a in (classes, log_q)]
    each = sampled_softmax_loss(
        x, w.T, t, classes=own[0], log_q=own[1], class_mask=mask, kernel_layout="cd"
    )
    np.testing.assert_allclose(shared, each, rtol=1e-5)


def test_half_precision_is_summed_in_float32():
    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((4, 64), (64, 9)))
    t, classes = jnp.arange(4), jnp.array([8, 3, 5])

    def losses(x, w):
        log_q = jnp.full(3, -2.0)
        return sampled_softmax_loss(x, w, t, classes=classes, log_q=log_q)

    loss, back = jax.vjp(losses, x, w)
    wide, back_wide = jax.vjp(losses, *(a.astype(jnp.float32) for a in (x, w)))
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, wide, rtol=1e-5, atol=1e-6)
    for ours, exact in zip(back(jnp.ones(4)), back_wide(jnp.ones(4)), strict=True):
        assert ours.dtype == jnp.bfloat16
        error = np.abs(ours.astype(jnp.float32) - exact).max()
        assert error < 2.0**-6 * np.abs(exact).max()


def test_rows_left_out_and_bad_rows():
    x, w = jnp.ones((4, 3)).at[1].set(np.nan), jnp.ones((3, 5))
    t = jnp.array([0, -100, 5, 1])
    log_q = jnp.full((4, 2), -1.0).at[1].set(np.nan)
    classes = jnp.array([[1, 2], [0, 0], [1, 2], [9, -1]])  # the last: no draw

    def losses(x, w):
        return sampled_softmax_loss(
            x, w, t, classes=classes, log_q=log_q, where=jnp.arange(4) != 1
        )

    loss, back = jax.vjp(losses, x, w)
    np.testing.assert_array_equal(np.isnan(loss), [False, False, True, False])
    assert loss[1] == loss[3] == 0
    d_x, d_w = back(jnp.array([1.0, 1, 0, 1]))
    assert np.isfinite(d_x).all()
    assert np.isfinite(d_w).all()
    assert not np.any(d_x[1])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"classes": DRAWS * 1.0}, TypeError, "`classes` must be integers"),
        ({"classes": DRAWS[:, None]}, ValueError, "`classes` must have the shape"),
        ({"log_q": of(DRAWS)[0]}, ValueError, "`log_q` must have the shape"),
        ({"label_log_q": of(DRAWS)}, ValueError, "`label_log_q` must have the shape"),
        ({"class_mask": np.ones(4, bool)}, ValueError, "`class_mask` must have"),
    ],
)
def test_what_misfits_is_refused(changes, error, message):
    given = {"classes": DRAWS, "log_q": of(DRAWS)} | changes
    with pytest.raises(error, match=message):
        sampled_softmax_loss(np.eye(2), LOGITS, LABELS, **given)
