"""The optimizer: decay mask, schedule by examples seen, clipping, windows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.config import OptimizerConfig, TrainingConfig
from train.recipe.optimizer import (
    clip_by_global_norm,
    decay_mask,
    make_learning_rate,
    make_optimizer,
)

pytestmark = pytest.mark.standard_promotion(reason="optax's chains need it")

PARAMS = {
    "embed": {"embedding": jnp.full((3, 2), 2.0)},
    "blocks": {0: {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 2.0)}},
    "norm": {"scale": jnp.full((2,), 2.0), "bias": jnp.full((2,), 2.0)},
}


def config(**fields):
    plain = {
        "name": "sgd",
        "learning_rate": 0.5,
        "schedule": "constant",
        "warmup": 0.0,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "clip_norm": 0.0,
    }
    return OptimizerConfig(**plain | fields)


@pytest.fixture
def step(quick_jit):
    """Returns a function: one update from the initial state, and the state after."""

    def step(config, grads, training=None, **extra):
        rate = make_learning_rate(config, total_examples=100)
        tx = make_optimizer(config, training or TrainingConfig(), rate)
        counts = {"examples_seen": 0, "num_seen": 0, "num_valid": 8, "num_active": 8}
        extra = jax.tree.map(jnp.int32, counts) | extra

        def update(grads, extra):
            return tx.update(grads, tx.init(PARAMS), PARAMS, **extra)

        return quick_jit(update)(grads, extra)

    return step


def test_biases_and_norm_scales_do_not_decay():
    scaled = {"block": {"layer_scale": jnp.ones(2), "up": jnp.ones(2)}}
    assert decay_mask(scaled) == {"block": {"layer_scale": False, "up": True}}
    assert decay_mask(PARAMS) == {
        "embed": {"embedding": True},
        "blocks": {0: {"kernel": True, "bias": False}},
        "norm": {"scale": False, "bias": False},
    }


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_without_a_gradient_decay_alone_moves_parameters(name, step):
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    updates, _ = step(config(name=name, weight_decay=0.1), zeros)
    # Minus learning rate times decay times parameter.
    assert updates["blocks"][0]["kernel"].tolist() == pytest.approx(
        np.full((2, 2), -0.5 * 0.1 * 2.0)
    )
    assert (updates["blocks"][0]["bias"] == 0).all()
    assert (updates["norm"]["scale"] == 0).all()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"schedule": "constant"}, {0: 1, 50: 1, 100: 1}),
        ({"schedule": "linear"}, {0: 1, 50: 1 / 2, 75: 1 / 4, 100: 0}),
        ({"schedule": "cosine"}, {0: 1, 50: 1 / 2, 100: 0}),
        ({"schedule": "constant", "warmup": 0.2}, {0: 0, 10: 1 / 2, 20: 1, 99: 1}),
        ({"schedule": "linear", "warmup": 0.2}, {10: 1 / 2, 20: 1, 60: 1 / 2, 100: 0}),
        ({"schedule": "cosine", "warmup": 1.0}, {0: 0, 50: 1 / 2, 100: 1}),
    ],
)
def test_learning_rate_follows_examples_seen(fields, expected):
    rates = make_learning_rate(config(learning_rate=1.0, **fields), total_examples=100)
    for seen, rate in expected.items():
        count = jnp.int32(seen)
        assert float(rates.at(count, count)) == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "before", "after", "expected"),
    [
        # The rise counts the step's own batch: the first step is small, not nothing.
        ({"warmup": 0.2}, 0, 5, 5 / 20),
        ({"warmup": 0.2}, 15, 20, 1),
        # The decay counts what came before: the last step is small, not nothing.
        ({"warmup": 0.2}, 95, 100, 5 / 80),
        ({}, 0, 5, 1),
        # A batch that passes the end of the warm-up has the whole rate.
        ({"warmup": 0.2}, 18, 28, 1),
        # A run of one step.
        ({"warmup": 0.2}, 0, 100, 1),
        ({"warmup": 1.0}, 0, 100, 1),
        ({}, 0, 100, 1),
    ],
)
def test_no_step_has_a_rate_of_0(fields, before, after, expected):
    rates = make_learning_rate(
        config(learning_rate=1.0, schedule="linear", **fields), total_examples=100
    )
    rate = rates.at(jnp.int32(before), jnp.int32(after))
    assert float(rate) == pytest.approx(expected)


def test_updates_are_scaled_by_the_examples_seen(step):
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    for seen, rate in [(0, 0.5), (50, 0.25), (100, 0.0)]:
        updates, _ = step(
            config(schedule="linear"), ones, examples_seen=jnp.int32(seen)
        )
        assert updates["norm"]["bias"].tolist() == pytest.approx([-rate, -rate])


@pytest.mark.parametrize(
    ("num_rows", "expected"), [(8, 1.0), (4, 2**0.5), (2, 2.0), (1, 2.0), (0, 2.0)]
)
def test_a_batch_that_stands_for_more_has_a_larger_rate(num_rows, expected):
    rate = make_learning_rate(config(), total_examples=100)
    tx = make_optimizer(config(), TrainingConfig(), rate, rescale=True)
    updates, _ = tx.update(
        PARAMS, tx.init(PARAMS), PARAMS, examples_seen=0, num_seen=8, num_rows=num_rows
    )
    for update, param in zip(
        jax.tree.leaves(updates), jax.tree.leaves(PARAMS), strict=True
    ):
        np.testing.assert_allclose(update, -0.5 * expected * param, rtol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e3])
def test_clipping_is_optax_s_to_rounding(size):
    grads = jax.tree.map(lambda p: size * jnp.arange(1.0, p.size + 1), PARAMS)
    ours, theirs = clip_by_global_norm(1.0), optax.clip_by_global_norm(1.0)
    clipped, expected = (t.update(grads, t.init(PARAMS))[0] for t in (ours, theirs))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-7), clipped, expected
    )


def test_clipping_bounds_the_global_norm(step):
    grads = jax.tree.map(lambda p: 100.0 * jnp.ones_like(p), PARAMS)
    updates, _ = step(config(clip_norm=1.0, learning_rate=1.0), grads)
    assert float(optax.tree.norm(updates)) == pytest.approx(1.0, rel=1e-5)
    updates, _ = step(config(clip_norm=0.0, learning_rate=1.0), grads)
    assert float(optax.tree.norm(updates)) > 100.0


@pytest.mark.parametrize(
    "training",
    [
        TrainingConfig(window="settled_ratio", window_max_growth=3, max_mini_steps=4),
        TrainingConfig(window="active_count", window_target=4, max_mini_steps=4),
    ],
)
def test_a_window_holds_the_step_back_until_it_closes(training, step):
    ones = jax.tree.map(jnp.ones_like, PARAMS)
    # Two of eight are active: windows of four by ratio, and of two by count.
    counts = {"num_valid": 8, "num_active": 2}
    held, state = step(config(), ones, training, **counts)
    assert all((u == 0).all() for u in jax.tree.leaves(held))
    assert int(state.gradient_step) == 0
    flushed, state = step(config(), ones, training, **counts, flush=True)
    assert all((u == -0.5).all() for u in jax.tree.leaves(flushed))
    assert int(state.gradient_step) == 1
