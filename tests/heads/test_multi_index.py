"""Proposals out of two codes: their probabilities, their draws, how they are built."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from as_softmax_jax.heads import (
    MultiIndex,
    build_multi_index,
    multi_index_log_q,
    sample_multi_index,
    sampled_softmax_loss,
)
from as_softmax_jax.losses import softmax_loss

QUERIES = np.array([[0.6, -0.8, 1.2, 0.3], [-0.5, 1.0, 0.7, -0.4]])
LOG_Q = np.array(
    [
        [-0.9656301021, -2.375630102, -3.555630102, -2.145630102, -0.9656301021],
        [-2.133066253, -2.553066253, -1.303066253, -0.8830662527, -2.133066253],
    ]
)


def small_index(dtype=np.float64):
    """Five classes, of which the first and the last are of one cell."""
    return MultiIndex(
        codes1=jnp.asarray([[0.5, -0.2], [-0.4, 0.6]], dtype),
        codes2=jnp.asarray([[0.3, 0.8], [-0.7, 0.1]], dtype),
        id1=jnp.array([0, 0, 1, 1, 0]),
        id2=jnp.array([0, 1, 1, 0, 0]),
        order=jnp.array([0, 4, 1, 3, 2]),
        start=jnp.array([0, 2, 3, 4, 5]),
    )


def test_float64_probabilities():
    with jax.enable_x64(True):
        index, every = small_index(), np.broadcast_to(np.arange(5), (2, 5))
        log_q = multi_index_log_q(QUERIES, index, every)
        np.testing.assert_allclose(log_q, LOG_Q, rtol=1e-9)
        one = multi_index_log_q(QUERIES, index, np.array([2, 3]))
        np.testing.assert_allclose(one, LOG_Q[[0, 1], [2, 3]], rtol=1e-9)


def test_draws_are_as_frequent_as_the_proposal_says():
    index = small_index(np.float32)
    queries = QUERIES.astype("f")
    num = 20_000
    drawn = sample_multi_index(jax.random.key(0), queries, index, num_samples=num)
    assert drawn.classes.shape == (2, num)
    for row in range(2):
        share = np.bincount(drawn.classes[row], minlength=5) / num
        p = np.exp(LOG_Q[row])
        # Five standard deviations.
        assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / num)).all()
        expected = LOG_Q[row][drawn.classes[row]]
        np.testing.assert_allclose(drawn.log_q[row], expected, rtol=1e-5)


def test_the_index_holds_each_class_once_in_the_cell_of_its_codes():
    kernel = jax.random.normal(jax.random.key(0), (7, 200))
    index = jax.jit(build_multi_index, static_argnames="num_codes")(
        jax.random.key(1), kernel, num_codes=6
    )
    assert index.codes1.shape == (6, 3)
    assert index.codes2.shape == (6, 4)
    np.testing.assert_array_equal(np.sort(index.order), np.arange(200))
    cells = np.asarray(index.id1 * 6 + index.id2)
    np.testing.assert_array_equal(
        np.diff(index.start), np.bincount(cells, minlength=36)
    )
    np.testing.assert_array_equal(cells[np.asarray(index.order)], np.sort(cells))
    # Each class has its nearest codes, and no code is without a class.
    halves = (kernel[:3].T, index.codes1, index.id1), (kernel[3:].T, *index[1:4:2])
    for vectors, codes, ids in halves:
        far = ((np.asarray(vectors)[:, None] - np.asarray(codes)[None]) ** 2).sum(-1)
        np.testing.assert_array_equal(ids, far.argmin(1))
        assert len(np.unique(ids)) == 6
    turned = build_multi_index(
        jax.random.key(1), kernel.T, num_codes=6, kernel_layout="cd"
    )
    np.testing.assert_array_equal(turned.order, index.order)


def test_clusters_are_found_from_any_start():
    rng = np.random.default_rng(0)
    centres = 20.0 * np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-1, 0, -1, 0]])
    kernel = np.repeat(centres, 30, 0) + rng.normal(size=(90, 4))
    for seed in range(5):
        index = build_multi_index(
            jax.random.key(seed), jnp.asarray(kernel.T, jnp.float32), num_codes=3
        )
        groups = np.asarray(index.id1).reshape(3, 30)
        assert (groups == groups[:, :1]).all()
        assert len(set(groups[:, 0].tolist())) == 3


def test_classes_that_are_all_the_same_do_no_harm():
    index = build_multi_index(jax.random.key(0), jnp.ones((4, 10)), num_codes=4)
    drawn = sample_multi_index(jax.random.key(1), jnp.ones(4), index, num_samples=50)
    np.testing.assert_allclose(drawn.log_q, -np.log(10), rtol=1e-5)
    assert ((drawn.classes >= 0) & (drawn.classes < 10)).all()


@pytest.mark.parametrize("weighed", [True, False])
def test_the_gradient_of_many_draws_comes_to_that_of_softmax(weighed):
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = 0.5 * jax.random.normal(keys[0], (8, 300))
    x, t = jax.random.normal(keys[1], (4, 8)), jnp.array([3, 50, 99, 299])
    index = build_multi_index(keys[2], kernel, num_codes=8)
    drawn = sample_multi_index(keys[2], x, index, num_samples=50_000)
    label_log_q = multi_index_log_q(x, index, t) if weighed else None

    def sampled(x):
        return sampled_softmax_loss(
            x, kernel, t, **drawn._asdict(), label_log_q=label_log_q
        )

    loss, back = jax.vjp(sampled, x)
    exact, exact_back = jax.vjp(lambda x: softmax_loss(x @ kernel, t), x)
    (got,), (wanted,) = back(jnp.ones(4)), exact_back(jnp.ones(4))
    np.testing.assert_allclose(got, wanted, atol=0.03)
    assert np.abs(wanted).max() > 0.5
    if not weighed:
        np.testing.assert_allclose(loss, exact, atol=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: build_multi_index(k, np.ones((1, 9), "f")), "is cut in two"),
        (lambda k: build_multi_index(k, np.ones((4, 9), "f")), "at most the 9 classes"),
        (
            lambda k: sample_multi_index(
                k, np.ones(3, "f"), small_index("f"), num_samples=2
            ),
            r"`queries` must be \[..., 4\]",
        ),
        (
            lambda _: multi_index_log_q(np.ones((2, 4), "f"), small_index("f"), [1]),
            "`classes` must have the shape",
        ),
    ],
)
def test_what_misfits_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.random.key(0))
