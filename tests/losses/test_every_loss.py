"""One battery for every row of the table of losses.

A new row of `LOSSES` is held to all of this without a line here: the rules on input
(values and gradients, eager and traced), JAX's transformations, exact zeros, and
agreement with the row's reference. `test_claims` holds it to what its row claims.
"""

import functools
import inspect
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from battery import (
    ALL_CLASSES,
    CLASSES,
    EVERYONE,
    ROWS,
    assert_close,
    assert_rows_equal,
    classes_of,
    cotangents,
    depends_on_shape,
    draw,
    every_loss,
    extra_specs,
    extras_of,
    first_class,
    label_losses,
    labels_are_classes,
    largest_logit,
    masked_program,
    multi_hot,
    multi_hot_losses,
    num_labels,
    other_logits_of,
    picked,
    plain,
    positives,
    reference,
    refused_value,
    rows_of,
    rows_that,
    run,
    sampled,
    settled_rows,
    settling_target,
    shapeless_losses,
    takes_logits,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from oracle import assert_no_worse

from as_softmax_jax import heads, losses
from as_softmax_jax.losses import LOSSES

# Eager calls compile every operation again. `TestVariants` makes one of each loss.
eager_and_traced = pytest.mark.parametrize(
    "how", [pytest.param("eager", marks=pytest.mark.long), "jit"]
)
every_parameter = pytest.mark.parametrize(
    ("row", "keyword"),
    [
        pytest.param(of.values[0], keyword, id=f"{of.id}-{keyword}", marks=of.marks)
        for of in every_loss.args[1]
        for keyword, value in of.values[0].loss_keywords.items()
        if isinstance(value, float)
    ],
)
logit_losses = rows_that(lambda row: row.row_local and takes_logits(row))
differentiated_losses = rows_that(lambda row: row.row_local and row.exact_gradient)
settling_losses = rows_that(lambda row: row.exact_zeros)
table_rows = pytest.mark.parametrize("name", LOSSES)


@every_loss
@eager_and_traced
class TestInputRules:
    """The table of input rules, row by row."""

    def test_rows_left_out_may_hold_anything(self, row, how):
        logits, target = draw(row)
        clean = run(row, logits, target, how=how)
        logits = logits.at[0].set(jnp.nan).at[1, 2].set(jnp.inf).at[2].set(-jnp.inf)
        target = target.at[3].set(-100).at[4].set(77)
        out = picked(0, 1, 2, 3, 4)
        loss, gradient = run(row, logits, target, ~out, how=how)
        np.testing.assert_array_equal(loss[out], 0)
        np.testing.assert_array_equal(gradient[out], 0)
        assert_rows_equal((loss, gradient), clean, ~out)

    def test_what_a_masked_class_holds_does_not_matter(self, row, how):
        logits, target, mask, poisoned = masked_case(row)
        clean = run(row, logits, target, EVERYONE, mask, how=how)
        result = run(row, poisoned, target, EVERYONE, mask, how=how)
        assert_rows_equal(result, clean, EVERYONE)
        np.testing.assert_array_equal(result[1][:, MASKED], 0)

    def test_a_bad_target_makes_its_own_row_nan(self, row, how):
        logits, target = draw(row)
        clean = run(row, logits, target, how=how)
        bad = picked(1, 4, 6)
        if multi_hot(row):
            target = target.at[1, 0].set(2).at[4, 5].set(-1).at[6].set(77)
        else:
            above = num_labels(row)
            target = target.at[1].set(-1).at[4].set(above).at[6].set(2**31 - 1)
        result = run(row, logits, target, how=how)
        assert all(jnp.isnan(part[bad]).all() for part in result)
        assert_rows_equal(result, clean, ~bad)

    def test_a_nan_or_infinite_logit_makes_its_own_row_nan(self, row, how):
        logits, target = draw(row)
        clean = run(row, logits, target, how=how)
        bad = picked(0, 3, 5)
        logits = logits.at[0, 0].set(jnp.nan).at[3, 2].set(jnp.inf).at[5].set(jnp.nan)
        result = run(row, logits, target, how=how)
        assert all(jnp.isnan(part[bad]).all() for part in result)
        assert_rows_equal(result, clean, ~bad)

    def test_a_logit_of_minus_infinity_is_a_class_without_a_part(self, row, how):
        logits, target = draw(row)
        others = ~positives(row, target) & (jnp.arange(CLASSES)[None] % 3 == 0)
        extras = other_logits_of(
            row, extras_of(row), lambda array: jnp.where(others, -jnp.inf, array)
        )
        logits_without = jnp.where(others, -jnp.inf, logits)
        absent = run(row, logits_without, target, how=how, extras=extras)
        masked = run(row, logits, target, EVERYONE, ~others, how=how)
        assert_close(absent, masked)
        np.testing.assert_array_equal(absent[1][others], 0)

    def test_a_label_of_probability_0_spoils_no_gradient(self, row, how):
        logits, target = draw(row)
        clean = run(row, logits, target, how=how)
        gone = picked(2, 6)
        label = positives(row, target) & gone[:, None]
        logits = jnp.where(label, -jnp.inf, logits).at[6].set(-jnp.inf)
        result = run(row, logits, target, how=how)
        assert jnp.isfinite(result[1]).all()
        assert_rows_equal(result, clean, ~gone)


MASKED = [3, 7]


def masked_case(row):
    """Logits, targets that no masked class is in, the mask, and poisoned logits."""
    logits, target = draw(row)
    mask = ALL_CLASSES.at[:, MASKED].set(False)
    poisoned = logits.at[:, 3].set(jnp.nan).at[:, 7].set(jnp.inf)
    if multi_hot(row):
        target = target.at[:, 3].set(5).at[:, 7].set(1)
    else:
        target = jnp.where((target == 3) | (target == 7), 0, target)
    return logits, target, mask, poisoned


@functools.cache
def weighted_program(row, keyword=None):
    """f(logits, target, weights, where, value, along, extras) -> by the weighted sum.

    Returns its gradient, and the gradient of the gradient's part along a direction,
    backward over backward and forward over backward. `value` is that of `keyword`.
    """

    @jax.jit
    def f(logits, target, weights, where, value, along, extras):
        keywords = row.loss_keywords | extras
        if keyword is not None:
            keywords |= {keyword: value}

        def total(o):
            loss = row.function(o, target, where=where, **keywords)
            # As ported code has it: what has no weight is left out after the loss.
            return jnp.sum(jnp.where(weights == 0, 0, loss * weights))

        gradient = jax.grad(total)
        backward = jax.grad(lambda o: jnp.vdot(gradient(o), along))(logits)
        return gradient(logits), backward, jax.jvp(gradient, (logits,), (along,))[1]

    return f


ALONG = jnp.asarray(np.random.default_rng(9).normal(size=(ROWS, CLASSES)), jnp.float32)


def weighted(row, logits, target, weights, where=EVERYONE, keyword=None, value=None):
    """The derivatives of `weighted_program`, for keywords of the row but one."""
    value = jnp.zeros(ROWS) if value is None else value
    args = (logits, target, weights, where, value, ALONG, extras_of(row))
    return weighted_program(row, keyword)(*args)


def poisoned(row):
    """Clean logits and targets; the same with bad rows; and which are good."""
    logits, target = draw(row)
    bad = logits.at[0].set(jnp.nan).at[1, 2].set(jnp.inf).at[2].set(-jnp.inf)
    bad_target = target.at[3].set(-100).at[4].set(77)
    return (logits, target), (bad, bad_target), ~picked(0, 1, 2, 3, 4)


class TestDerivatives:
    """NaN in what has no part never reaches a derivative, in any order."""

    @sampled(every_loss)
    def test_rows_left_out_may_hold_anything(self, row):
        clean, bad, good = poisoned(row)
        expected = weighted(row, *clean, cotangents(clean[0]), good)
        for part, wanted in zip(
            weighted(row, *bad, cotangents(clean[0]), good), expected, strict=True
        ):
            np.testing.assert_array_equal(part, wanted)
            np.testing.assert_array_equal(part[~good], 0)
            assert jnp.isfinite(part).all()

    @sampled(every_loss)
    def test_rows_without_weight_may_hold_anything(self, row):
        clean, bad, good = poisoned(row)
        weights = jnp.where(good, cotangents(clean[0]), 0)
        expected = weighted(row, *clean, weights)
        for part, wanted in zip(weighted(row, *bad, weights), expected, strict=True):
            np.testing.assert_allclose(part[good], wanted[good], 1e-6, 1e-6)
            np.testing.assert_array_equal(part[~good], 0)

    @sampled(every_loss)
    def test_a_bad_row_with_a_weight_is_nan(self, row):
        _, bad, _ = poisoned(row)
        wrong = picked(0, 1, 3, 4)
        for weight in (1e-30, -2.0):
            gradient, *_ = weighted(row, *bad, jnp.full(ROWS, weight))
            assert jnp.isnan(gradient[wrong]).all()
            assert jnp.isfinite(gradient[~wrong]).all()

    @every_parameter
    @pytest.mark.parametrize("left_out", ["by where", "by weight"])
    def test_an_own_keyword_may_be_anything_there(self, row, keyword, left_out):
        logits, target = draw(row)
        good = ~picked(0, 1, 2)
        value = row.loss_keywords[keyword]
        values = jnp.full(ROWS, value)
        bad = values.at[0].set(jnp.nan).at[1].set(-jnp.inf).at[2].set(-5.0)
        weights, where = jnp.where(good, cotangents(logits), 0), EVERYONE
        if left_out == "by where":
            weights, where = cotangents(logits), good
        args = (logits, target, weights, where, keyword)
        expected = weighted(row, *args, values)
        for part, wanted in zip(weighted(row, *args, bad), expected, strict=True):
            np.testing.assert_array_equal(part[good], wanted[good])
            np.testing.assert_array_equal(part[~good], 0)

    @sampled(every_loss)
    def test_masked_classes_may_hold_anything(self, row):
        logits, target, mask, bad = masked_case(row)

        @jax.jit
        def derivatives(logits):
            def total(o):
                keywords = row.loss_keywords | extras_of(row) | {"class_mask": mask}
                return jnp.sum(row.function(o, target, **keywords))

            gradient = jax.grad(total)
            backward = jax.grad(lambda o: jnp.vdot(gradient(o), ALONG))
            return backward(logits), jax.jvp(gradient, (logits,), (ALONG,))[1]

        for part, wanted in zip(derivatives(bad), derivatives(logits), strict=True):
            np.testing.assert_array_equal(part, wanted)
            assert jnp.isfinite(part).all()

    @sampled(differentiated_losses)
    def test_second_derivatives_are_differences_of_first_ones(self, row):
        with jax.enable_x64(True):
            logits, target = draw(row, scale=1.0, dtype="float64")
            weights, along = cotangents(logits), ALONG.astype(jnp.float64)

            @jax.jit
            def gradient(o):
                keywords = row.loss_keywords | extras_of(row)
                loss, vjp = jax.vjp(lambda o: row.function(o, target, **keywords), o)
                return vjp(weights.astype(loss.dtype))[0]

            exact = jax.jvp(gradient, (logits,), (along,))[1]
            step = 1e-6
            ahead, behind = (
                gradient(logits + step * along),
                gradient(logits - step * along),
            )
            np.testing.assert_allclose(
                exact, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7
            )


class TestMaskedClasses:
    @rows_that(
        lambda row: row.row_local and row.symmetric and not depends_on_shape(row)
    )
    @eager_and_traced
    def test_a_masked_class_is_as_if_it_were_not_there(self, row, how):
        logits, target, mask, poisoned = masked_case(row)
        keep = np.setdiff1d(np.arange(CLASSES), MASKED)
        if multi_hot(row):
            fewer = target[:, keep]
        else:
            fewer = target - sum((target > i).astype(jnp.int32) for i in MASKED)
        loss, gradient = run(row, poisoned, target, EVERYONE, mask, how=how)
        extras = classes_of(row, extras_of(row), lambda array: array[..., keep])
        expected = plain(row, logits[:, keep], fewer, **extras)
        assert_close((loss, gradient[:, keep]), expected)

    @rows_that(lambda row: row.row_local and labels_are_classes(row))
    @eager_and_traced
    def test_a_label_is_valid_whatever_the_mask_says(self, row, how):
        logits, target = draw(row)
        mask = ALL_CLASSES.at[:, ::2].set(False)
        with_label = mask | positives(row, target)
        masked = run(row, logits, target, EVERYONE, mask, how=how)
        expected = run(row, logits, target, EVERYONE, with_label, how=how)
        assert_rows_equal(masked, expected, EVERYONE)
        assert jnp.isfinite(masked[0]).all()


class TestDtypes:
    @sampled(every_loss)
    @pytest.mark.parametrize(
        ("how", "dtype"),
        # Of eager calls, which are slow, one of the two is enough.
        [("eager", jnp.bfloat16), ("jit", jnp.bfloat16), ("jit", jnp.float16)],
    )
    def test_half_precision_computes_in_float32(self, row, how, dtype):
        logits, target = draw(row)
        half = logits.astype(dtype)
        loss, gradient = run(row, half, target, how=how)
        single = run(row, half.astype(jnp.float32), target, how=how)
        assert (loss.dtype, gradient.dtype) == (jnp.float32, dtype)
        assert_close((loss,), single[:1], 1e-6, 1e-6)
        exact = np.asarray(single[1])
        ulp = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(gradient.astype(jnp.float32), exact, ulp, 1e-6)

    @every_loss
    def test_float64_stays_float64(self, row):
        with jax.enable_x64(True):
            result = run(row, *draw(row, dtype="float64"))
        assert all(part.dtype == jnp.float64 for part in result)
        for part, single in zip(result, run(row, *draw(row)), strict=True):
            np.testing.assert_allclose(part, single, rtol=1e-4, atol=1e-4)


class TestParameters:
    """The losses' own keywords."""

    @every_parameter
    def test_out_of_range_is_refused_when_known(self, row, keyword):
        keywords = row.loss_keywords | extras_of(row)
        f = functools.partial(row.function, **keywords)
        refused = functools.partial(refuses, f)
        args = draw(row)
        value = refused_value(row, keyword)
        message = rf"`{keyword}` must be .*; got {value}\."
        refused(ValueError, message, *args, **{keyword: value})
        message = f"`{keyword}` must be a real number"
        refused(TypeError, message, *args, **{keyword: True})
        message = f"`{keyword}` must broadcast to the shape of the loss"
        wrong = np.full(3, row.loss_keywords[keyword], np.float32)
        refused(ValueError, message, *args, **{keyword: wrong})

    @every_parameter
    def test_out_of_range_makes_its_row_nan_when_traced(self, row, keyword):
        logits, target = draw(row)
        value = row.loss_keywords[keyword]
        refused = refused_value(row, keyword)
        values = jnp.full(ROWS, value).at[1].set(refused).at[4].set(jnp.nan)
        result = plain(row, logits, target, **{keyword: values})
        bad = picked(1, 4)
        assert all(jnp.isnan(part[bad]).all() for part in result)
        clean = run(row, logits, target)
        for part, expected in zip(result, clean, strict=True):
            np.testing.assert_allclose(part[~bad], expected[~bad], 2e-6, 2e-6)

    @every_parameter
    def test_may_differ_by_row(self, row, keyword):
        logits, target = draw(row)
        value = row.loss_keywords[keyword]
        # Of one that is infinite by default any numbers.
        value = value if np.isfinite(value) else 1.0
        values = jnp.linspace(value, 1.25 * value, ROWS, dtype=jnp.float32)
        result = plain(row, logits, target, **{keyword: values})
        for i in (0, 3, ROWS - 1):
            same = jnp.full(ROWS, values[i])
            expected = plain(row, logits, target, **{keyword: same})
            assert_rows_equal(result, expected, i)


class TestTargets:
    @sampled(label_losses)
    def test_labels_of_every_integer_width_mean_the_same(self, row):
        logits, _ = draw(row, classes=1000)
        labels = np.array([0, 1, 2, 5, 50, 100, 126, 127])

        def result(typed):
            classes = jnp.ones(1000, bool)
            return run(row, logits, typed, class_mask=classes, how="eager")

        expected = result(jnp.asarray(labels.astype(np.int32)))
        for dtype in ("int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"):
            typed = labels.astype(dtype)
            if typed.dtype.itemsize < 8:
                typed = jnp.asarray(typed)
            assert_rows_equal(result(typed), expected, EVERYONE)

    @sampled(label_losses)
    @pytest.mark.parametrize("dtype", [np.int64, np.uint64])
    def test_wide_labels_do_not_wrap_around(self, row, dtype):
        logits, _ = draw(row)
        labels = np.zeros(ROWS, dtype)
        labels[[1, 2]] = 2**32 + 1, np.iinfo(dtype).max - 2**32 + 2
        loss, gradient = run(row, logits, labels, how="eager")
        bad = picked(1, 2)
        assert jnp.isnan(loss[bad]).all()
        assert jnp.isnan(gradient[bad]).all()
        assert jnp.isfinite(loss[~bad]).all()
        one = rows_of(row, extras_of(row), lambda array: array[1])
        loss = row.function(logits[1], labels[1], **row.loss_keywords, **one)
        assert jnp.isnan(loss)

    @multi_hot_losses
    def test_multi_hot_targets_of_every_dtype_mean_the_same(self, row):
        logits, target = draw(row)
        expected = run(row, logits, target, how="eager")
        for dtype in (bool, jnp.uint8, jnp.bfloat16, jnp.float32):
            result = run(row, logits, target.astype(dtype), how="eager")
            assert_rows_equal(result, expected, EVERYONE)
        fractional = target.astype(jnp.float32).at[2, 3].set(0.5)
        assert jnp.isnan(run(row, logits, fractional, how="eager")[0][2])


class TestShapes:
    @sampled(shapeless_losses)
    @pytest.mark.parametrize("axis", [0, 1])
    def test_the_class_axis_may_be_any(self, row, axis):
        logits, target = draw(row)
        where = jnp.arange(4) != 2
        mask = jnp.arange(CLASSES) != 4
        wheres, masks = jnp.tile(where, 2), jnp.tile(mask, (ROWS, 1))
        loss, gradient = run(row, logits, target, wheres, masks)

        def arrange(x, classes=True):
            x = x.reshape(2, 4, *x.shape[1:]) if x.shape[0] == ROWS else x
            return jnp.moveaxis(x, -1, axis) if classes else x

        extras = rows_of(
            row, extras_of(row), lambda array: arrange(array, array.ndim == 2)
        )
        result = plain(
            row,
            arrange(logits),
            arrange(target, multi_hot(row)),
            arrange(cotangents(logits), False),
            where=where,
            class_mask=arrange(mask[None, None]) if axis else arrange(masks),
            axis=axis,
            **extras,
        )
        assert_close(result, (arrange(loss, False), arrange(gradient)))

    @sampled(shapeless_losses)
    @pytest.mark.parametrize("axis", [(1, 2), (0, -1), (2, 0)])
    def test_several_class_axes_count_as_one(self, row, axis):
        logits, target = draw(row)
        mask = jnp.tile(jnp.arange(CLASSES) != 4, (ROWS, 1))
        loss, gradient = run(row, logits, target, None, mask)

        def arrange(x):
            x = x.reshape(ROWS, 2, CLASSES // 2)
            return jnp.moveaxis(x, (-2, -1), axis)

        result = plain(
            row,
            arrange(logits),
            arrange(target) if multi_hot(row) else target,
            cotangents(logits),
            class_mask=arrange(mask),
            axis=axis,
            **rows_of(
                row,
                extras_of(row),
                lambda array: arrange(array) if array.ndim == 2 else array,
            ),
        )
        assert_close(result, (loss, arrange(gradient)))

    @shapeless_losses
    def test_a_class_mask_along_another_axis_is_refused(self, row):
        logits = jnp.zeros((2, CLASSES, CLASSES))
        shape = logits.shape if multi_hot(row) else (2, CLASSES)
        keywords = row.loss_keywords | {"axis": 1}
        if row.extras:
            return
        mask = jnp.arange(CLASSES) != 3
        f = functools.partial(row.function, **keywords)
        message = r"`class_mask\[:, None\]`"
        refuses(f, ValueError, message, logits, jnp.zeros(shape, int), class_mask=mask)
        f(logits, jnp.zeros(shape, int), class_mask=mask[:, None])

    @sampled(shapeless_losses)
    def test_one_example_and_no_example(self, row):
        logits, target = draw(row)
        loss, gradient = run(row, logits, target)
        extras = rows_of(row, extras_of(row), lambda array: array[0])
        one = plain(row, logits[0], target[0], cotangents(logits)[0], **extras)
        assert_close(one, (loss[0], gradient[0]))
        extras = rows_of(row, extras_of(row), lambda array: array[:0])
        none = logits[:0], target[:0], cotangents(logits)[:0]
        loss, gradient = plain(row, *none, **extras)
        assert (loss.shape, gradient.shape) == ((0,), (0, CLASSES))

    @every_loss
    def test_wrong_input_is_refused(self, row):
        logits, target = draw(row)
        f = functools.partial(row.function, **row.loss_keywords, **extras_of(row))
        refused = functools.partial(refuses, f)
        noun = "targets" if multi_hot(row) else "labels"
        integers = logits.astype(jnp.int32)
        message = "`logits` must be floating point; got dtype int32"
        refused(TypeError, message, integers, target)
        refused(TypeError, "`logits` must be an array; got None", None, target)
        refused(ValueError, f"`{noun}` must", logits, target[:3])
        scalar = target[0, 0] if multi_hot(row) else target[0]
        refused(ValueError, "must have a class axis", jnp.float32(1), scalar)
        none = target[:, :0] if multi_hot(row) else target
        refused(ValueError, "at least one class", logits[:, :0], none)
        if not multi_hot(row):
            message = "`labels` must be integers"
            refused(TypeError, message, logits, target.astype(jnp.float32))
            refused(TypeError, message, logits, target > 0)

    @every_loss
    @pytest.mark.parametrize(
        ("error", "message", "keywords"),
        [
            (ValueError, r"`axis` must be in \[-2, 2\)", {"axis": 2}),
            (TypeError, "`axis` must be an integer", {"axis": 1.0}),
            (TypeError, "`where` must be boolean", {"where": np.ones(ROWS)}),
            (ValueError, "`where` must broadcast", {"where": np.ones(3, bool)}),
            (
                TypeError,
                "`class_mask` must be boolean",
                {"class_mask": np.ones(CLASSES)},
            ),
            (ValueError, "`class_mask` must broadc", {"class_mask": np.ones(5, bool)}),
        ],
    )
    def test_a_wrong_keyword_is_refused(self, row, error, message, keywords):
        f = functools.partial(row.function, **row.loss_keywords, **extras_of(row))
        refuses(f, error, message, *draw(row), **keywords)


def refuses(f, error, message, *args, **keywords):
    """Refused eagerly and, where it can be traced, while tracing."""
    with pytest.raises(error, match=message):
        f(*args, **keywords)
    if all(isinstance(argument, jax.Array) for argument in args):
        with pytest.raises(error, match=message):
            jax.eval_shape(lambda *a: f(*a, **keywords), *args)


def is_the_same_in_each_variant(test, row):
    logits, target = draw(row)
    extras = extras_of(row)

    @test.variant
    def f(logits, target, cotangent):
        loss, vjp = jax.vjp(
            lambda o: row.function(o, target, **row.loss_keywords, **extras), logits
        )
        return loss, vjp(cotangent)[0]

    result = f(logits, target, cotangents(logits))
    assert_close(result, run(row, logits, target))


def named(*, long):
    """The rows of every loss that are, or are not, for long tests alone."""
    rows = [of for of in every_loss.args[1] if bool(of.marks) == long]
    return parameterized.named_parameters(*((of.id, of.values[0]) for of in rows))


class TestVariants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    @named(long=False)
    def test_runs_eager_compiled_and_under_pmap(self, row):
        is_the_same_in_each_variant(self, row)


@pytest.mark.long
@pytest.mark.every
class TestVariantsOfTheRest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    @named(long=True)
    def test_runs_eager_compiled_and_under_pmap(self, row):
        is_the_same_in_each_variant(self, row)


def mesh_of_8():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


class TestTransformations:
    @sampled(shapeless_losses)
    def test_scan_of_vmap_of_checkpoint(self, row):
        logits, target = draw(row)
        extras = extras_of(row)
        by_row = {k: v for k, v in extras.items() if extra_specs(row)[k] == P("data")}
        shared = {k: v for k, v in extras.items() if k not in by_row}
        one = jax.checkpoint(
            lambda o, t, own: row.function(o, t, **row.loss_keywords, **own, **shared)
        )

        def gradient_of_one(o, t, cotangent, own):
            loss, vjp = jax.vjp(lambda o: one(o, t, own), o)
            return loss, vjp(cotangent)[0]

        def step(carry, args):
            return carry, jax.vmap(gradient_of_one)(*args)

        args = (logits, target, cotangents(logits), by_row)
        args = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), args)
        result = jax.lax.scan(step, 0, args)[1]
        result = jax.tree.map(lambda x: x.reshape(ROWS, *x.shape[2:]), result)
        assert_close(result, run(row, logits, target))

    @sampled(shapeless_losses)
    def test_shard_map(self, row):
        logits, target = draw(row)
        sharded = jax.shard_map(
            masked_program(row, "eager"),
            mesh=mesh_of_8(),
            in_specs=(*[P("data")] * 5, extra_specs(row)),
            out_specs=P("data"),
        )
        args = (logits, target, cotangents(logits), EVERYONE, ALL_CLASSES)
        result = jax.jit(sharded)(*args, extras_of(row))
        assert_close(result, run(row, logits, target))

    @sampled(every_loss)
    def test_compiles_once_and_without_a_collective(self, row):
        logits, target = draw(row)
        args = (logits, target, cotangents(logits), EVERYONE, ALL_CLASSES)
        mesh = mesh_of_8()
        args = jax.device_put(args, NamedSharding(mesh, P("data")))
        specs = extra_specs(row)
        extras = {
            keyword: jax.device_put(value, NamedSharding(mesh, specs[keyword]))
            for keyword, value in extras_of(row).items()
        }
        chex.clear_trace_counter()
        f = jax.jit(chex.assert_max_traces(masked_program(row, "eager"), 1))
        f.lower(*args, extras)
        program = f.lower(*args, extras).compile()
        found = re.findall(
            r"all-gather|all-reduce|all-to-all|reduce-scatter|collective-\w+",
            program.as_text(),
        )
        assert not found
        assert_close(program(*args, extras), run(row, logits, target))


class TestMathematics:
    @sampled(differentiated_losses)
    def test_gradients_are_finite_differences(self, row):
        with jax.enable_x64(True):
            logits, target = draw(row, scale=1.0, dtype="float64")
            _, gradient = run(row, logits, target)
            step = 1e-6
            for seed in range(3):
                along = np.random.default_rng(seed).normal(size=logits.shape)
                ahead, _ = run(row, logits + step * along, target)
                behind, _ = run(row, logits - step * along, target)
                slope = cotangents(logits) * (ahead - behind) / (2 * step)
                expected = (gradient * along).sum(axis=-1)
                np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)

    @sampled(every_loss)
    @pytest.mark.parametrize(
        "classes",
        [CLASSES, *(pytest.param(c, marks=pytest.mark.long) for c in (2, 999))],
    )
    def test_is_no_worse_than_its_reference(self, row, classes):
        mask = jnp.ones(classes, bool)
        for seed in range(12):
            logits, target = draw(
                row, seed=seed, classes=classes, scale=(0.1, 3.0, 30.0)[seed % 3]
            )
            fast = run(row, logits, target, class_mask=mask)
            naive = reference(row, logits, target)
            with jax.enable_x64(True):
                truth = reference(row, logits.astype(jnp.float64), target)
            slack = 8 * row.loss_keywords.get("scale", 1.0) * np.finfo("f4").eps
            for a, n, t in zip(fast, naive, truth, strict=True):
                assert_no_worse(a, n, t, slack=slack)

    @sampled(every_loss)
    def test_float64_equals_its_reference(self, row):
        with jax.enable_x64(True):
            for seed in range(12):
                scale = (0.1, 3.0, 30.0)[seed % 3]
                args = draw(row, seed=seed, scale=scale, dtype="float64")
                expected = reference(row, *args)
                assert_close(run(row, *args), expected, 1e-11, 1e-11)

    @logit_losses
    def test_huge_logits(self, row):
        small, _ = draw(row, seed=5)
        target = first_class(row)
        logits = np.array(small)
        logits[0, :2] = 1e4, -1e4
        logits[1, :2] = -1e4, 1e4
        largest = largest_logit(row)
        logits[2, :2] = largest, 0.0
        logits[3, :2] = -largest, 0.0
        logits[4, :] = 1e4
        logits[5, 3] = -largest
        logits[6, 0] = largest
        logits[7, :] = -1e4
        result = run(row, jnp.asarray(logits), target)
        with jax.enable_x64(True):
            truth = run(row, jnp.asarray(logits, jnp.float64), target)
            truth = tuple(map(np.asarray, truth))
        for part, expected in zip(result, truth, strict=True):
            # Infinite where the truth is beyond float32, and nowhere else.
            with np.errstate(over="ignore"):
                expected = expected.astype(np.float32)
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)

    @logit_losses
    def test_opposite_ends_of_float32_give_no_nan(self, row):
        largest = largest_logit(row)
        ends = np.full((ROWS, CLASSES), -largest, np.float32)
        ends[:4, 0] = largest
        ends[4:, 1] = largest
        loss, gradient = run(row, jnp.asarray(ends), first_class(row))
        assert not jnp.isnan(loss).any()
        assert jnp.isfinite(gradient).all()
        # Where squares are added, what differs can be less than their rounding.
        right, wrong = loss[:4], loss[4:]
        assert ((right < wrong) | (right == wrong) & (not row.linear_growth)).all()


class TestExactZeros:
    @every_loss
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
    def test_settled_is_exactly_where_nothing_is_learnt(self, row, dtype):
        where = ~picked(0)
        won = picked(1, 3, 5, 7)[:, None]
        num_settled = 0
        with jax.enable_x64(dtype == "float64"):
            for seed in range(32):
                logits, target = draw(row, seed=seed, scale=8.0)
                target = settling_target(row, target, won[:, 0])
                ahead, behind = (20.0, -3.0) if takes_logits(row) else (1.0, 0.0)
                right = jnp.where(
                    positives(row, target), ahead, jnp.minimum(logits, behind)
                )
                logits = jnp.where(won, right, logits)
                logits = logits.astype(dtype)
                settled = settled_rows(row, logits, target, where)
                loss, gradient = run(row, logits, target)
                nothing = (gradient == 0).all(axis=-1)
                assert (loss[settled & where] == 0).all()
                np.testing.assert_array_equal(settled[where], nothing[where])
                assert settled[0] == row.exact_zeros
                num_settled += int(settled[where].sum())
        assert (num_settled > 50) == row.exact_zeros
        assert num_settled < 200

    @settling_losses
    def test_a_row_of_nan_loss_is_not_settled(self, row):
        _, target = draw(row)
        if multi_hot(row):  # p sums to 1: with many labels none is far ahead
            target = settling_target(row, first_class(row), EVERYONE)
        logits = jnp.where(positives(row, target), 50.0, -50.0)
        assert settled_rows(row, logits, target).all()
        logits = logits.at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf)
        target = target.at[2].set(-1)
        settled = settled_rows(row, logits, target)
        np.testing.assert_array_equal(settled, ~picked(0, 1, 2))


INTERESTING = (0.0, 1.0, -1.0, 0.5, 2.0, 1e4, -1e4, 3e38, -3e38, 1e-30, -np.inf)
DRAWN = (3, 5)  # rows and classes that hypothesis chooses; the rest are masked


@st.composite
def inputs(draw_value, row):
    """Logits with ties and extremes, targets good and bad, and masks."""
    num_rows, num_classes = DRAWN
    if not takes_logits(row):
        number = st.floats(-1, 1, width=32) | st.just(-np.inf)
    else:
        number = st.floats(-30, 30, width=32) | st.sampled_from(INTERESTING)
    if draw_value(st.booleans()):
        number |= st.sampled_from((np.nan, np.inf))

    def array(element):
        flat = st.lists(element, min_size=15, max_size=15)
        return np.reshape(draw_value(flat), DRAWN)

    logits = np.zeros((ROWS, CLASSES), np.float32)
    logits[:num_rows, :num_classes] = array(number)
    mask = np.zeros(logits.shape, bool)
    mask[:num_rows, :num_classes] = array(st.booleans())
    if multi_hot(row):
        target = np.zeros(logits.shape, np.int32)
        target[:num_rows, :num_classes] = array(st.booleans())
    else:
        target = np.zeros(ROWS, np.int32)
        some = st.integers(-1, num_classes - 1) | st.just(num_labels(row))
        target[:num_rows] = draw_value(st.tuples(*[some] * num_rows))
    where = np.zeros(ROWS, bool)
    where[:num_rows] = draw_value(st.tuples(*[st.booleans()] * num_rows))
    return logits, target, where, mask


def check_invariants(row, logits, target, where, mask):
    """What holds for any input at all."""
    args = tuple(map(jnp.asarray, (logits, target, where, mask)))
    loss, gradient = map(np.asarray, run(row, *args))
    settled = np.asarray(settled_rows(row, *args))
    valid, wrong = mask, np.zeros(ROWS, bool)
    if not multi_hot(row):
        wrong = (target < 0) | (target >= num_labels(row))
    if labels_are_classes(row):
        valid = mask | (np.arange(CLASSES) == target[:, None])
    seen = np.where(valid, logits, 0)
    bad = where & (wrong | (np.isnan(seen) | (seen == np.inf)).any(-1))
    np.testing.assert_array_equal(np.isnan(loss), bad)
    np.testing.assert_array_equal(np.isnan(gradient).any(-1), bad & valid.any(-1))
    assert not row.not_negative or (loss[~bad] >= 0).all()
    assert np.isfinite(gradient[~bad]).all()
    assert (loss[~where] == 0).all()
    assert (gradient[~where] == 0).all()
    assert (gradient[~bad][~valid[~bad]] == 0).all()
    assert not (settled & bad).any()
    assert (loss[settled] == 0).all()
    assert (gradient[settled] == 0).all()


@sampled(every_loss)
def test_invariants_on_any_input(row):
    check = given(inputs(row))(lambda drawn: check_invariants(row, *drawn))
    settings(max_examples=50, derandomize=True, deadline=None, database=None)(check)()


@pytest.mark.long
@every_loss
def test_invariants_on_any_input_for_long(row):
    check = given(inputs(row))(lambda drawn: check_invariants(row, *drawn))
    settings(max_examples=1500, deadline=None, database=None)(check)()


class TestTable:
    @table_rows
    def test_a_row_stands_on_a_function_of_the_grammar(self, name):
        row = LOSSES[name]
        assert row.name == name
        assert row.function is getattr(losses, f"{name}_loss")
        assert row.reference.__name__ == row.function.__name__
        first, second, *rest = inspect.signature(row.function).parameters.values()
        assert first.name == "logits"
        assert second.name == ("targets" if multi_hot(row) else "labels")
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in rest)
        assert {"where", "class_mask", "axis"} <= {p.name for p in rest}

    @table_rows
    def test_what_a_row_names_is_in_the_table(self, name):
        row = LOSSES[name]
        assert LOSSES[row.baseline].target == row.target
        assert row.multi_label is None or multi_hot(LOSSES[row.multi_label])

    @settling_losses
    def test_settled_takes_what_the_loss_takes(self, row):
        accepted = inspect.signature(row.settled).parameters
        assert {*row.loss_keywords, "where", "class_mask", "axis"} <= set(accepted)

    @rows_that(lambda row: row.softmax_at)
    def test_at_one_value_a_loss_is_its_baseline(self, row):
        logits, target = draw(row)
        values = {
            k: jnp.full(ROWS, v)
            for k, v in row.softmax_at.items()
            if k in row.loss_keywords
        }
        expected = run(LOSSES[row.baseline], logits, target)
        assert_close(plain(row, logits, target, **values), expected)

    @rows_that(lambda row: row.linear is not None)
    def test_a_blocked_layer_computes_the_loss(self, row):
        logits, target = draw(row)
        if row.input == "cosines":
            self.check_cosines(row, target)
            return
        keywords = dict(row.loss_keywords) | row.linear
        bias = jnp.linspace(-1, 1, CLASSES)
        found = heads.row_statistics(
            logits, jnp.eye(CLASSES), target, bias=bias, **keywords
        )
        expected = row.function(logits + bias[None], target, **row.loss_keywords)
        assert_close((found.loss,), (expected,))

    def check_cosines(self, row, target):
        features = jax.random.normal(jax.random.key(0), (ROWS, 3))
        kernel = jax.random.normal(jax.random.key(1), (3, CLASSES))
        keywords, renamed = dict(row.loss_keywords), {}
        for name, own in row.linear.items():
            renamed[name] = keywords.pop(own)
        found = heads.margin_row_statistics(
            features, kernel, target, **keywords, **renamed
        )
        cosines = heads.cosine_logits(features, kernel)
        expected = row.function(cosines, target, **row.loss_keywords)
        assert_close((found.loss,), (expected,))
