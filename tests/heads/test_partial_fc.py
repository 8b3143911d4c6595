"""Partial FC: the loss among the drawn, what is not drawn, devices, features drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from as_softmax_jax.heads import (
    linear_margin_softmax_loss,
    partial_fc_loss,
    sample_classes,
    sample_features,
)

FEATURES = np.array([[-0.8, 1.4, -0.1], [2.3, -0.8, -0.1], [0.1, 0.9, 1.0]])
KERNEL = np.array([[-1.8, 1.2, -1.1, 0.6], [-0.4, 0.0, 0.2, -0.3], [-0.1, 1.6, 0, 2.7]])
LABELS = np.array([2, 1, 3])
KEY = jax.random.key(0)


# Classes 1, 2 and 3 are those of the labels, so that three draws are always these.
@pytest.mark.parametrize(
    ("threshold", "expected", "by_features"),
    [
        (
            None,
            [1.081329668e-14, 4.21980215, 23.93903142],
            [
                [3.229773564e-13, 2.125227476e-13, 3.914996153e-13],
                [-1.781591985, -5.629127563, 4.056404858],
                [18.32407168, 5.936940135, -7.17565329],
            ],
        ),
        (0.4, [1.081329668e-14, 4.21980215, 9.766865749e-07], None),
    ],
)
def test_float64_values(threshold, expected, by_features):
    with jax.enable_x64(True):

        def losses(features):
            return partial_fc_loss(
                features,
                jnp.asarray(KERNEL),
                LABELS,
                key=KEY,
                num_sampled=3,
                filter_threshold=threshold,
            )

        loss, back = jax.vjp(losses, jnp.asarray(FEATURES))
        np.testing.assert_allclose(loss, expected, rtol=1e-9)
        if by_features is not None:
            (found,) = back(jnp.ones(3))
            np.testing.assert_allclose(found, by_features, rtol=1e-8, atol=1e-20)


def key_that_draws(kept):
    """A key whose draw of two of three features is this one."""
    for seed in range(100):
        key = jax.random.key(seed)
        _, own = jax.random.split(key)
        drawn = sample_features(own, num_features=3, num_sampled=2)
        if drawn.tolist() == kept:
            return key
    raise AssertionError("no key of a hundred draws these")


@pytest.mark.parametrize(
    ("straight_through", "by_features"),
    [
        (
            False,
            [
                [-1.19544242e-17, 0, 9.563539357e-17],
                [0.0003588030641, 0, 0.008252470475],
                [0.4766361082, 0, -0.04766361082],
            ],
        ),
        (
            True,
            [
                [-1.844352936e-17, 0, 1.475482348e-16],
                [0.001947311113, 0, 0.0447881556],
                [1.718652383, 0, -0.1718652383],
            ],
        ),
    ],
)
def test_float64_values_among_two_features(straight_through, by_features):
    key = key_that_draws([0, 2])
    with jax.enable_x64(True):

        def losses(features):
            return partial_fc_loss(
                features,
                jnp.asarray(KERNEL.T),
                LABELS,
                key=key,
                num_sampled=3,
                num_features_sampled=2,
                scale=32.0,
                angle=0.3,
                cosine=0.0,
                straight_through=straight_through,
                kernel_layout="cd",
            )

        loss, back = jax.vjp(losses, jnp.asarray(FEATURES))
        expected = [4.581533219e-18, 0.02044351582, 0.1462458125]
        np.testing.assert_allclose(loss, expected, rtol=1e-9)
        (found,) = back(jnp.ones(3))
        np.testing.assert_allclose(found, by_features, rtol=1e-8, atol=1e-24)


def draw(n=12, d=8, c=200):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(n, d)), rng.normal(size=(d, c))
    return x.astype("f"), w.astype("f"), rng.integers(0, c, n).astype(np.int32)


def test_the_drawn_columns_have_the_whole_gradient_and_others_none():
    x, w, t = draw()
    options = {"angle": 0.3, "cosine": 0.1, "scale": 8.0}

    @jax.jit
    def whole(x, w):
        def total(x, w):
            return partial_fc_loss(x, w, t, key=KEY, num_sampled=40, **options).sum()

        return jax.value_and_grad(total, (0, 1))(x, w)

    @jax.jit
    def by_columns(x, w):
        drawn = sample_classes(KEY, t, num_classes=200, num_sampled=40)

        def total(x, columns):
            return linear_margin_softmax_loss(x, columns, drawn.labels, **options).sum()

        found = jax.value_and_grad(total, (0, 1))(x, w[:, drawn.classes])
        return drawn.classes, found

    loss, (d_x, d_w) = whole(x, w)
    classes, (same, (also_d_x, columns)) = by_columns(x, w)
    assert columns.shape == (8, 40)
    np.testing.assert_array_equal(loss, same)
    np.testing.assert_array_equal(d_x, also_d_x)
    np.testing.assert_array_equal(d_w[:, classes], columns)
    left_out = np.setdiff1d(np.arange(200), classes)
    assert not np.any(d_w[:, left_out])
    # A step on these columns leaves all others to the bit.
    moved = jnp.asarray(w).at[:, classes].add(-0.1 * columns)
    np.testing.assert_array_equal(np.flatnonzero((moved != w).any(0)), classes)


def test_all_classes_are_the_whole_loss_and_masked_ones_have_no_part():
    x, w, t = draw()
    mask = (np.arange(200) % 3 > 0) | np.isin(np.arange(200), t)
    given = {"angle": 0.3, "class_mask": mask, "where": np.arange(12) % 4 > 0}
    loss = partial_fc_loss(x, w, t, key=KEY, num_sampled=200, cosine=0.1, **given)
    expected = linear_margin_softmax_loss(x, w, t, cosine=0.1, **given)
    np.testing.assert_array_equal(loss, expected)


def test_each_device_draws_of_its_own_classes():
    x, w, t = draw(c=800)
    mesh = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Auto,))
    key = jax.random.key(3)

    def losses(x, w, t):
        return partial_fc_loss(
            x,
            w,
            t,
            key=key,
            num_sampled=13,
            num_features_sampled=6,
            angle=0.3,
            axis_name="model",
        )

    def classes(t):
        own, _ = jax.random.split(key)
        drawn = sample_classes(
            own, t, num_classes=100, num_sampled=13, axis_name="model"
        )
        return tuple(drawn)

    spread = jax.shard_map(
        losses, mesh=mesh, in_specs=(P(), P(None, "model"), P()), out_specs=P()
    )
    both = jax.jit(jax.value_and_grad(lambda *a: spread(*a, t).sum(), (0, 1)))
    loss, (d_x, d_w) = both(x, w)
    drawn, places = jax.shard_map(
        classes, mesh=mesh, in_specs=P(), out_specs=(P("model"), P())
    )(t)
    drawn = np.asarray(drawn) + np.repeat(100 * np.arange(8), 13)
    _, own = jax.random.split(key)
    kept = sample_features(own, num_features=8, num_sampled=6)

    def alone(x, w):
        columns = w[kept][:, drawn]
        return linear_margin_softmax_loss(
            x[:, kept], columns, places, angle=0.3, cosine=0.4
        ).sum()

    expected, (e_x, e_w) = jax.jit(jax.value_and_grad(alone, (0, 1)))(x, w)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(d_x, e_x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(d_w, e_w, rtol=1e-4, atol=1e-4)


def test_features_come_alike_often_and_none_twice():
    keys = jax.random.split(KEY, 2000)
    drawn = jax.vmap(lambda k: sample_features(k, num_features=10, num_sampled=4))(keys)
    assert (np.diff(drawn, axis=1) > 0).all()
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=10)
    assert (abs(counts - 800) < 6 * np.sqrt(2000 * 0.4 * 0.6)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_sampled": 2}, r"`num_sampled` must be in \[3, 4\]"),
        ({"num_features_sampled": 4}, "`num_features_sampled` must be at most"),
        ({"class_mask": np.ones((3, 4), bool)}, r"`class_mask` must have the shape"),
        ({"kernel": np.ones((5, 4), "f")}, "`kernel` must have the shape"),
        ({"kernel_layout": "xy"}, "`kernel_layout` must be one of"),
        ({"filter_threshold": -0.5}, "`filter_threshold` must be in"),
    ],
)
def test_what_misfits_is_refused(changes, message):
    given = {"features": FEATURES, "kernel": KERNEL, "labels": LABELS}
    given |= {"key": KEY, "num_sampled": 3}
    with pytest.raises(ValueError, match=message):
        partial_fc_loss(**(given | changes))


def test_more_features_than_there_are_cannot_be_drawn():
    with pytest.raises(
        ValueError, match="`num_sampled` must be at most the 3 features"
    ):
        sample_features(KEY, num_features=3, num_sampled=4)


@pytest.mark.parametrize("implementation", ["xla", "reference"])
def test_the_rivals_sum_is_that_of_all_classes_on_average(implementation):
    x, w, t = draw(n=6, d=4, c=60)
    options = {"angle": 0.2, "cosine": 0.1, "scale": 4.0}
    mask = np.arange(60) != next(c for c in range(60) if c not in t)

    def odds(key, unbiased):
        loss = partial_fc_loss(
            *(x, w, t),
            key=key,
            num_sampled=20,
            unbiased=unbiased,
            class_mask=mask,
            implementation=implementation,
            **options,
        )
        return jnp.expm1(loss)  # of the rivals against the label

    keys = jax.random.split(KEY, 2000)
    whole = jnp.expm1(linear_margin_softmax_loss(x, w, t, class_mask=mask, **options))

    def mean_odds(unbiased):
        one = functools.partial(odds, unbiased=unbiased)
        return jax.lax.map(one, keys, batch_size=100).mean(0)

    np.testing.assert_allclose(mean_odds(unbiased=True), whole, rtol=0.03)
    assert (mean_odds(unbiased=False) < 0.6 * whole).all()


def test_so_it_is_with_classes_split_over_devices():
    x, w, t = draw(n=6, d=4, c=64)
    mesh = jax.make_mesh((4,), ("model",), axis_types=(AxisType.Auto,))
    options = {"cosine": 0.1, "scale": 4.0}

    def odds(x, w, t, key):
        loss = partial_fc_loss(
            *(x, w, t),
            key=key,
            num_sampled=8,
            unbiased=True,
            axis_name="model",
            **options,
        )
        return jnp.expm1(loss)

    spread = jax.jit(
        jax.shard_map(
            odds, mesh=mesh, in_specs=(P(), P(None, "model"), P(), P()), out_specs=P()
        )
    )
    found = np.mean([spread(x, w, t, key) for key in jax.random.split(KEY, 300)], 0)
    whole = jnp.expm1(linear_margin_softmax_loss(x, w, t, **options))
    np.testing.assert_allclose(found, whole, rtol=0.08)


def test_nothing_is_left_out_of_all_classes():
    x, w, t = draw()
    whole = linear_margin_softmax_loss(x, w, t, cosine=0.4)
    found = partial_fc_loss(x, w, t, key=KEY, num_sampled=200, unbiased=True)
    np.testing.assert_array_equal(found, whole)


def test_all_centers_of_a_drawn_class_come_along():
    x, w, t = draw(c=240)
    options = {"cosine": 0.1, "scale": 8.0, "sub_centers": 3}
    t = t % 80
    found = partial_fc_loss(x, w, t, key=KEY, num_sampled=80, **options)
    whole = linear_margin_softmax_loss(x, w, t, **options)
    np.testing.assert_array_equal(found, whole)
    with pytest.raises(ValueError, match="240 columns for 7 each"):
        partial_fc_loss(x, w, t, key=KEY, num_sampled=80, sub_centers=7)
