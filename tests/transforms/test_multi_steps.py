import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training import train_state
from jax.experimental import checkify
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from as_softmax_jax.transforms import (
    AdaptiveMultiStepsState,
    active_count_window,
    adaptive_multi_steps,
    has_updated,
    settled_ratio_window,
)

ADAMW = "optax 0.2.8's adamw mixes dtypes and ranks"
INT32_FIELDS = (
    "window_length",
    "mini_step",
    "gradient_step",
    "num_valid",
    "num_active",
    "num_skipped",
)


def fixed(length):
    """A window of constant length, as a user would write it."""
    return lambda counts: length


def sgd(length, learning_rate=1.0):
    return adaptive_multi_steps(
        optax.sgd(learning_rate), fixed(length), max_mini_steps=99
    )


def run(tx, params, batches, state=None):
    """Feeds (gradient, num_valid, num_active) and returns all updates and states."""
    state = tx.init(params) if state is None else state
    updates, states = [], []
    for grads, num_valid, num_active in batches:
        update, state = tx.update(
            grads, state, params, num_valid=num_valid, num_active=num_active
        )
        updates.append(update)
        states.append(state)
    return updates, states


def vector(*entries):
    return jnp.array(entries, jnp.float32)


def counting(calls):
    """An inner optimizer that counts the times it really runs."""

    def update(updates, state, params=None):
        jax.debug.callback(lambda: calls.append(1))
        return updates, state + 1

    return optax.GradientTransformation(lambda _: jnp.zeros([], jnp.int32), update)


# A window, its end and what the inner optimizer is given there.


def test_state_has_the_fields_shapes_and_dtypes_it_documents():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    state = sgd(2).init(params)
    assert AdaptiveMultiStepsState._fields == (
        *INT32_FIELDS,
        "num_valid_excess",
        "emitted",
        "acc_grads",
        "inner_state",
    )
    for field in INT32_FIELDS:
        chex.assert_shape(getattr(state, field), ())
        chex.assert_type(getattr(state, field), jnp.int32)
    chex.assert_type(state.emitted, bool)
    chex.assert_type(state.num_valid_excess, jnp.float32)
    assert state.window_length == 1
    chex.assert_trees_all_equal_shapes_and_dtypes(state.acc_grads, params)


def test_the_step_is_the_mean_weighted_by_counts():
    batches = [(vector(1.0, 2.0), 30, 3), (vector(5.0, -2.0), 10, 4)]
    updates, states = run(sgd(2), vector(0.0, 0.0), batches)
    np.testing.assert_array_equal(updates[0], [0.0, 0.0])
    expected = [
        -(30 * 1.0 + 10 * 5.0) / (30 + 10),
        -(30 * 2.0 + 10 * -2.0) / (30 + 10),
    ]
    np.testing.assert_allclose(updates[1], expected, rtol=1e-6)
    assert [int(s.mini_step) for s in states] == [1, 0]
    assert [int(s.num_valid) for s in states] == [30, 0]
    assert [int(s.num_active) for s in states] == [3, 0]
    assert [int(s.gradient_step) for s in states] == [0, 1]


def test_a_window_leaves_nothing_for_the_next():
    batches = [(vector(8.0), 30, 3), (vector(6.0), 10, 4)] * 3
    updates, _ = run(sgd(2), vector(0.0), batches)
    np.testing.assert_allclose(updates[1::2], -np.full((3, 1), 7.5), rtol=1e-6)


def test_a_window_of_one_is_the_inner_optimizer_to_the_bit():
    grads = jax.random.normal(jax.random.key(0), (7, 5))
    tx = adaptive_multi_steps(
        optax.sgd(0.1, momentum=0.9),
        settled_ratio_window(max_growth=0),
        max_mini_steps=4,
    )
    plain = optax.sgd(0.1, momentum=0.9)
    state, params = plain.init(grads[0]), grads[0]
    updates, _ = run(tx, params, [(g, 31, 7) for g in grads])
    for grad, update in zip(grads, updates, strict=True):
        expected, state = jax.jit(plain.update)(grad, state, params)
        np.testing.assert_array_equal(update, expected)


def test_the_inner_optimizer_runs_at_a_windows_end_only():
    calls = []
    tx = adaptive_multi_steps(counting(calls), fixed(3), max_mini_steps=3)
    update = jax.jit(tx.update)
    state = tx.init(vector(0.0))
    ran = []
    for _ in range(7):
        _, state = update(vector(1.0), state, num_valid=8, num_active=8)
        jax.effects_barrier()
        ran.append(len(calls))
    assert ran == [0, 0, 1, 1, 1, 2, 2]
    assert state.inner_state == 2


def test_the_inner_optimizer_stands_under_cond():
    tx = sgd(2)
    jaxpr = jax.make_jaxpr(lambda g, s: tx.update(g, s, num_valid=1, num_active=1))(
        vector(0.0), tx.init(vector(0.0))
    )
    assert "cond[" in str(jaxpr)


def test_schedules_inside_count_gradient_steps():
    tx = adaptive_multi_steps(
        optax.sgd(lambda count: 0.5 ** count.astype(jnp.float32)),
        fixed(2),
        max_mini_steps=2,
    )
    updates, states = run(tx, vector(0.0), [(vector(1.0), 8, 8)] * 6)
    np.testing.assert_array_equal(
        jnp.concatenate(updates), [0, -1.0, 0, -0.5, 0, -0.25]
    )
    assert [int(s.gradient_step) for s in states] == [0, 1, 1, 2, 2, 3]


def test_one_parameter_sized_buffer():
    params = jnp.zeros((11, 13))
    state = sgd(2).init(params)
    assert [leaf.shape for leaf in jax.tree.leaves(state)].count(params.shape) == 1


def test_a_mini_step_allocates_and_copies_nothing_of_the_parameters_size():
    tx = sgd(4)
    params = jnp.zeros((256, 256))

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, num_valid=8, num_active=8)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    compiled = step.lower(params, tx.init(params), params).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < params.nbytes / 8
    assert memory.alias_size_in_bytes >= 2 * params.nbytes


# Windows without an active example.


@pytest.mark.standard_promotion(reason=ADAMW)
def test_a_window_without_an_active_example_closes_without_a_step():
    tx = adaptive_multi_steps(optax.adamw(0.1), fixed(2), max_mini_steps=2)
    params = vector(1.0, 2.0)
    _, before = run(tx, params, [(vector(1.0, 1.0), 8, 8)] * 2)  # momentum is set
    updates, after = run(tx, params, [(vector(0.0, 0.0), 8, 0)] * 2, before[-1])
    for update, state in zip(updates, after, strict=True):
        np.testing.assert_array_equal(update, [0.0, 0.0])
        chex.assert_trees_all_equal(state.inner_state, before[-1].inner_state)
        assert state.gradient_step == 1
        assert not has_updated(state)
    assert [int(s.mini_step) for s in after] == [1, 0]
    assert after[-1].num_valid == 0
    # The trap: a zero gradient is no zero update.
    moved, _ = optax.adamw(0.1).update(jnp.zeros(2), before[-1].inner_state, params)
    assert (moved != 0).all()


def test_a_window_without_an_active_example_leaves_no_gradient_behind():
    # Another loss may add a gradient to settled examples; the window still closes.
    batches = [(vector(5.0), 8, 0), (vector(7.0), 8, 0), (vector(1.0), 8, 1)]
    updates, _ = run(sgd(2), vector(0.0), [*batches, (vector(3.0), 8, 1)])
    np.testing.assert_array_equal(jnp.concatenate(updates), [0, 0, 0, -2.0])


def test_settled_mini_batches_of_an_active_window_count_in_the_divisor():
    batches = [(vector(0.0), 30, 0), (vector(4.0), 10, 6)]
    updates, _ = run(sgd(2), vector(0.0), batches)
    np.testing.assert_allclose(updates[1], [-(30 * 0.0 + 10 * 4.0) / (30 + 10)])


# Mini-batches that do not count.


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_non_finite_mini_step_is_dropped(bad, place):
    batches = [(vector(1.0, 2.0), 30, 3), (vector(5.0, 2.0), 10, 4)]
    batches.insert(place, (vector(1e6, bad), 1000, 1000))
    updates, states = run(sgd(3), vector(0.0, 0.0), batches)
    np.testing.assert_array_equal(updates[:2], np.zeros((2, 2)))
    expected = [-(30 * 1.0 + 10 * 5.0) / (30 + 10), -2.0]
    np.testing.assert_allclose(updates[2], expected, rtol=1e-6)
    assert [int(s.mini_step) for s in states] == [1, 2, 0]  # it advances the window
    assert states[-1].num_skipped == 1
    assert all(jnp.isfinite(s.acc_grads).all() for s in states)


def test_a_non_finite_mini_step_leaves_the_accumulator_to_the_bit():
    tx = sgd(9)
    _, states = run(tx, vector(0.0, 0.0), [(vector(0.1, 0.3), 7, 3)] * 3)
    bad = (vector(3e38, float("nan")), 7, 3)
    _, after = run(tx, vector(0.0, 0.0), [bad], states[-1])
    np.testing.assert_array_equal(after[0].acc_grads, states[-1].acc_grads)
    assert after[0].num_valid == states[-1].num_valid == 3 * 7
    assert after[0].num_active == states[-1].num_active == 3 * 3


def test_one_bad_leaf_drops_the_whole_mini_step():
    good = {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}
    bad = {"w": jnp.ones((3, 4)), "b": jnp.ones(4).at[2].set(jnp.nan)}
    updates, states = run(sgd(2), good, [(bad, 8, 8), (good, 8, 8)])
    chex.assert_trees_all_equal(updates[1], jax.tree.map(jnp.negative, good))
    assert states[-1].num_skipped == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("size", [2048, 4096, 8193])
def test_a_bad_entry_of_a_large_gradient_is_found(size, bad):
    grad = jnp.ones(size).at[size // 2].set(bad)
    tx = adaptive_multi_steps(optax.sgd(1.0), active_count_window(1), max_mini_steps=1)
    params = jnp.zeros(size)
    updates, state = jax.jit(tx.update)(
        grad, tx.init(params), params, num_valid=4, num_active=4
    )
    assert state.num_skipped == 1
    assert not updates.any()


def test_refuses_gradients_of_other_shapes():
    tx = adaptive_multi_steps(optax.sgd(1.0), active_count_window(1), max_mini_steps=1)
    params = {"w": jnp.zeros((3, 2))}
    with pytest.raises(ValueError, match=r"`updates\['w'\]` must have the shape .*2\)"):
        tx.update(
            {"w": jnp.ones(2)}, tx.init(params), params, num_valid=1, num_active=1
        )


def test_a_window_of_non_finite_mini_steps_closes_without_a_step():
    nan = vector(float("nan"))
    updates, states = run(
        sgd(2, 0.5), vector(0.0), [(nan, 8, 8)] * 2 + [(vector(1.0), 8, 8)] * 2
    )
    np.testing.assert_array_equal(jnp.concatenate(updates), [0, 0, 0, -0.5])
    assert [bool(s.emitted) for s in states] == [False, False, False, True]
    assert states[-1].num_skipped == 2


@pytest.mark.parametrize("first", [(float("nan"), 64), (0.0, 0)])
def test_the_length_comes_from_the_first_mini_batch_that_counts(first):
    tx = adaptive_multi_steps(
        optax.sgd(1.0), settled_ratio_window(max_growth=7), max_mini_steps=8
    )
    grad, num_valid = first
    # The first asks for 64, the second for 30 / 10 = 3; the third is not asked.
    batches = [(vector(grad), num_valid, num_valid // 64)]
    batches += [(vector(2.0), 30, 10), (vector(4.0), 10, 1)]
    updates, states = run(tx, vector(0.0), batches)
    assert [int(s.window_length) for s in states] == [1, 3, 3]
    expected = -(30 * 2.0 + 10 * 4.0) / (30 + 10)
    np.testing.assert_allclose(jnp.concatenate(updates), [0, 0, expected], rtol=1e-6)


def test_a_window_in_which_nothing_counts_is_bounded_and_grows_no_other():
    tx = adaptive_multi_steps(
        optax.sgd(1.0), settled_ratio_window(max_growth=1), max_mini_steps=8
    )
    _, states = run(tx, vector(0.0), [(vector(float("nan")), 8, 1)] * 6)
    assert [int(s.mini_step) for s in states] == [1, 0] * 3
    assert {int(s.window_length) for s in states} == {1}
    assert states[-1].num_skipped == 6


@pytest.mark.parametrize("grad", [0.0, 3.0, float("nan")])
def test_an_empty_mini_batch_makes_no_zero_over_zero(grad):
    empty = (vector(grad), 0, 0)
    updates, states = run(sgd(2), vector(0.0), [empty, empty, empty])
    np.testing.assert_array_equal(jnp.concatenate(updates), [0.0, 0.0, 0.0])
    assert states[-1].gradient_step == 0
    updates, _ = run(sgd(2), vector(0.0), [(vector(3.0), 8, 8), empty])
    np.testing.assert_array_equal(updates[1], [-3.0])


def test_non_finite_updates_of_the_inner_optimizer_end_with_their_window():
    # The buffer that they leave in is the accumulator of the next window.
    first_is_infinite = optax.scale_by_schedule(
        lambda count: jnp.where(count == 0, jnp.inf, 1.0)
    )
    tx = adaptive_multi_steps(first_is_infinite, fixed(2), max_mini_steps=2)
    batches = [(vector(3.0), 8, 8)] * 4
    batches[2] = (vector(float("nan")), 8, 8)
    updates, _ = run(tx, vector(0.0), batches)
    np.testing.assert_array_equal(jnp.concatenate(updates), [0, jnp.inf, 0, 3.0])


def test_large_finite_gradients_are_kept():
    # Their sum passes the largest float32, 3.4e38; their mean does not.
    batches = [(vector(3e38, 3e38, -3e38), 100, 8), (vector(3e38, -3e38, 0.0), 100, 8)]
    updates, states = run(sgd(2), vector(0.0, 0.0, 0.0), batches)
    np.testing.assert_allclose(updates[1], [-3e38, 0.0, 1.5e38], rtol=1e-6)
    assert states[-1].num_skipped == 0


# Closing a partial window.


@pytest.mark.parametrize("under_jit", [False, True])
def test_flush_closes_a_partial_window(under_jit):
    tx = sgd(9)
    update = jax.jit(tx.update) if under_jit else tx.update
    _, states = run(tx, vector(0.0), [(vector(1.0), 30, 3)])
    kept, _ = update(vector(5.0), states[0], num_valid=10, num_active=1, flush=False)
    np.testing.assert_array_equal(kept, [0.0])
    flushed, state = update(
        vector(5.0), states[0], num_valid=10, num_active=1, flush=True
    )
    np.testing.assert_allclose(flushed, [-(30 * 1.0 + 10 * 5.0) / 40], rtol=1e-6)
    assert has_updated(state)
    assert (state.mini_step, state.gradient_step) == (0, 1)
    assert state.window_length == 9


def test_flush_with_an_empty_mini_batch_steps_on_what_there_is():
    tx = sgd(9)
    _, states = run(tx, vector(0.0), [(vector(1.0), 30, 3)])
    empty = {"num_valid": 0, "num_active": 0, "flush": True}
    update, state = tx.update(vector(0.0), states[0], **empty)
    np.testing.assert_array_equal(update, [-1.0])
    update, state = tx.update(vector(0.0), state, **empty)  # nothing is open now
    np.testing.assert_array_equal(update, [0.0])
    assert (state.mini_step, state.gradient_step) == (0, 1)


# What the caller reads.


def test_has_updated_tells_whether_the_last_update_stepped():
    tx = sgd(2)
    assert not has_updated(tx.init(vector(0.0)))
    _, states = run(tx, vector(0.0), [(vector(1.0), 8, 8)] * 4)
    assert [bool(has_updated(s)) for s in states] == [False, True, False, True]
    chex.assert_shape(has_updated(states[0]), ())


def test_has_updated_finds_the_state_in_a_chain():
    tx = optax.chain(optax.clip(1.0), sgd(1))
    _, state = tx.update(vector(1.0), tx.init(vector(0.0)), num_valid=8, num_active=8)
    assert has_updated(state)


def test_updates_of_a_mini_step_leave_parameters_to_the_bit():
    params = vector(-0.0, 0.0, 1.5, float("inf"))
    updates, _ = run(sgd(2), params, [(jnp.ones(4), 8, 8)])
    after = optax.apply_updates(params, updates[0])
    np.testing.assert_array_equal(jnp.signbit(after), jnp.signbit(params))
    np.testing.assert_array_equal(after, params)


# Company: what it wraps and what wraps it.


def test_other_keywords_reach_the_inner_optimizer():
    def update(updates, state, params=None, *, value, **extra):
        assert not {"num_valid", "num_active", "flush"} & set(extra)
        return jax.tree.map(lambda u: u * value, updates), state

    inner = optax.GradientTransformationExtraArgs(optax.identity().init, update)
    tx = adaptive_multi_steps(inner, fixed(1), max_mini_steps=1)
    counts = {"num_valid": 8, "num_active": 8}
    updates, _ = tx.update(
        vector(2.0), tx.init(vector(0.0)), value=jnp.float32(3.0), **counts
    )
    np.testing.assert_array_equal(updates, [2.0 * 3.0])
    # An inner optimizer that takes no extra argument is given none.
    updates, _ = sgd(1).update(
        vector(2.0), sgd(1).init(vector(0.0)), value=3.0, **counts
    )
    np.testing.assert_array_equal(updates, [-2.0])


def test_chains_inside_and_around():
    inner = optax.chain(optax.clip(1.0), optax.sgd(1.0))
    tx = optax.chain(
        adaptive_multi_steps(inner, fixed(2), max_mini_steps=2), optax.scale(10.0)
    )
    batches = [(vector(4.0, 0.5), 8, 8), (vector(-3.0, 0.5), 8, 8)]
    updates, _ = run(tx, vector(0.0, 0.0), batches)
    np.testing.assert_array_equal(updates[0], [0.0, 0.0])
    # Clipped after the mean, (4 - 3) / 2; not before, (1 - 1) / 2.
    np.testing.assert_allclose(updates[1], [-5.0, -5.0], rtol=1e-6)


def test_inject_hyperparams_inside():
    inner = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)
    tx = adaptive_multi_steps(inner, fixed(2), max_mini_steps=2)
    update = jax.jit(tx.update)
    state = tx.init(vector(0.0))
    state.inner_state.hyperparams["learning_rate"] = jnp.float32(0.25)
    for _ in range(2):
        updates, state = update(vector(4.0), state, num_valid=8, num_active=8)
    np.testing.assert_array_equal(updates, [-1.0])


@pytest.mark.standard_promotion(reason=ADAMW)
@pytest.mark.parametrize("outside", [True, False])
def test_masked_leaves(outside):
    params = {"trained": vector(1.0), "frozen": vector(2.0)}
    mask = {"trained": True, "frozen": False}
    if outside:
        tx = optax.masked(sgd(2), mask)
    else:
        inner = optax.masked(optax.sgd(1.0), mask)
        tx = adaptive_multi_steps(inner, fixed(2), max_mini_steps=2)
    grads = {"trained": vector(3.0), "frozen": vector(5.0)}
    updates, _ = run(tx, params, [(grads, 8, 8)] * 2)
    assert updates[1]["trained"] == -3.0
    assert updates[0]["trained"] == 0.0
    assert updates[1]["frozen"] == 5.0  # optax.masked hands it through


def test_none_leaves():
    params = {"w": vector(1.0), "activation": None}
    grads = {"w": vector(3.0), "activation": None}
    updates, _ = run(sgd(2), params, [(grads, 8, 8)] * 2)
    assert updates[1]["activation"] is None
    np.testing.assert_array_equal(updates[1]["w"], [-3.0])


def test_no_parameters_at_all():
    updates, states = run(sgd(1), {}, [({}, 8, 8)])
    assert updates == [{}]
    assert has_updated(states[0])


@pytest.mark.standard_promotion(reason=ADAMW)
def test_flax_nnx_optimizer_passes_the_counts():
    model = nnx.Linear(2, 1, use_bias=False, rngs=nnx.Rngs(0))
    tx = adaptive_multi_steps(optax.adamw(0.1), fixed(2), max_mini_steps=2)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        grads = nnx.grad(lambda m: m(x).sum())(model)
        optimizer.update(model, grads, num_valid=8, num_active=8)

    seen, stepped = [model.kernel[...]], []
    for _ in range(2):
        step(model, optimizer, jnp.ones((1, 2)))
        seen.append(model.kernel[...])
        stepped.append(bool(has_updated(optimizer.opt_state)))
    np.testing.assert_array_equal(seen[1], seen[0])
    assert (seen[2] != seen[0]).all()
    assert stepped == [False, True]


def test_flax_train_state_is_told_to_pass_the_counts():
    state = train_state.TrainState.create(
        apply_fn=None, params={"w": vector(0.0)}, tx=sgd(2)
    )
    with pytest.raises(TypeError, match=r"TrainState\.apply_gradients passes neither"):
        state.apply_gradients(grads={"w": vector(1.0)})


# Dtypes.


@pytest.mark.standard_promotion(reason=ADAMW)
@pytest.mark.parametrize("grads_dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("params_dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("inner", [optax.sgd(0.1, momentum=0.9), optax.adamw(0.1)])
def test_dtypes_stay_under_scan(inner, params_dtype, grads_dtype):
    tx = adaptive_multi_steps(inner, fixed(2), max_mini_steps=2)
    params = jnp.ones(3, params_dtype)

    def step(carry, grads):
        params, state = carry
        updates, state = tx.update(grads, state, params, num_valid=8, num_active=8)
        return (optax.apply_updates(params, updates), state), updates

    state = tx.init(params)
    grads = jnp.ones((4, 3), grads_dtype)
    (after, last), updates = jax.jit(lambda c, g: jax.lax.scan(step, c, g))(
        (params, state), grads
    )
    chex.assert_trees_all_equal_shapes_and_dtypes(last, state)
    assert last.acc_grads.dtype == jnp.float32
    assert after.dtype == params_dtype
    assert (updates[::2] == 0).all()
    assert (updates[1::2] < 0).all()
    plain, _ = inner.update(grads[0], inner.init(params), params)
    assert updates.dtype == plain.dtype


def test_half_precision_is_accumulated_in_float32():
    # In bfloat16 a mean over 512 would stall: 1 / 512 of a number is below its ulp.
    grads = [jnp.full(1, 1.0 if i < 384 else 2.0, jnp.bfloat16) for i in range(512)]
    tx = adaptive_multi_steps(optax.identity(), fixed(512), max_mini_steps=512)

    def step(state, grads):
        updates, state = tx.update(grads, state, num_valid=8, num_active=8)
        return state, updates

    state = tx.init(jnp.zeros(1, jnp.bfloat16))
    _, updates = jax.lax.scan(step, state, jnp.stack(grads))
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        updates[-1].astype(jnp.float32), [(384 * 1.0 + 128 * 2.0) / 512]
    )


def test_float64_is_kept():
    with jax.enable_x64(True):
        params = jnp.zeros(1, jnp.float64)
        batches = [(params + 0.1, 3, 1), (params + 0.7, 4, 1)]
        updates, states = run(sgd(2), params, batches)
        assert states[0].acc_grads.dtype == updates[1].dtype == jnp.float64
        expected = [-(3 * 0.1 + 4 * 0.7) / (3 + 4)]
        np.testing.assert_allclose(updates[1], expected, rtol=1e-15)
        assert states[0].num_valid.dtype == jnp.int32


@pytest.mark.parametrize("count", [8, np.int64(8), np.uint8(8), jnp.int16(8)])
def test_counts_of_any_integer_type_serve(count):
    _, states = run(sgd(2), vector(0.0), [(vector(1.0), count, count)])
    chex.assert_type(states[0].num_valid, jnp.int32)
    assert states[0].num_valid == 8


# Against other ways to the same step.


@pytest.mark.standard_promotion(reason=ADAMW)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_equal_counts_agree_with_optax_multi_steps(k):
    grads = jax.random.normal(jax.random.key(k), (8, 5))
    inner = optax.adam(0.1)
    theirs = optax.MultiSteps(inner, every_k_schedule=k)
    window = settled_ratio_window(max_growth=0) if k == 1 else fixed(k)
    ours = adaptive_multi_steps(inner, window, max_mini_steps=k)
    their_state, our_state = theirs.init(grads[0]), ours.init(grads[0])
    for grad in grads:
        expected, their_state = theirs.update(grad, their_state, grads[0])
        update, our_state = ours.update(
            grad, our_state, grads[0], num_valid=8, num_active=8
        )
        np.testing.assert_allclose(update, expected, rtol=1e-5, atol=1e-6)
        assert has_updated(our_state) == theirs.has_updated(their_state)
    assert our_state.gradient_step == their_state.gradient_step == 8 // k


def test_unequal_mini_batches_agree_with_one_big_batch():
    x = jax.random.normal(jax.random.key(1), (12, 3))
    params = vector(0.5, -1.0, 2.0)

    def mean_loss(params, x):
        return jnp.mean(jnp.tanh(x @ params) ** 2)

    parts = [x[:7], x[7:8], x[8:]]
    batches = [(jax.grad(mean_loss)(params, p), len(p), len(p)) for p in parts]
    updates, _ = run(sgd(3), params, batches)
    big = jax.grad(mean_loss)(params, x)
    np.testing.assert_allclose(updates[-1], -big, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_bookkeeping_written_in_python(seed):
    draw = np.random.default_rng(seed)
    tx = adaptive_multi_steps(
        optax.sgd(1.0), settled_ratio_window(1.0, 2), max_mini_steps=6
    )
    update = jax.jit(tx.update)
    state = tx.init(vector(0.0))
    last_k, k, window, mini_step, skipped, steps = 1, None, [], 0, 0, 0
    for _ in range(60):
        grad = float(draw.choice([1.0, 2.0, np.nan, -3.0]))
        num_valid = int(draw.choice([0, 8, 32]))
        num_active = int(num_valid * draw.choice([0.0, 0.1, 0.5, 1.0]))
        flush = bool(draw.random() < 0.1)
        mini_step += 1
        if np.isfinite(grad):
            window.append((grad, num_valid, num_active))
        else:
            skipped += 1
        largest = min(last_k + 2, 6)
        if k is None and sum(n for _, n, _ in window) > 0:
            _, n, a = window[-1]
            k = largest if a == 0 else min(max(round(n / a), last_k), largest)
        expected = 0.0
        if flush or mini_step >= (k or largest):
            valid = sum(n for _, n, _ in window)
            if sum(a for _, _, a in window):
                expected = -sum(n * g for g, n, _ in window) / valid
                steps += 1
            last_k, k, window, mini_step = k or last_k, None, [], 0
        updates, state = update(
            vector(grad),
            state,
            num_valid=num_valid,
            num_active=num_active,
            flush=flush,
        )
        np.testing.assert_allclose(updates, [expected], rtol=1e-5, atol=1e-6)
        got = (state.mini_step, state.gradient_step, state.num_skipped)
        assert got == (mini_step, steps, skipped)
        assert state.window_length == (k or last_k)


# Compilation, resuming, devices.


@pytest.mark.standard_promotion(reason=ADAMW)
@pytest.mark.parametrize(
    "inner", [optax.adamw(0.1), optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)]
)
def test_compiles_once_with_everything_donated(inner):
    tx = adaptive_multi_steps(inner, settled_ratio_window(), max_mini_steps=3)

    @chex.assert_max_traces(n=1)
    def step(params, state, grads, num_active):
        updates, state = tx.update(
            grads, state, params, num_valid=8, num_active=num_active
        )
        return optax.apply_updates(params, updates), state

    chex.clear_trace_counter()
    step = jax.jit(step, donate_argnums=(0, 1))
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    state = tx.init(params)
    for num_active in (8, 1, 2, 8):
        grads = jax.tree.map(jnp.ones_like, params)
        params, state = step(params, state, grads, jnp.int32(num_active))


def test_compiles_once_around_a_weakly_typed_state():
    halving = optax.GradientTransformation(
        lambda _: jnp.asarray(1.0),
        lambda u, s, params=None: (u, s * jnp.float32(0.5)),
    )
    tx = adaptive_multi_steps(halving, fixed(1), max_mini_steps=1)
    chex.clear_trace_counter()
    update = jax.jit(chex.assert_max_traces(tx.update, n=1))
    state = tx.init(vector(0.0))
    for _ in range(3):
        _, state = update(vector(1.0), state, num_valid=8, num_active=8)
    assert state.inner_state == 0.125


def test_jit_and_eager_agree():
    grads = jax.random.normal(jax.random.key(2), (6, 4))
    tx = adaptive_multi_steps(
        optax.sgd(0.1, momentum=0.9), active_count_window(10), max_mini_steps=3
    )
    eager = jitted = tx.init(grads[0])
    update = jax.jit(tx.update)
    for i, grad in enumerate(grads):
        counts = {"num_valid": 8 + i, "num_active": 6}
        expected, eager = tx.update(grad, eager, **counts)
        got, jitted = update(grad, jitted, **counts)
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)
        chex.assert_trees_all_close(jitted, eager, rtol=1e-6, atol=1e-7)


def test_resuming_in_a_window_is_bit_equal():
    grads = jax.random.normal(jax.random.key(3), (8, 5))
    tx = adaptive_multi_steps(
        optax.sgd(0.1, momentum=0.9), settled_ratio_window(), max_mini_steps=3
    )
    batches = [(g, 7 + i, 2) for i, g in enumerate(grads)]
    expected, states = run(tx, grads[0], batches)
    stopped_at = 3  # windows end after 2 and 5
    assert states[stopped_at - 1].mini_step == 1
    leaves, treedef = jax.tree.flatten(states[stopped_at - 1])
    saved = [np.asarray(leaf) for leaf in leaves]
    restored = jax.tree.unflatten(treedef, [jnp.asarray(leaf) for leaf in saved])
    resumed, after = run(tx, grads[0], batches[stopped_at:], restored)
    chex.assert_trees_all_equal(resumed, expected[stopped_at:])
    chex.assert_trees_all_equal(after[-1], states[-1])


def test_shardings_are_kept():
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
    sharding = NamedSharding(mesh, P("data", "model"))
    params = jax.device_put(jnp.ones((8, 4)), sharding)
    tx = adaptive_multi_steps(optax.sgd(0.1, momentum=0.9), fixed(2), max_mini_steps=2)
    state = tx.init(params)
    assert state.acc_grads.sharding == sharding
    update = jax.jit(tx.update)
    for _ in range(2):
        updates, state = update(params, state, params, num_valid=8, num_active=8)
        trace = state.inner_state[0].trace
        for array in (updates, state.acc_grads, trace):
            assert array.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_allclose(updates, np.full((8, 4), -0.1), rtol=1e-6)


def test_windows_are_equal_on_all_devices_of_shard_map():
    mesh = Mesh(np.array(jax.devices()), ("data",))
    tx = adaptive_multi_steps(optax.sgd(1.0), active_count_window(20), max_mini_steps=4)

    def step(state, grads, num_valid, num_active):
        valid = jax.lax.psum(num_valid.sum(), "data")
        share = num_valid.sum().astype(jnp.float32) / valid.astype(jnp.float32)
        grads = jax.lax.psum(grads.sum() * share, "data")
        active = jax.lax.psum(num_active.sum(), "data")
        return tx.update(grads, state, num_valid=valid, num_active=active)

    sharded = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(P(), P("data"), P("data"), P("data")),
            out_specs=(P(), P()),
        )
    )
    state = tx.init(jnp.zeros([]))
    grads = jnp.arange(8, dtype=jnp.float32)
    num_valid = jnp.arange(1, 9)
    expected = -sum(g * (g + 1) for g in range(8)) / sum(range(1, 9))
    stepped = []
    for num_active in (jnp.arange(8) % 3, jnp.arange(8), jnp.arange(8)):  # 7, 28, 28
        updates, state = sharded(state, grads, num_valid, num_active)
        stepped.append(bool(has_updated(state)))
        for shard in state.mini_step.addressable_shards:
            assert int(shard.data) == int(state.mini_step)
    assert stepped == [False, True, True]
    np.testing.assert_allclose(updates, expected, rtol=1e-6)


def test_parameters_sharded_under_shard_map():
    mesh = Mesh(np.array(jax.devices()), ("model",))
    tx = sgd(2)
    params = jnp.arange(16, dtype=jnp.float32)

    def two_steps(grads):
        state = tx.init(grads)
        for _ in range(2):
            updates, state = tx.update(grads, state, num_valid=8, num_active=8)
        return updates

    updates = jax.jit(
        jax.shard_map(two_steps, mesh=mesh, in_specs=P("model"), out_specs=P("model"))
    )(params)
    np.testing.assert_array_equal(updates, -params)


def test_pmap():
    tx = sgd(2)

    def step(state, grads):
        grads = jax.lax.pmean(grads, "data")
        num_valid = jax.lax.psum(jnp.int32(4), "data")
        return tx.update(grads, state, num_valid=num_valid, num_active=num_valid)

    step = jax.pmap(step, axis_name="data")
    state = jax.pmap(tx.init)(jnp.zeros((8, 1)))
    grads = jnp.arange(8, dtype=jnp.float32)[:, None]
    for expected in (0.0, -sum(range(8)) / 8):
        updates, state = step(state, grads)
        np.testing.assert_array_equal(updates, np.full((8, 1), expected))
    np.testing.assert_array_equal(state.gradient_step, np.ones(8))


def test_vmap():
    tx = sgd(2)
    state = jax.vmap(tx.init)(jnp.zeros((3, 2)))
    grads = jnp.arange(6, dtype=jnp.float32).reshape(3, 2).at[1, 0].set(jnp.nan)

    def step(grads, state):
        return tx.update(grads, state, num_valid=8, num_active=8)

    for _ in range(2):
        updates, state = jax.vmap(step)(grads, state)
    np.testing.assert_array_equal(updates, [[-0.0, -1.0], [0.0, 0.0], [-4.0, -5.0]])
    np.testing.assert_array_equal(state.gradient_step, [1, 0, 1])


# Refusals.


@pytest.mark.parametrize("max_mini_steps", [0, -1, 2**31])
def test_refuses_max_mini_steps_out_of_range(max_mini_steps):
    with pytest.raises(ValueError, match=r"`max_mini_steps` must be .*; got"):
        adaptive_multi_steps(optax.sgd(1.0), fixed(1), max_mini_steps=max_mini_steps)


@pytest.mark.parametrize("max_mini_steps", [2.0, "4", None, True])
def test_refuses_what_is_no_max_mini_steps(max_mini_steps):
    with pytest.raises(TypeError, match="must be an integer of at least 1; got"):
        adaptive_multi_steps(optax.sgd(1.0), fixed(1), max_mini_steps=max_mini_steps)


@pytest.mark.parametrize("inner", [optax.sgd, 0.1, None])
def test_refuses_an_inner_that_is_no_transformation(inner):
    with pytest.raises(TypeError, match=r"`inner` must be an optax\.Gradient"):
        adaptive_multi_steps(inner, fixed(1), max_mini_steps=1)


def test_refuses_a_window_that_is_no_rule():
    with pytest.raises(TypeError, match=r"`window` must be a window rule.*got 4"):
        adaptive_multi_steps(optax.sgd(1.0), 4, max_mini_steps=4)


@pytest.mark.parametrize("missing", ["num_valid", "num_active"])
def test_refuses_a_missing_count(missing):
    counts = {"num_valid": 8, "num_active": 8}
    del counts[missing]
    tx = sgd(2)
    with pytest.raises(TypeError, match=f"needs `{missing}`.*nnx.Optimizer.update"):
        tx.update(vector(1.0), tx.init(vector(0.0)), **counts)


@pytest.mark.parametrize("count", [8.0, True, np.float32(8), np.array([8])])
def test_refuses_a_count_that_is_no_integer_scalar(count):
    tx = sgd(2)
    with pytest.raises(TypeError, match="`num_valid` must be an integer scalar"):
        tx.update(vector(1.0), tx.init(vector(0.0)), num_valid=count, num_active=8)


@pytest.mark.parametrize("number_of_states", [0, 2])
def test_has_updated_refuses_a_state_without_or_with_several(number_of_states):
    tx = optax.chain(optax.clip(1.0), *[sgd(1)] * number_of_states)
    with pytest.raises(TypeError, match=f"exactly one .* got {number_of_states}"):
        has_updated(tx.init(vector(0.0)))


# Counts that pass 2**31, and counts that cannot be.


@pytest.mark.parametrize("size", [2**28, 2**30, 2**31 - 1])
def test_counts_do_not_wrap_around(size):
    tx = sgd(6)
    grads = np.arange(1.0, 7.0, dtype=np.float32)
    update, state = jax.jit(tx.update), tx.init(vector(0.0))
    for i, grad in enumerate(grads):
        counts = {"num_valid": size, "num_active": size // 2}
        updates, state = update(vector(grad), state, **counts)
        assert state.num_valid == (0 if i == 5 else min((i + 1) * size, 2**31 - 1))
    assert state.gradient_step == 1
    np.testing.assert_allclose(updates, [-grads.mean()], rtol=1e-6)
    assert state.num_valid_excess == 0


@pytest.mark.parametrize("how", ["uint32", "int"])
def test_a_count_of_one_mini_batch_may_pass_int32(how):
    size = np.uint32(2**31 + 2**30) if how == "uint32" else 2**31 + 2**30
    tx = sgd(2)
    state = tx.init(vector(0.0))
    for grad, count in ((1.0, size), (5.0, 2**30)):
        updates, state = tx.update(
            vector(grad), state, num_valid=count, num_active=2**30
        )
    np.testing.assert_allclose(updates, [-(3 * 1.0 + 5.0) / 4], rtol=1e-6)


@pytest.mark.parametrize(
    ("num_valid", "num_active", "message"),
    [
        (-1, 0, "`num_valid` must be at least 0, a count; got -1"),
        (8, np.int64(-3), "`num_active` must be at least 0, a count; got -3"),
        (8, 9, r"`num_active` must be at most `num_valid`.*got 9 of 8"),
    ],
)
def test_counts_that_cannot_be_are_refused(num_valid, num_active, message):
    tx = sgd(2)
    with pytest.raises(ValueError, match=message):
        tx.update(
            vector(1.0),
            tx.init(vector(0.0)),
            num_valid=num_valid,
            num_active=num_active,
        )


def test_a_rule_may_follow_the_gradient_step():
    def doubling(counts):
        return jnp.minimum(2**counts.gradient_step, counts.max_mini_steps)

    tx = adaptive_multi_steps(optax.sgd(1.0), doubling, max_mini_steps=4)
    _, states = run(tx, vector(0.0), [(vector(1.0), 8, 8)] * 11)
    steps = [int(state.gradient_step) for state in states]
    assert steps == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4]


def test_inject_hyperparams_is_told_what_to_leave_alone():
    wrap = optax.inject_hyperparams(
        adaptive_multi_steps, static_args=("window", "max_mini_steps")
    )
    wrap(optax.sgd(1.0), active_count_window(4), max_mini_steps=2).init(vector(0.0))
    wrap = optax.inject_hyperparams(
        adaptive_multi_steps, static_args=("max_mini_steps",)
    )
    with pytest.raises(TypeError, match="takes the rule for a schedule"):
        wrap(optax.sgd(1.0), active_count_window(4), max_mini_steps=2).init(vector(0.0))


def test_debugging_modes_find_no_nan():
    tx = sgd(2)

    def step(grad, state):
        return tx.update(grad, state, num_valid=8, num_active=4)

    state = tx.init(vector(0.0))
    checked = jax.jit(checkify.checkify(step, errors=checkify.nan_checks))
    with jax.debug_nans(True):
        for _ in range(3):
            error, (_, state) = checked(vector(3e38), state)
            assert error.get() is None
