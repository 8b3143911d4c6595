"""Compaction: the full gradient by the active rows alone, on one device and on 8."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from as_softmax_jax import as_softmax_loss, compact_value_and_grad
from as_softmax_jax.losses import sparsemax_loss

ROWS, LENGTH, WIDTH, CLASSES = 32, 6, 16, 5
DELTA = 0.1


# Networks: features [n, length, width] and the valid positions to logits.


def mlp(params, x, valid):
    """Logits [n, classes] of each row's first position."""
    hidden = jnp.tanh(x[:, 0] @ params["first"])
    return hidden @ params["last"]


def layer_norm_network(params, x, valid):
    """Logits [n, classes] of the mean over valid positions."""
    valid = valid[..., None].astype(x.dtype)
    total = jnp.sum(normalised(x @ params["first"]) * valid, axis=1)
    mean = total / jnp.maximum(jnp.sum(valid, axis=1), jnp.ones((), x.dtype))
    return normalised(mean) @ params["last"]


def transformer(params, x, valid):
    """Logits [n, length, classes] of every position: one block of attention."""
    query, keys, values = (x @ params[name] for name in ("query", "keys", "values"))
    scores = jnp.einsum("nqd,nkd->nqk", query, keys)
    scores = jnp.where(valid[:, None], scores, jnp.asarray(-1e4, x.dtype))
    x = normalised(x + jnp.einsum("nqk,nkd->nqd", jax.nn.softmax(scores), values))
    return normalised(x + jax.nn.relu(x @ params["first"])) @ params["last"]


def normalised(x):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + jnp.asarray(1e-3, x.dtype))


NETWORKS = {
    "mlp": (mlp, ("first",)),
    "layer_norm": (layer_norm_network, ("first",)),
    "transformer": (transformer, ("query", "keys", "values", "first")),
}


def losses_of(network):
    """The loss of each row, or of each position of it."""
    apply = NETWORKS[network][0]

    def losses(params, batch):
        logits = apply(params, batch["x"], batch["valid"])
        return as_softmax_loss(
            logits, batch["y"], delta=DELTA, where=where_of(network, batch)
        )

    return losses


def where_of(network, batch):
    """The entries of the losses that count: rows, or positions of them."""
    return batch["counted"] if network == "transformer" else batch["counted"][:, 0]


def make_params(network, dtype="float32"):
    rng = np.random.default_rng(1)
    names, shape = NETWORKS[network][1], (WIDTH, WIDTH)
    params = {name: rng.normal(size=shape) / np.sqrt(WIDTH) for name in names}
    params["last"] = 2 * rng.normal(size=(WIDTH, CLASSES))
    return {name: jnp.asarray(value, dtype) for name, value in params.items()}


def make_batch(network, share, dtype="float32"):
    """A batch of which about `share` of the rows are settled; the last two are padding.

    A label is the strongest class, and does not count where that leads by little. A row
    is made active by asking for its weakest class, at one position if it has several,
    and a position or two of each row are padding as well.
    """
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(ROWS, LENGTH, WIDTH)), dtype)
    lengths = rng.integers(LENGTH - 2, LENGTH + 1, ROWS)
    lengths[-2:] = 0
    valid = jnp.asarray(np.arange(LENGTH) < lengths[:, None])
    params = make_params(network, dtype)
    logits = NETWORKS[network][0](params, x, valid).astype(jnp.float32)
    if network != "transformer":
        logits = logits[:, None].repeat(LENGTH, axis=1)
    second, first = jnp.moveaxis(jnp.sort(jax.nn.softmax(logits))[..., -2:], -1, 0)
    labels = np.array(jnp.argmax(logits, axis=-1), np.int32)
    weakest = np.array(jnp.argmin(logits, axis=-1), np.int32)
    active = np.arange(ROWS) % 4 >= 4 * share
    labels[active, 0] = weakest[active, 0]
    labels = labels if network == "transformer" else labels[:, 0]
    counted = valid & (first - second > 3 * DELTA)
    return {"x": x, "y": jnp.asarray(labels), "valid": valid, "counted": counted}


@functools.cache
def compact(network, devices):
    """The function under test, compiled: on one device, or inside shard_map."""
    capacities = (4, 8, 24) if devices == 1 else (1, 2)
    f = compact_value_and_grad(losses_of(network), capacities=capacities)

    def apply(params, batch):
        return f(params, batch, where=where_of(network, batch))

    return jax.jit(apply if devices == 1 else spread(apply))


def spread(apply, check_vma=True):
    """`apply` on 8 devices, each with its rows, parameters on all."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    return jax.shard_map(
        apply,
        mesh=mesh,
        in_specs=(P(), P("data")),
        out_specs=P(),
        check_vma=check_vma,
    )


@functools.cache
def full(network):
    """The plain gradient of the mean loss, and the losses, compiled."""
    losses = losses_of(network)

    def mean_loss(params, batch):
        values = losses(params, batch)
        count = jnp.sum(where_of(network, batch))
        return jnp.sum(values) / count.astype(values.dtype), values

    return jax.jit(jax.grad(mean_loss, has_aux=True))


def in_float64(network, params, batch):
    """The gradient in float64, of the same numbers."""
    with jax.enable_x64(True):
        wide = [
            jax.tree.map(
                lambda a: (
                    np.asarray(a, np.float64)
                    if jnp.issubdtype(a.dtype, jnp.floating)
                    else np.asarray(a)
                ),
                tree,
            )
            for tree in (params, batch)
        ]
        return jax.tree.map(np.asarray, full(network)(*wide)[0])


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "share", [0.0, pytest.param(0.5, marks=pytest.mark.long), 0.75, 1.0]
)
def test_the_gradient_is_that_of_all_rows(network, share, dtype, devices):
    params = make_params(network, dtype)
    batch = make_batch(network, share, dtype)
    sums, grads = compact(network, devices)(params, batch)
    where = where_of(network, batch)
    plain, losses = full(network)(params, batch)
    assert sums.num_valid == where.sum()
    assert sums.num_active == (losses != 0).sum()
    assert (sums.num_active == 0) == (share == 1.0)
    assert sums.loss == pytest.approx(float(losses.sum()), rel=1e-5)
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    assert sums.loss_again == pytest.approx(float(sums.loss), rel=tolerance)
    truth = in_float64(network, params, batch)
    for name, exact in truth.items():
        assert grads[name].dtype == params[name].dtype
        error, plain_error = (
            np.abs(np.asarray(g[name], np.float64) - exact).max()
            for g in (grads, plain)
        )
        # As near as plain autodiff comes, but for the order of some 32 additions.
        slack = 8 * float(jnp.finfo(dtype).eps) * np.abs(exact).max()
        assert error <= plain_error + slack, name
        assert (share == 1.0) == (exact == 0).all() == bool((grads[name] == 0).all())


def test_some_rows_are_settled_where_the_tests_want_it():
    for network, share in itertools.product(NETWORKS, (0.0, 0.5, 0.75, 1.0)):
        batch = make_batch(network, share)
        losses = losses_of(network)(make_params(network), batch)
        active = losses.reshape(ROWS, -1).any(axis=1)
        assert float(active[:-2].mean()) == pytest.approx(1 - share, abs=0.2)


def test_no_row_crosses_devices():
    batch = make_batch("transformer", 0.5)
    compiled = compact("transformer", 8).lower(make_params("transformer"), batch)
    text = compiled.compile().as_text()
    assert "all-reduce" in text  # of counts and gradients
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert collective not in text


def test_without_the_types_of_shard_map_the_axis_is_named():
    f = compact_value_and_grad(losses_of("mlp"), capacities=(1, 2), axis_name="data")
    apply = spread(lambda p, b: f(p, b, where=where_of("mlp", b)), check_vma=False)
    params, batch = make_params("mlp"), make_batch("mlp", 0.5)
    sums, grads = jax.jit(apply)(params, batch)
    expected_sums, expected = compact("mlp", 8)(params, batch)
    assert sums == expected_sums
    jax.tree.map(np.testing.assert_array_equal, grads, expected)


def test_a_spread_parameter_keeps_its_own_part_of_the_gradient():
    def losses(params, batch):
        whole = jax.lax.all_gather(params["last"], "data", tiled=True)
        whole = {"first": params["first"], "last": whole}
        return losses_of("mlp")(whole, batch)

    f = compact_value_and_grad(losses, capacities=(2,))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    specs = {"first": P(), "last": P("data")}
    params, batch = make_params("mlp"), make_batch("mlp", 0.5)
    _, grads = jax.jit(
        jax.shard_map(
            lambda p, b: f(p, b, where=where_of("mlp", b)),
            mesh=mesh,
            in_specs=(specs, P("data")),
            out_specs=(P(), specs),
        )
    )(params, batch)
    expected, _ = full("mlp")(params, batch)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
        grads,
        expected,
    )


# What runs, and how often.


def linear_losses(params, batch):
    return as_softmax_loss(batch["x"] @ params, batch["y"], delta=DELTA)


def linear_batch(num_active, rows=8):
    """Rows of one feature: the first `num_active` ask for the wrong class."""
    labels = (jnp.arange(rows) >= num_active).astype(jnp.int32)
    return {"x": jnp.ones((rows, 1)), "y": labels}


LINEAR = jnp.array([[0.0, 5.0]])


@pytest.mark.parametrize(
    ("num_active", "capacity"), [(0, 0), (1, 2), (2, 2), (3, 3), (4, 8), (8, 8)]
)
def test_the_backward_pass_is_of_the_smallest_capacity(num_active, capacity):
    ran = []

    @jax.custom_vjp
    def watched(x):
        return x

    def backward(_, cotangent):
        jax.debug.callback(lambda: ran.append(len(cotangent)))
        return (cotangent,)

    watched.defvjp(lambda x: (x, None), backward)

    def losses(params, batch):
        logits = watched(batch["x"] @ params)
        return as_softmax_loss(logits, batch["y"], delta=DELTA)

    f = jax.jit(compact_value_and_grad(losses, capacities=(2, 3)))
    sums, grads = jax.block_until_ready(f(LINEAR, linear_batch(num_active)))
    jax.effects_barrier()
    assert ran == [capacity] * (capacity > 0)
    assert sums.num_active == num_active
    # d/do of the loss of a wrong row is p - onehot, here (p_0 - 1, p_1).
    p = 1 / (1 + np.exp(5.0))
    expected = [[num_active / 8 * (p - 1), num_active / 8 * (1 - p)]]
    np.testing.assert_allclose(grads, expected, rtol=1e-5)


def test_other_counts_compile_nothing_anew():
    traced = []

    @jax.jit
    def f(params, batch):
        traced.append(batch)
        return compact_value_and_grad(linear_losses, capacities=(2, 4))(params, batch)

    for num_active in range(9):
        f(LINEAR, linear_batch(num_active))
    assert len(traced) == 1


def test_capacities_may_end_with_the_batch_or_before():
    batch = linear_batch(5)
    for capacities in ((8,), (4, 8), (4,)):
        sums, grads = compact_value_and_grad(linear_losses, capacities=capacities)(
            LINEAR, batch
        )
        assert sums.num_active == 5
        expected = jax.grad(lambda w: linear_losses(w, batch).mean())(LINEAR)
        np.testing.assert_allclose(grads, expected, rtol=1e-5)


def test_auxiliary_output_is_of_all_rows():
    def losses(params, batch):
        logits = batch["x"] @ params
        return as_softmax_loss(logits, batch["y"], delta=DELTA), {"logits": logits}

    f = compact_value_and_grad(losses, capacities=(2,), has_aux=True)
    (sums, aux), grads = f(LINEAR, linear_batch(2))
    assert aux["logits"].shape == (8, 2)
    plain_sums, plain = compact_value_and_grad(linear_losses, capacities=(2,))(
        LINEAR, linear_batch(2)
    )
    assert sums == plain_sums
    np.testing.assert_array_equal(grads, plain)


def test_what_is_left_out_may_hold_nan():
    batch = linear_batch(3)
    where = jnp.arange(8) != 1
    spoilt = batch | {"x": jnp.where(where[:, None], batch["x"], jnp.nan)}
    f = compact_value_and_grad(linear_losses, capacities=(4,))
    sums, grads = f(LINEAR, spoilt, where=where)
    expected_sums, expected = f(LINEAR, batch, where=where)
    assert (sums.num_valid, sums.num_active) == (7, 2)
    assert sums == expected_sums
    np.testing.assert_array_equal(grads, expected)


def test_a_valid_nan_is_seen():
    batch = linear_batch(1)
    batch["x"] = batch["x"].at[5].set(jnp.nan)
    sums, grads = compact_value_and_grad(linear_losses, capacities=(4,))(LINEAR, batch)
    assert jnp.isnan(sums.loss)
    assert sums.num_active == 2
    assert jnp.isnan(grads).all()


def test_nothing_valid_gives_zeros():
    f = compact_value_and_grad(linear_losses, capacities=(4,))
    sums, grads = f(LINEAR, linear_batch(3), where=jnp.zeros(8, bool))
    assert (sums.loss, sums.num_valid, sums.num_active) == (0, 0, 0)
    np.testing.assert_array_equal(grads, jnp.zeros_like(LINEAR))


def test_under_vmap_and_scan():
    f = compact_value_and_grad(linear_losses, capacities=(2, 4))
    weights = jnp.stack([LINEAR, -LINEAR])
    batch = linear_batch(3)
    each = [f(w, batch) for w in weights]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    mapped = jax.vmap(f, in_axes=(0, None))(weights, batch)
    _, scanned = jax.lax.scan(lambda _, w: (None, f(w, batch)), None, weights)
    for result in (mapped, scanned):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-6), result, expected
        )


def test_half_precision_losses_are_added_in_float32():
    def losses(params, batch):
        return jnp.square(batch - params).astype(jnp.bfloat16)

    sums, _ = compact_value_and_grad(losses, capacities=(2,))(
        jnp.float32(0), jnp.ones(1001)
    )
    assert sums.loss == 1001  # bfloat16 counts to 256


def test_a_loss_of_another_kind_with_exact_zeros():
    def losses(params, batch):
        return sparsemax_loss(batch["x"] @ params, batch["y"])

    batch = linear_batch(3)
    sums, grads = compact_value_and_grad(losses, capacities=(4,))(LINEAR, batch)
    assert sums.num_active == 3
    expected = jax.grad(lambda w: losses(w, batch).mean())(LINEAR)
    np.testing.assert_allclose(grads, expected, rtol=1e-5)


# Random numbers and statistics.


def dropped(key, x):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), x / 0.5, 0)


def test_dropout_by_a_key_of_each_row_is_exact():
    def losses(params, batch):
        x = jax.vmap(dropped)(batch["key"], batch["x"])
        return as_softmax_loss(x @ params, batch["y"], delta=DELTA)

    weights = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    x = 3 * jnp.asarray(np.random.default_rng(1).normal(size=(16, 4)), jnp.float32)
    batch = {
        "x": x,
        "y": jnp.argmax(x @ weights, axis=-1),
        "key": jax.random.split(jax.random.key(0), 16),
    }
    sums, grads = compact_value_and_grad(losses, capacities=(8, 12))(weights, batch)
    assert 0 < sums.num_active < 12
    expected = jax.grad(lambda w: losses(w, batch).mean())(weights)
    np.testing.assert_allclose(grads, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_refuses_dropout_by_one_key(wrap):
    @wrap
    def losses(params, batch):
        x = dropped(jax.random.key(0), batch["x"])
        return as_softmax_loss(x @ params, batch["y"], delta=DELTA)

    with pytest.raises(ValueError, match="no random numbers by one key"):
        compact_value_and_grad(losses, capacities=(2,))(LINEAR, linear_batch(2))


def by_parts_of_one_key(x):
    return jax.vmap(dropped)(jax.random.split(jax.random.key(0), len(x)), x)


def by_numbered_keys(x):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(0), jnp.arange(len(x))
    )
    return jax.vmap(dropped)(keys, x)


@pytest.mark.parametrize("drop", [by_parts_of_one_key, by_numbered_keys])
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_refuses_dropout_by_parts_of_one_key(wrap, drop):
    def losses(params, batch):
        x = wrap(drop)(batch["x"])
        return as_softmax_loss(x @ params, batch["y"], delta=DELTA)

    with pytest.raises(ValueError, match="nor by keys split from one"):
        compact_value_and_grad(losses, capacities=(2,))(LINEAR, linear_batch(2))


@pytest.mark.parametrize("of", ["jit", "scan"])
def test_a_key_of_each_row_may_pass_through_inner_programs(of):
    def losses(params, batch):
        if of == "jit":
            x = jax.jit(jax.vmap(dropped))(batch["key"], batch["x"])
        else:
            draw = jax.vmap(jax.random.bernoulli)

            def layer(carry, _):
                keys, x = carry
                keys = jax.vmap(jax.random.fold_in)(keys, jnp.ones(len(x), int))
                return (keys, jnp.where(draw(keys)[:, None], x, 0)), None

            (_, x), _ = jax.lax.scan(layer, (batch["key"], batch["x"]), length=2)
        return as_softmax_loss(x @ params, batch["y"], delta=DELTA)

    batch = linear_batch(2)
    batch["key"] = jax.random.split(jax.random.key(0), len(batch["y"]))
    _, grads = compact_value_and_grad(losses, capacities=(2,))(LINEAR, batch)
    expected = jax.grad(lambda w: losses(w, batch).mean())(LINEAR)
    np.testing.assert_allclose(grads, expected, rtol=1e-5, atol=1e-7)


def test_refuses_a_key_among_the_parameters():
    params = {"w": LINEAR, "key": jax.random.key(0)}
    f = compact_value_and_grad(lambda p, b: linear_losses(p["w"], b), capacities=(2,))
    with pytest.raises(ValueError, match=r"`params\['key'\]` is a random key"):
        f(params, linear_batch(2))


def test_refuses_statistics_of_batches():
    params = {"params": LINEAR, "batch_stats": {"mean": jnp.zeros(2)}}
    f = compact_value_and_grad(
        lambda p, b: linear_losses(p["params"], b), capacities=(2,)
    )
    with pytest.raises(ValueError, match=r"batch_stats.* is a statistic of batches"):
        f(params, linear_batch(2))


@pytest.mark.parametrize("tied", [False, True])
def test_statistics_that_are_taken_on_the_fly_show_in_the_sums(tied):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(16, 4)), jnp.float32)
    params = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)

    def losses(params, batch):
        logits = batch["x"] @ params
        if tied:
            logits -= logits.mean(axis=0, keepdims=True)
        return as_softmax_loss(logits, batch["y"], logit_margin=0.5)

    batch = {"x": x, "y": jnp.argmax(x @ params, axis=1).at[:5].set(0)}
    f = jax.jit(compact_value_and_grad(losses, capacities=(8,)))
    sums, grads = f(params, batch)
    plain = jax.grad(lambda p: losses(p, batch).mean())(params)
    assert 0 < sums.num_active <= 8
    same = np.isclose(sums.loss_again, sums.loss, rtol=1e-5)
    right = np.allclose(grads, plain, rtol=1e-5, atol=1e-6)
    assert same == right == (not tied)


def test_refuses_the_state_of_dropout():
    state = nnx.state(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"is a random key for all examples"):
        compact_value_and_grad(lambda p, b: b, capacities=(2,))(state, jnp.ones(4))


def test_refuses_the_state_of_a_batch_norm():
    state = nnx.state(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))

    def losses(params, batch):
        return jnp.square(batch - params["mean"][...][None]).sum(axis=1)

    with pytest.raises(ValueError, match=r"mean.* is a statistic of batches"):
        compact_value_and_grad(losses, capacities=(2,))(state, jnp.ones((4, 2)))


# What is refused besides.


@pytest.mark.parametrize(
    ("capacities", "error", "message"),
    [
        ((), ValueError, "must hold a number of rows; got none"),
        ((4, 2), ValueError, r"must increase; got \(4, 2\)"),
        ((4, 4), ValueError, r"must increase; got \(4, 4\)"),
        ((0, 4), ValueError, "must be .* at least 1; got 0"),
        ((2.5,), TypeError, "must be an integer .*; got 2.5"),
        (4, TypeError, "must be a sequence of integers; got 4"),
        ("48", TypeError, "must be a sequence of integers; got '48'"),
    ],
)
def test_refuses_capacities(capacities, error, message):
    with pytest.raises(error, match=f"`capacities` {message}"):
        compact_value_and_grad(linear_losses, capacities=capacities)


@pytest.mark.parametrize("capacities", [(4, 9), (4, 8), (9, 100)])
def test_capacities_beyond_a_last_partial_batch_are_left_out(capacities):
    batch = linear_batch(2)
    got = compact_value_and_grad(linear_losses, capacities=capacities)(LINEAR, batch)
    expected = compact_value_and_grad(linear_losses, capacities=(4,))(LINEAR, batch)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_exports_with_a_symbolic_batch():
    batch = linear_batch(2)
    (rows,) = jax.export.symbolic_shape("b")
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), batch
    )
    f = compact_value_and_grad(linear_losses, capacities=(2, 4))
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), LINEAR)
    exported = jax.export.export(jax.jit(f))(params, shapes)
    for n in (1, 3, 8):
        some = jax.tree.map(lambda a, n=n: a[:n], batch)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-6),
            tuple(exported.call(LINEAR, some)),
            f(LINEAR, some),
        )


def test_labels_that_are_left_out_need_no_mask_in_the_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    y = np.array([[0, 1, -100], [2, -100, -100]])
    w = rng.normal(size=(4, 5)).astype(np.float32)

    def losses(w, batch, where=None):
        return as_softmax_loss(batch["x"] @ w, batch["y"], delta=DELTA, where=where)

    f = compact_value_and_grad(losses, capacities=(1,))
    sums, grads = jax.jit(f)(w, {"x": x, "y": y}, where=y >= 0)

    def mean(w):
        return losses(w, {"x": x, "y": y}, y >= 0).sum() / 3

    expected, gradient = jax.value_and_grad(mean)(w)
    np.testing.assert_allclose(sums.loss / 3, expected, rtol=1e-6)
    np.testing.assert_allclose(grads, gradient, rtol=1e-5, atol=1e-6)


def test_a_map_that_tracks_nothing_needs_the_axis_by_name():
    f = compact_value_and_grad(losses_of("mlp"), capacities=(1, 2))
    params, batch = make_params("mlp"), make_batch("mlp", 0.5)
    with pytest.raises(ValueError, match=r"`axis_name` must be given.*'data'"):
        jax.jit(spread(f, check_vma=False))(params, batch)
    parts = jax.tree.map(lambda a: a.reshape(8, -1, *a.shape[1:]), batch)
    with pytest.raises(ValueError, match=r"`axis_name` must be given.*'data'"):
        jax.pmap(f, axis_name="data", in_axes=(None, 0))(params, parts)


def test_a_batch_that_lies_spread_over_an_explicit_mesh_is_refused():
    f = compact_value_and_grad(linear_losses, capacities=(2,))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    batch = jax.device_put(linear_batch(2), jax.NamedSharding(mesh, P("data")))
    with (
        jax.set_mesh(mesh),
        pytest.raises(ValueError, match=r"`batch\[.*lies spread.*`jax.shard_map`"),
    ):
        jax.jit(f)(LINEAR, batch)


def test_dropout_of_flax_that_is_closed_over_is_refused():
    dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

    def losses(params, batch):
        logits = dropout(batch["x"] @ params["w"])
        return as_softmax_loss(logits, batch["y"], delta=DELTA)

    params = {"w": jnp.ones((2, 5))}
    batch = {"x": jnp.ones((4, 2)), "y": jnp.zeros(4, jnp.int32)}
    f = compact_value_and_grad(losses, capacities=(2,))
    for call in (f, jax.jit(f)):
        with pytest.raises(ValueError, match="no random numbers by one key"):
            call(params, batch)


def test_refuses_what_is_no_function():
    with pytest.raises(TypeError, match=r"`per_example_loss` must be a function; got"):
        compact_value_and_grad(LINEAR, capacities=(2,))


@pytest.mark.parametrize(
    ("reduce", "error", "message"),
    [
        (jnp.mean, ValueError, r"of shape \(8, ...\); got \(\).* Leave out the mean"),
        (lambda losses: losses[:4], ValueError, r"of shape \(8, ...\); got \(4,\)"),
        (lambda losses: losses > 0, TypeError, "must be floating point; got .*bool"),
    ],
)
def test_refuses_losses_that_are_not_one_an_example(reduce, error, message):
    f = compact_value_and_grad(
        lambda p, b: reduce(linear_losses(p, b)), capacities=(2,)
    )
    with pytest.raises(error, match=message):
        f(LINEAR, linear_batch(2))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({}, "must hold an array; got none"),
        ({"x": jnp.ones((0, 1))}, "must hold an example; its arrays have 0 rows"),
        ({"x": jnp.ones((8, 1)), "y": jnp.ones(4)}, r"`batch\['y'\]` has shape \(4,\)"),
        ({"x": jnp.ones((8, 1)), "k": jnp.ones(())}, r"`batch\['\w'\]` has shape \("),
    ],
)
def test_refuses_batches_without_a_common_axis(batch, message):
    f = compact_value_and_grad(linear_losses, capacities=(2,))
    with pytest.raises(ValueError, match=message):
        f(LINEAR, batch)


def test_refuses_a_loss_without_the_auxiliary_output_that_was_said():
    f = compact_value_and_grad(linear_losses, capacities=(2,), has_aux=True)
    with pytest.raises(TypeError, match="must return a pair, losses and auxiliary"):
        f(LINEAR, linear_batch(2))


def test_refuses_a_mask_of_another_shape_or_type():
    f = compact_value_and_grad(linear_losses, capacities=(2,))
    with pytest.raises(
        ValueError, match=r"`where` must broadcast .*\(8,\); got \(4,\)"
    ):
        f(LINEAR, linear_batch(2), where=jnp.ones(4, bool))
    with pytest.raises(TypeError, match="`where` must be boolean"):
        f(LINEAR, linear_batch(2), where=jnp.ones(8))
