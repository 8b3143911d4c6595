"""Losses that take a distribution over the classes in place of a label.

A row of `LOSSES` with `distributions` is held to this without a line here.
"""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import (
    ALL_CLASSES,
    CLASSES,
    EVERYONE,
    ROWS,
    assert_close,
    assert_rows_equal,
    cotangents,
    draw,
    extras_of,
    masked_program,
    picked,
    plain,
    reference,
    rows_that,
    run,
)
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

distribution_losses = rows_that(lambda row: row.distributions)
other_losses = rows_that(lambda row: row.target == "labels" and not row.distributions)


def draw_both(row, dtype="float32", scale=3.0):
    """Logits, and distributions of which some hold zeros and one is one-hot."""
    logits, _ = draw(row, dtype=dtype, scale=scale)
    probs = np.random.default_rng(5).exponential(size=(ROWS, CLASSES))
    probs[:3, ::2] = 0
    probs[0] = np.arange(CLASSES) == 4
    probs /= probs.sum(axis=-1, keepdims=True)
    return logits, jnp.asarray(probs.astype(dtype))


@distribution_losses
def test_one_hot_is_the_label(row):
    logits, labels = draw(row)
    onehot = jax.nn.one_hot(labels, CLASSES, dtype=jnp.float32)
    assert_close(run(row, logits, onehot), run(row, logits, labels))


@distribution_losses
def test_is_the_reference_in_float64(row):
    with jax.enable_x64(True):
        for scale in (0.1, 3.0, 30.0):
            args = draw_both(row, "float64", scale)
            assert_close(run(row, *args), reference(row, *args), 1e-11, 1e-11)


@distribution_losses
def test_gradients_are_finite_differences(row):
    with jax.enable_x64(True):
        logits, probs = draw_both(row, "float64", scale=1.0)
        _, gradient = run(row, logits, probs)
        along, step = np.random.default_rng(0).normal(size=logits.shape), 1e-6
        ahead, behind = (run(row, logits + s * along, probs)[0] for s in (step, -step))
        slope = cotangents(logits) * (ahead - behind) / (2 * step)
        np.testing.assert_allclose(slope, (gradient * along).sum(axis=-1), 1e-6, 1e-8)


@distribution_losses
def test_rows_left_out_may_hold_anything(row):
    logits, probs = draw_both(row)
    clean, out = run(row, logits, probs), picked(1, 4, 6)
    bad = probs.at[1].set(jnp.nan).at[4].set(-3.0).at[6].set(jnp.inf)
    loss, gradient = run(row, logits.at[6].set(jnp.nan), bad, ~out)
    np.testing.assert_array_equal(loss[out], 0)
    np.testing.assert_array_equal(gradient[out], 0)
    assert_rows_equal((loss, gradient), clean, ~out)


@distribution_losses
def test_what_is_no_distribution_makes_its_row_nan(row):
    logits, probs = draw_both(row)
    clean, bad = run(row, logits, probs), picked(1, 2, 4, 6, 7)
    wrong = probs.at[1, 0].set(jnp.nan).at[2].multiply(0.9).at[4].multiply(1.1)
    wrong = wrong.at[6, :2].set(jnp.array([-0.5, 0.5])).at[7].set(0.0)
    result = run(row, logits, wrong)
    assert all(jnp.isnan(part[bad]).all() for part in result)
    assert_rows_equal(result, clean, ~bad)
    # The sums of half precision miss 1 by more.
    half = run(row, logits, probs.astype(jnp.bfloat16))
    np.testing.assert_allclose(half[0], clean[0], rtol=0.03, atol=0.03)


@distribution_losses
def test_the_share_of_a_masked_class_is_left_out(row):
    logits, probs = draw_both(row)
    mask = ALL_CLASSES.at[:, 3].set(False)
    keep = np.delete(np.arange(CLASSES), 3)
    result = run(row, logits, probs, EVERYONE, mask)
    assert jnp.isfinite(result[0]).all()
    np.testing.assert_array_equal(result[1][:, 3], 0)
    anything = probs.at[:, 3].set(jnp.nan)
    spoiled = run(row, logits.at[:, 3].set(jnp.nan), anything, EVERYONE, mask)
    assert_rows_equal(spoiled, result, EVERYONE)
    # Where it has no share, it is as if it were not there.
    probs = probs.at[:, 3].set(0.0)
    probs /= probs.sum(axis=-1, keepdims=True)
    loss, gradient = run(row, logits, probs, EVERYONE, mask)
    expected = plain(row, logits[:, keep], probs[:, keep])
    assert_close((loss, gradient[:, keep]), expected)


@distribution_losses
def test_a_class_of_probability_0(row):
    logits, probs = draw_both(row)
    clean = run(row, logits, probs)
    gone = picked(5)
    result = run(row, logits.at[5, 1].set(-jnp.inf), probs)
    assert (result[0][5] == jnp.inf) == row.infinite_at_probability_0
    assert jnp.isfinite(result[1]).all()
    assert_rows_equal(result, clean, ~gone)
    # Without a share it is as if it were masked.
    absent = jnp.arange(CLASSES)[None] == 0
    logits, probs = logits[:3], probs[:3].at[0, 4].set(1.0)
    probs = jnp.where(absent, 0.0, probs) / jnp.where(absent, 0.0, probs).sum(
        -1, keepdims=True
    )
    minus_infinity = plain(row, jnp.where(absent, -jnp.inf, logits), probs, ones(3))
    masked = plain(row, logits, probs, ones(3), class_mask=~absent)
    assert_close(minus_infinity, masked)


def ones(rows):
    return jnp.ones(rows, jnp.float32)


@distribution_losses
def test_shapes(row):
    logits, probs = draw_both(row)
    expected = run(row, logits, probs)
    moved = plain(row, logits.T, probs.T, cotangents(logits), axis=0)
    assert_close(moved, (expected[0], expected[1].T))
    grid = plain(
        row,
        logits.reshape(ROWS, 3, 4),
        probs.reshape(ROWS, 3, 4),
        cotangents(logits),
        axis=(1, 2),
    )
    assert_close(grid, (expected[0], expected[1].reshape(ROWS, 3, 4)))
    f = jax.vmap(lambda o, q: row.function(o, q, **row.loss_keywords))
    assert_close((f(logits, probs),), expected[:1])


@distribution_losses
def test_half_precision_logits(row):
    logits, probs = draw_both(row)
    half = logits.astype(jnp.bfloat16)
    loss, gradient = run(row, half, probs)
    single = run(row, half.astype(jnp.float32), probs)
    assert (loss.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    assert_close((loss,), single[:1], 1e-6, 1e-6)


@distribution_losses
def test_compiles_without_a_collective(row):
    logits, probs = draw_both(row)
    args = (logits, probs, cotangents(logits), EVERYONE, ALL_CLASSES)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    args = jax.device_put(args, NamedSharding(mesh, P("data")))
    chex.clear_trace_counter()
    program = jax.jit(masked_program(row, "eager")).lower(*args, {}).compile()
    assert not re.findall(r"all-\w+|reduce-scatter|collective-\w+", program.as_text())
    assert_close(program(*args, {}), run(row, logits, probs))


@distribution_losses
def test_no_gradient_flows_to_the_distribution(row):
    logits, probs = draw_both(row)

    def total(q):
        return jnp.sum(row.function(logits, q, **row.loss_keywords))

    np.testing.assert_array_equal(jax.grad(total)(probs), 0)


@distribution_losses
def test_a_distribution_of_another_shape_is_refused(row):
    logits, probs = draw_both(row)
    message = r"`labels` must be integers, or a distribution .* \(8, 12\); got dtype"
    for wrong in (probs[:, :5], probs[0], probs[..., None]):
        with pytest.raises(TypeError, match=message):
            row.function(logits, wrong, **row.loss_keywords)


@other_losses
def test_other_losses_refuse_a_distribution(row):
    logits, _ = draw(row)
    probs = jax.nn.softmax(logits)
    keywords = dict(row.loss_keywords) | extras_of(row)
    with pytest.raises(TypeError, match="`labels` must be integers"):
        row.function(logits, probs, **keywords)
