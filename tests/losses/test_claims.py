"""What the rows of the table claim: each claim holds exactly where a row makes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from battery import (
    CLASSES,
    EVERY_ROW,
    assert_close,
    classes_of,
    cotangents,
    depends_on_shape,
    draw,
    extras_of,
    first_class,
    multi_hot,
    num_labels,
    picked,
    plain,
    positives,
    rows_that,
    run,
    settled_rows,
)


def close(actual, expected):
    return all(
        np.allclose(a, e, rtol=2e-6, atol=2e-6)
        for a, e in zip(actual, expected, strict=True)
    )


def zero_with_one_class(row):
    logits, _ = draw(row)
    extras = classes_of(row, extras_of(row), lambda array: array[..., :1])
    result = plain(row, logits[:, :1], first_class(row, classes=1), **extras)
    return all((part == 0).all() for part in result)


def infinite_at_probability_0(row):
    logits, target = draw(row)
    gone = picked(2, 6)
    label = positives(row, target) & gone[:, None]
    logits = jnp.where(label, -jnp.inf, logits).at[6].set(-jnp.inf)
    loss, gradient = run(row, logits, target)
    # The label must be pulled up all the same.
    return bool((loss[gone] == jnp.inf).all() and (gradient[2][label[2]] < 0).all())


def not_negative(row):
    drawn = (run(row, *draw(row, seed=seed))[0] for seed in range(5))
    return all((loss >= 0).all() for loss in drawn)


def shift_invariant(row):
    logits, target = draw(row)
    # A shift by a power of two, and logits that it does not round.
    logits = jnp.round(logits * 64) / 64
    loss, gradient = run(row, logits, target)
    scale = jnp.max(jnp.abs(gradient), axis=-1)
    total = jnp.abs(jnp.sum(gradient, axis=-1))
    sums_to_0 = (total <= 4e-7 * CLASSES * scale).all()
    return bool(sums_to_0) and close(run(row, logits + 256, target), (loss, gradient))


def symmetric(row):
    logits, target = draw(row)
    loss, gradient = run(row, logits, target)
    order = np.random.default_rng(2).permutation(CLASSES)
    moved = target[:, order] if multi_hot(row) else jnp.argsort(order)[target]
    extras = classes_of(row, extras_of(row), lambda array: array[..., order])
    result = run(row, logits[:, order], moved, extras=extras)
    return close(result, (loss, gradient[:, order]))


# Drawn so that most labels lead: what only such a batch decides counts, too.
LEADING = 3


def row_local(row):
    logits, target = draw(row, seed=LEADING)
    others, other_targets = draw(row, seed=1)
    loss, gradient = run(row, logits, target)
    logits = logits.at[4:].set(others[4:])
    result = run(row, logits, target.at[4:].set(other_targets[4:]))
    return close((result[0][:4], result[1][:4]), (loss[:4], gradient[:4]))


def ranks_equal_logits(row):
    logits, target = draw(row)
    _, gradient = run(row, jnp.zeros_like(logits), target)
    up = positives(row, target)
    return bool((gradient[up] < 0).all() and (gradient[~up] > 0).all())


def linear_growth(row):
    logits, target = draw(row, scale=1e30)
    return bool(jnp.isfinite(run(row, logits, target)[0]).all())


def exact_gradient(row):
    with jax.enable_x64(True):
        logits, target = draw(row, seed=LEADING, scale=1.0, dtype="float64")
        _, gradient = run(row, logits, target)
        along = np.random.default_rng(3).normal(size=logits.shape)
        step = 1e-6
        ahead, behind = (run(row, logits + s * along, target)[0] for s in (step, -step))
        slope = jnp.vdot(cotangents(logits), ahead - behind) / (2 * step)
        return np.allclose(slope, jnp.vdot(gradient, along), 1e-6, 1e-8)


def labels_settle(row):
    if row.settled is None:
        return True
    logits = jnp.where(positives(row, first_class(row)), 50.0, -50.0)
    return bool(settled_rows(row, logits, first_class(row)).all())


CLAIMS = {
    claim.__name__: claim
    for claim in (
        zero_with_one_class,
        infinite_at_probability_0,
        not_negative,
        shift_invariant,
        symmetric,
        row_local,
        ranks_equal_logits,
        linear_growth,
        exact_gradient,
        labels_settle,
    )
}


@pytest.mark.parametrize("claim", CLAIMS)
@rows_that(lambda _: True)
def test_a_claim_holds_exactly_where_a_row_makes_it(row, claim):
    assert CLAIMS[claim](row) == getattr(row, claim)


@pytest.mark.parametrize("claim", CLAIMS)
def test_each_claim_has_a_row_that_does_not_make_it(claim):
    assert not all(getattr(row, claim) for row in EVERY_ROW)


@rows_that(lambda row: row.at_zero_logits is not None and not depends_on_shape(row))
def test_the_loss_of_equal_logits_is_the_one_given(row):
    logits, _ = draw(row)
    loss, _ = run(row, jnp.zeros_like(logits), first_class(row))
    expected = jnp.full(loss.shape, row.at_zero_logits(num_labels(row)), loss.dtype)
    assert_close((loss,), (expected,), 1e-6, 1e-6)
