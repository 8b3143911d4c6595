"""Windows whose gradient crosses devices once, in the step that closes them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from as_softmax_jax.transforms import (
    active_count_window,
    adaptive_multi_steps,
    reduce_window,
    settled_ratio_window,
    spread_window,
    window_specs,
)

STEPS, SIZE = 12, 5


def transform(axis_name=None, window=None):
    window = settled_ratio_window(scale=2.0) if window is None else window
    return adaptive_multi_steps(
        optax.sgd(0.1, momentum=0.9), window, max_mini_steps=4, axis_name=axis_name
    )


def draw(num_devices, seed=0):
    """Gradients [STEPS, devices, SIZE] and counts [STEPS, devices] of mini-batches."""
    rng = np.random.default_rng(seed)
    grads = rng.normal(size=(STEPS, num_devices, SIZE)).astype(np.float32)
    num_valid = rng.integers(0, 9, (STEPS, num_devices)).astype(np.int32)
    num_active = rng.integers(0, num_valid + 1).astype(np.int32)
    return grads, num_valid, num_active


def make_mesh(num_devices):
    return jax.make_mesh(
        (num_devices,),
        ("data",),
        axis_types=(jax.sharding.AxisType.Auto,),
        devices=jax.devices()[:num_devices],
    )


def specs(params):
    return window_specs(jax.eval_shape(transform().init, params), "data")


def on_devices(num_devices, params, window=None):
    """Init and one mini-step of the form with `axis_name`, under shard_map."""
    mesh, tx = make_mesh(num_devices), transform("data", window)

    def step(params, state, grads, num_valid, num_active):
        updates, state = tx.update(
            grads[0], state, params, num_valid=num_valid[0], num_active=num_active[0]
        )
        return optax.apply_updates(params, updates), state

    state = specs(params)
    rows = P("data")
    init = jax.shard_map(tx.init, mesh=mesh, in_specs=P(), out_specs=state)
    step = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(P(), state, rows, rows, rows),
        out_specs=(P(), state),
    )
    return jax.jit(init), jax.jit(step)


def whole(grads, num_valid, num_active):
    """The mini-batch of all devices together: mean gradient and counts."""
    total = num_valid.sum()
    mean = (grads * num_valid[:, None]).sum(0) / max(total, 1)
    return mean, total, num_active.sum()


def run_whole(params, batches, window=None, state=None):
    """Trains with the form for one device; returns parameters and state, each step."""
    tx = transform(window=window)
    state = tx.init(params) if state is None else state
    trace = []
    for batch in zip(*batches, strict=True):
        mean, total, active = whole(*batch)
        updates, state = tx.update(
            mean, state, params, num_valid=total, num_active=active
        )
        params = optax.apply_updates(params, updates)
        trace.append((params, state))
    return trace


def counters(state):
    return [int(value) for value in state[:6]]


@pytest.mark.parametrize("num_devices", [pytest.param(1, marks=pytest.mark.long), 3, 8])
@pytest.mark.parametrize("window", [None, active_count_window(40)])
def test_windows_and_steps_are_those_of_one_device(num_devices, window):
    batches = draw(num_devices)
    params = jnp.zeros(SIZE)
    init, step = on_devices(num_devices, params, window)
    expected = run_whole(params, batches, window)
    state = init(params)
    for batch, (wanted, wanted_state) in zip(
        zip(*batches, strict=True), expected, strict=True
    ):
        params, state = step(params, state, *batch)
        np.testing.assert_allclose(params, wanted, rtol=1e-5, atol=1e-6)
        assert counters(state) == counters(wanted_state)
        assert bool(state.emitted) == bool(wanted_state.emitted)
    assert int(state.gradient_step) > 1


def test_a_gradient_that_is_not_finite_on_one_device_is_dropped_on_all():
    grads, num_valid, num_active = draw(8)
    grads[2, 5, 1] = np.nan
    params = jnp.zeros(SIZE)
    init, step = on_devices(8, params)
    state = init(params)
    for batch in zip(grads, num_valid, num_active, strict=True):
        params, state = step(params, state, *batch)
    grads[2], num_valid[2], num_active[2] = 0, 0, 0
    (wanted, _) = run_whole(jnp.zeros(SIZE), (grads, num_valid, num_active))[-1]
    assert int(state.num_skipped) == 1
    np.testing.assert_allclose(params, wanted, rtol=1e-5, atol=1e-6)


def test_gradients_cross_devices_in_the_closing_branch_alone():
    params = jnp.zeros(1000)
    _, step = on_devices(8, params)
    state = jax.eval_shape(transform().init, params)
    part = jax.ShapeDtypeStruct((8, 1000), jnp.float32)
    state = state._replace(acc_grads=part)
    count = jax.ShapeDtypeStruct((8,), jnp.int32)
    text = step.lower(params, state, part, count, count).compile().as_text()
    computations = re.split(r"\n(?=\S)", text)
    crossing = [c for c in computations if re.search(r"f32\[[^]]*1000.*all-reduce", c)]
    entry = next(c for c in computations if c.startswith("ENTRY"))
    assert len(crossing) == 1
    assert crossing[0] != entry
    assert "all-reduce" in entry  # of three counts
    assert "conditional(" in entry


@pytest.mark.parametrize(
    "num_devices", [*(pytest.param(n, marks=pytest.mark.long) for n in (1, 8)), 4]
)
def test_an_open_window_goes_on_with_any_number_of_devices(num_devices):
    batches = draw(8)
    half = STEPS // 2
    params = jnp.zeros(SIZE)

    def window(counts):
        return 4

    init, step = on_devices(8, params, window)
    expected = run_whole(params, batches, window)
    state = init(params)
    for batch in list(zip(*batches, strict=True))[:half]:
        params, state = step(params, state, *batch)
    assert int(state.mini_step) > 0, "the window is to be open"
    lies = specs(params)
    reduced = jax.shard_map(
        lambda state: reduce_window(state, "data"),
        mesh=make_mesh(8),
        in_specs=(lies,),
        out_specs=P(),
    )(state)
    # What a checkpoint holds, on the host.
    reduced, params = jax.device_get((reduced, params))
    assert reduced.acc_grads.shape == (SIZE,)
    state = jax.shard_map(
        lambda state: spread_window(state, "data"),
        mesh=make_mesh(num_devices),
        in_specs=(P(),),
        out_specs=lies,
    )(reduced)
    _, step = on_devices(num_devices, params, window)
    joined = [a.reshape(STEPS, num_devices, -1, *a.shape[2:]) for a in batches]
    for k in range(half, STEPS):
        grads, num_valid, num_active = (a[k] for a in joined)
        total = num_valid.sum(1)
        grads = (grads * num_valid[..., None]).sum(1) / np.maximum(total, 1)[:, None]
        params, state = step(
            params, state, grads.astype(np.float32), total, num_active.sum(1)
        )
        np.testing.assert_allclose(params, expected[k][0], rtol=1e-5, atol=1e-6)


def test_pmap():
    batches, params = draw(8), np.zeros((8, SIZE), np.float32)
    tx = transform("data")

    def one(params, state, grads, num_valid, num_active):
        updates, state = tx.update(
            grads, state, params, num_valid=num_valid, num_active=num_active
        )
        return optax.apply_updates(params, updates), state

    init = jax.pmap(tx.init, axis_name="data")
    step = jax.pmap(one, axis_name="data")
    state = init(params)
    for batch in zip(*batches, strict=True):
        params, state = step(params, state, *batch)
    wanted, _ = run_whole(jnp.zeros(SIZE), batches)[-1]
    for device in params:
        np.testing.assert_allclose(device, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("inside", [True, False], ids=["own", "reduced"])
def test_gradients_that_are_reduced_already_are_refused(check_vma, inside):
    mesh, tx = make_mesh(8), transform("data")
    x = np.arange(8.0, dtype=np.float32)

    def step(params, x):
        own = params
        if inside and check_vma:
            own = jax.lax.pcast(params, "data", to="varying")
        grads = jax.grad(lambda p: jnp.sum(p * x))(own)
        if not inside:
            grads = jax.lax.psum(grads, "data") if not check_vma else grads
        counts = {"num_valid": 1, "num_active": 1}
        return tx.update(grads, tx.init(params), params, **counts)[0]

    mapped = jax.shard_map(
        step, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=check_vma
    )
    params = jnp.zeros(())
    if inside:
        # k = 2 * 8 / 8 grows by one at most: the first window is of 2 mini-steps.
        assert jax.jit(mapped)(params, x) == 0
        return
    if check_vma:
        with pytest.raises(ValueError, match=r"`updates` must be each device's own"):
            jax.jit(mapped)(params, x)


def test_counts_of_all_devices_do_not_wrap_around():
    most = 2**31 - 1

    def rule(counts):
        return jnp.where(counts.num_valid == most, counts.mini_step, 4)

    init, step = on_devices(8, jnp.zeros(SIZE), rule)
    grads = np.broadcast_to(np.arange(8.0, dtype="f")[:, None], (8, SIZE))
    params, state = step(
        jnp.zeros(SIZE), init(jnp.zeros(SIZE)), grads, *[np.full(8, 2**30, "i")] * 2
    )
    assert state.gradient_step == 1
    np.testing.assert_allclose(params, -0.1 * np.full(SIZE, 3.5), rtol=1e-6)
