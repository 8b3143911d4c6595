"""Classes of a step: every label's own, others at random, none twice."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from as_softmax_jax import linear_as_softmax_loss
from as_softmax_jax.heads import sample_classes

KEY = jax.random.key(0)
LABELS = np.array([[31, 4], [4, 99], [0, 56]])


@pytest.mark.parametrize("num_sampled", [6, 40, 100])
def test_every_label_is_drawn_and_no_class_twice(num_sampled):
    classes, labels = sample_classes(
        KEY, LABELS, num_classes=100, num_sampled=num_sampled
    )
    assert classes.shape == (num_sampled,)
    assert (np.diff(classes) > 0).all()
    assert 0 <= classes[0] <= classes[-1] < 100
    np.testing.assert_array_equal(classes[labels], LABELS)


def test_others_come_alike_often():
    keys = jax.random.split(KEY, 2000)
    draw = jax.vmap(
        lambda key: sample_classes(key, LABELS, num_classes=100, num_sampled=24)[0]
    )
    counts = np.bincount(np.asarray(draw(keys)).ravel(), minlength=100)
    own = np.isin(np.arange(100), LABELS)
    assert (counts[own] == 2000).all()
    # 19 of 95 others; six standard deviations of a binomial.
    assert (abs(counts[~own] - 400) < 6 * np.sqrt(2000 * 0.2 * 0.8)).all()


def test_labels_that_do_not_count_or_are_none_need_no_class():
    labels = jnp.array([7, 8, -1, 100])
    where = jnp.array([True, False, True, True])
    for number in range(20):
        key = jax.random.key(number)
        classes, places = sample_classes(
            key, labels, num_classes=100, num_sampled=4, where=where
        )
        assert classes[places[0]] == 7
        np.testing.assert_array_equal(places[1:], [-1, -1, -1])
    classes, _ = sample_classes(KEY, labels, num_classes=100, num_sampled=4)
    assert {7, 8} <= set(classes.tolist())


def test_all_classes_are_the_whole_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 8)).astype(np.float32)
    w = rng.normal(size=(8, 100)).astype(np.float32)
    t = LABELS.reshape(-1)
    classes, labels = sample_classes(KEY, t, num_classes=100, num_sampled=100)
    np.testing.assert_array_equal(
        linear_as_softmax_loss(x, w[:, classes], labels, delta=0.1),
        linear_as_softmax_loss(x, w, t, delta=0.1),
    )


def test_what_is_left_out_has_no_gradient():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 8)).astype(np.float32)
    w = rng.normal(size=(8, 100)).astype(np.float32)
    classes, labels = sample_classes(
        KEY, LABELS.reshape(-1), num_classes=100, num_sampled=10
    )

    def loss(w):
        return linear_as_softmax_loss(x, w[:, classes], labels, delta=0.1).sum()

    moved = np.asarray(jax.grad(loss)(w)).any(0)
    np.testing.assert_array_equal(np.flatnonzero(moved), classes)


def test_each_device_draws_of_its_own_classes():
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 8)).astype(np.float32)
    w = rng.normal(size=(8, 800)).astype(np.float32)
    t = np.array([0, 99, 100, 799, 350, -1])

    def step(x, w, t):
        classes, labels = sample_classes(
            KEY, t, num_classes=100, num_sampled=7, axis_name="model"
        )
        loss = linear_as_softmax_loss(
            x, w[:, classes], labels, delta=0.1, axis_name="model"
        )
        return classes, labels, loss

    f = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(P(), P(None, "model"), P()),
            out_specs=(P("model"), P(), P()),
        )
    )
    classes, labels, loss = f(x, w, t)
    whole = np.asarray(classes).reshape(8, 7) + 100 * np.arange(8)[:, None]
    assert (np.diff(whole, axis=1) > 0).all()
    assert (whole // 100 == np.arange(8)[:, None]).all()
    np.testing.assert_array_equal(whole.reshape(-1)[np.asarray(labels)[:5]], t[:5])
    assert labels[5] == -1
    alone = linear_as_softmax_loss(x, w[:, whole.reshape(-1)], labels, delta=0.1)
    np.testing.assert_allclose(loss, alone, rtol=1e-5)
    assert np.isnan(loss[5])
    # Only labels and sums of rows cross the wire.
    assert not re.search(r"all-gather|all-to-all", f.lower(x, w, t).compile().as_text())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"num_sampled": 5}, ValueError, r"in \[6, 100\], for 6 labels .* got 5"),
        ({"num_sampled": 101}, ValueError, "got 101"),
        ({"num_sampled": 6.0}, TypeError, "`num_sampled` must be an integer"),
        ({"labels": LABELS * 1.0}, TypeError, "`labels` must be integers"),
        ({"where": np.ones(5, bool)}, ValueError, "`where`"),
    ],
)
def test_refuses(changes, error, words):
    arguments = {"labels": LABELS, "num_classes": 100, "num_sampled": 10} | changes
    with pytest.raises(error, match=words):
        sample_classes(KEY, **arguments)
