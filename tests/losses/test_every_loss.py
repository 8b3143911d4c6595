"""One battery for every row of the table of losses.

A new row of `LOSSES` is held to all of this without a line here: the rules on input
(values and gradients, eager and traced), JAX's transformations, the mathematics that
all losses share, exact zeros, and agreement with the row's reference.

Nearly every test runs the one program of `run`, on inputs of one shape: compiling is
what costs time here.
"""

import functools
import inspect
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from oracle import assert_no_worse

import as_softmax_jax
from as_softmax_jax.losses import LOSSES

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "losses.md"
ROWS, CLASSES = 8, 12  # 12: more than the k of Sparse-Softmax
EVERYONE = jnp.ones(ROWS, bool)
ALL_CLASSES = jnp.ones((ROWS, CLASSES), bool)

every_loss = pytest.mark.parametrize("name", LOSSES)
eager_and_traced = pytest.mark.parametrize("how", ["eager", "jit"])
every_parameter = pytest.mark.parametrize(
    ("name", "keyword"),
    [
        (name, keyword)
        for name, row in LOSSES.items()
        for keyword, value in row.keywords.items()
        if isinstance(value, float)
    ],
)


def multi_hot(name):
    return LOSSES[name].target == "multi_hot"


def draw(name, *, seed=0, classes=CLASSES, scale=3.0, dtype="float32"):
    """Logits and targets of a loss; cosines and several labels where it takes them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(ROWS, classes)) * scale
    if LOSSES[name].cosine:
        logits = np.tanh(logits)
    target = rng.integers(0, classes, ROWS)
    if multi_hot(name):
        target = (rng.random(logits.shape) < 0.2) | np.eye(classes, dtype=bool)[target]
    return jnp.asarray(logits.astype(dtype)), jnp.asarray(target.astype(np.int32))


def positives(name, target):
    """Which classes are labels, [..., C]."""
    return target == 1 if multi_hot(name) else jax.nn.one_hot(target, CLASSES) == 1


def first_class(name):
    """Targets of which the first class is the label of each row."""
    if not multi_hot(name):
        return jnp.zeros(ROWS, jnp.int32)
    return jnp.broadcast_to(jnp.arange(CLASSES) == 0, (ROWS, CLASSES)).astype(jnp.int32)


def cotangents(logits):
    """One weight a row, none of them 0 or 1, for [ROWS, C] logits."""
    dtype = jnp.float64 if logits.dtype == jnp.float64 else jnp.float32
    return jnp.linspace(0.5, 2, ROWS, dtype=dtype)


def rows(*indices):
    return jnp.asarray(np.isin(np.arange(ROWS), indices))


@functools.cache
def masked_program(name, how):
    """f(logits, target, cotangent, where, class_mask) -> loss, gradient."""
    row = LOSSES[name]

    def f(logits, target, cotangent, where, class_mask):
        def loss_of(o):
            masks = {"where": where, "class_mask": class_mask}
            return row.function(o, target, **row.keywords, **masks)

        loss, vjp = jax.vjp(loss_of, logits)
        return loss, vjp(cotangent)[0]

    return f if how == "eager" else jax.jit(f)


def run(name, logits, target, where=EVERYONE, class_mask=ALL_CLASSES, how="jit"):
    """Loss, and gradient for `cotangents`, by the program that most tests share."""
    cotangent = cotangents(logits)
    return masked_program(name, how)(logits, target, cotangent, where, class_mask)


@functools.cache
def plain_program(name, static):
    """The jitted f(logits, target, cotangent, arrays) -> loss, gradient."""
    row = LOSSES[name]

    @jax.jit
    def f(logits, target, cotangent, arrays):
        keywords = dict(static) | arrays
        loss, vjp = jax.vjp(lambda o: row.function(o, target, **keywords), logits)
        return loss, vjp(cotangent)[0]

    return f


def plain(name, logits, target, cotangent=None, **keywords):
    """Loss and gradient with other keywords than `run` has, on any shape."""
    keywords = dict(LOSSES[name].keywords) | keywords
    arrays = {k: v for k, v in keywords.items() if isinstance(v, jax.Array)}
    static = tuple((k, v) for k, v in keywords.items() if k not in arrays)
    cotangent = cotangents(logits) if cotangent is None else cotangent
    return plain_program(name, static)(logits, target, cotangent, arrays)


@functools.cache
def settled_program(name):
    row = LOSSES[name]
    return jax.jit(functools.partial(row.settled, **row.keywords))


def settled_rows(name, logits, target, where=EVERYONE, class_mask=ALL_CLASSES):
    """Which rows are settled; none where the loss has no exact zeros."""
    if LOSSES[name].settled is None:
        return jnp.zeros(logits.shape[:-1], bool)
    return settled_program(name)(logits, target, where=where, class_mask=class_mask)


@functools.cache
def reference_program(name):
    row = LOSSES[name]

    @jax.jit
    def f(logits, target, cotangent):
        keywords = {
            keyword: value
            if isinstance(value, int)
            else jnp.full(logits.shape[:-1], value, logits.dtype)
            for keyword, value in row.keywords.items()
        }
        targets = (target == 1, target == 0) if multi_hot(name) else (target,)
        loss, vjp = jax.vjp(lambda o: row.reference(o, *targets, **keywords), logits)
        return loss, vjp(cotangent)[0]

    return f


def reference(name, logits, target):
    """Loss and gradient of the row's reference, for the keywords of the row."""
    return reference_program(name)(logits, target, cotangents(logits))


def assert_rows_equal(actual, expected, which):
    """Loss and gradient agree to the bit in the rows named."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a[which], e[which])


def assert_close(actual, expected, rtol=2e-6, atol=2e-6):
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


@every_loss
@eager_and_traced
class TestInputRules:
    """The table of input rules, row by row."""

    def test_rows_left_out_may_hold_anything(self, name, how):
        logits, target = draw(name)
        clean = run(name, logits, target, how=how)
        logits = logits.at[0].set(jnp.nan).at[1, 2].set(jnp.inf).at[2].set(-jnp.inf)
        target = target.at[3].set(-100).at[4].set(77)
        out = rows(0, 1, 2, 3, 4)
        loss, gradient = run(name, logits, target, ~out, how=how)
        np.testing.assert_array_equal(loss[out], 0)
        np.testing.assert_array_equal(gradient[out], 0)
        assert_rows_equal((loss, gradient), clean, ~out)

    def test_a_masked_class_has_no_part(self, name, how):
        logits, target = draw(name)
        keep = np.setdiff1d(np.arange(CLASSES), [3, 7])
        mask = ALL_CLASSES.at[:, [3, 7]].set(False)
        poisoned = logits.at[:, 3].set(jnp.nan).at[:, 7].set(jnp.inf)
        if multi_hot(name):
            fewer = target[:, keep]
            target = target.at[:, 3].set(5).at[:, 7].set(1)
        else:
            target = jnp.where((target == 3) | (target == 7), 0, target)
            fewer = target - sum((target > i).astype(jnp.int32) for i in (3, 7))
        loss, gradient = run(name, poisoned, target, EVERYONE, mask, how=how)
        np.testing.assert_array_equal(gradient[:, [3, 7]], 0)
        expected = plain(name, logits[:, keep], fewer)
        assert_close((loss, gradient[:, keep]), expected)

    def test_a_label_is_valid_whatever_the_mask_says(self, name, how):
        if multi_hot(name):
            pytest.skip("there a masked class is unknown, neither of the two")
        logits, target = draw(name)
        mask = ALL_CLASSES.at[:, ::2].set(False)
        with_label = mask | positives(name, target)
        masked = run(name, logits, target, EVERYONE, mask, how=how)
        expected = run(name, logits, target, EVERYONE, with_label, how=how)
        assert_rows_equal(masked, expected, EVERYONE)
        assert jnp.isfinite(masked[0]).all()

    def test_a_bad_target_makes_its_own_row_nan(self, name, how):
        logits, target = draw(name)
        clean = run(name, logits, target, how=how)
        bad = rows(1, 4, 6)
        if multi_hot(name):
            target = target.at[1, 0].set(2).at[4, 5].set(-1).at[6].set(77)
        else:
            target = target.at[1].set(-1).at[4].set(CLASSES).at[6].set(2**31 - 1)
        result = run(name, logits, target, how=how)
        assert all(jnp.isnan(part[bad]).all() for part in result)
        assert_rows_equal(result, clean, ~bad)

    def test_a_nan_or_infinite_logit_makes_its_own_row_nan(self, name, how):
        logits, target = draw(name)
        clean = run(name, logits, target, how=how)
        bad = rows(0, 3, 5)
        logits = logits.at[0, 0].set(jnp.nan).at[3, 2].set(jnp.inf).at[5].set(jnp.nan)
        result = run(name, logits, target, how=how)
        assert all(jnp.isnan(part[bad]).all() for part in result)
        assert_rows_equal(result, clean, ~bad)

    def test_a_logit_of_minus_infinity_is_a_class_without_a_part(self, name, how):
        logits, target = draw(name)
        others = ~positives(name, target) & (jnp.arange(CLASSES)[None] % 3 == 0)
        absent = run(name, jnp.where(others, -jnp.inf, logits), target, how=how)
        masked = run(name, logits, target, EVERYONE, ~others, how=how)
        assert_close(absent, masked)
        np.testing.assert_array_equal(absent[1][others], 0)

    def test_a_label_of_probability_0_costs_infinity(self, name, how):
        logits, target = draw(name)
        clean = run(name, logits, target, how=how)
        gone = rows(2, 6)
        label = positives(name, target) & gone[:, None]
        logits = jnp.where(label, -jnp.inf, logits).at[6].set(-jnp.inf)
        result = run(name, logits, target, how=how)
        np.testing.assert_array_equal(result[0][gone], jnp.inf)
        assert jnp.isfinite(result[1]).all()
        assert (result[1][2][label[2]] < 0).all(), "the label must be pulled up"
        assert_rows_equal(result, clean, ~gone)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_half_precision_computes_in_float32(self, name, how, dtype):
        if how == "eager" and dtype == jnp.float16:
            pytest.skip("compiles every operation again, and bfloat16 did")
        logits, target = draw(name)
        half = logits.astype(dtype)
        loss, gradient = run(name, half, target, how=how)
        single = run(name, half.astype(jnp.float32), target, how=how)
        assert (loss.dtype, gradient.dtype) == (jnp.float32, dtype)
        assert_close((loss,), single[:1], 1e-6, 1e-6)
        exact = np.asarray(single[1])
        ulp = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(gradient.astype(jnp.float32), exact, ulp, 1e-6)

    def test_float64_stays_float64(self, name, how):
        if how == "eager":
            pytest.skip("compiles every operation again, and one form is enough")
        with jax.enable_x64(True):
            result = run(name, *draw(name, dtype="float64"))
        assert all(part.dtype == jnp.float64 for part in result)
        for part, single in zip(result, run(name, *draw(name)), strict=True):
            np.testing.assert_allclose(part, single, rtol=1e-4, atol=1e-4)


class TestParameters:
    """The losses' own keywords."""

    @every_parameter
    def test_out_of_range_is_refused_when_known(self, name, keyword):
        row = LOSSES[name]
        f = functools.partial(row.function, **row.keywords)
        refused = functools.partial(refuses, f)
        args = draw(name)
        message = rf"`{keyword}` must be .*; got -1\.0\."
        refused(ValueError, message, *args, **{keyword: -1.0})
        message = f"`{keyword}` must be a real number"
        refused(TypeError, message, *args, **{keyword: True})
        message = f"`{keyword}` must broadcast to the shape of the loss"
        wrong = np.full(3, row.keywords[keyword], np.float32)
        refused(ValueError, message, *args, **{keyword: wrong})

    @every_parameter
    def test_out_of_range_makes_its_row_nan_when_traced(self, name, keyword):
        logits, target = draw(name)
        value = LOSSES[name].keywords[keyword]
        values = jnp.full(ROWS, value).at[1].set(-1.0).at[4].set(jnp.nan)
        result = plain(name, logits, target, **{keyword: values})
        bad = rows(1, 4)
        assert all(jnp.isnan(part[bad]).all() for part in result)
        clean = run(name, logits, target)
        for part, expected in zip(result, clean, strict=True):
            np.testing.assert_allclose(part[~bad], expected[~bad], 2e-6, 2e-6)

    @every_parameter
    def test_may_differ_by_row(self, name, keyword):
        logits, target = draw(name)
        value = LOSSES[name].keywords[keyword]
        values = jnp.linspace(value, 1.25 * value, ROWS, dtype=jnp.float32)
        result = plain(name, logits, target, **{keyword: values})
        for i in (0, 3, ROWS - 1):
            same = jnp.full(ROWS, values[i])
            expected = plain(name, logits, target, **{keyword: same})
            assert_rows_equal(result, expected, i)


class TestTargets:
    @every_loss
    def test_labels_of_every_integer_width_mean_the_same(self, name):
        if multi_hot(name):
            pytest.skip("takes no integer labels")
        logits, _ = draw(name, classes=1000)
        labels = np.array([0, 1, 2, 5, 50, 100, 126, 127])

        def result(typed):
            classes = jnp.ones(1000, bool)
            return run(name, logits, typed, class_mask=classes, how="eager")

        expected = result(jnp.asarray(labels.astype(np.int32)))
        for dtype in ("int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"):
            typed = labels.astype(dtype)
            if typed.dtype.itemsize < 8:
                typed = jnp.asarray(typed)
            assert_rows_equal(result(typed), expected, EVERYONE)

    @every_loss
    @pytest.mark.parametrize("dtype", [np.int64, np.uint64])
    def test_wide_labels_do_not_wrap_around(self, name, dtype):
        if multi_hot(name):
            pytest.skip("takes no integer labels")
        logits, _ = draw(name)
        labels = np.zeros(ROWS, dtype)
        labels[[1, 2]] = 2**32 + 1, np.iinfo(dtype).max - 2**32 + 2
        loss, gradient = run(name, logits, labels, how="eager")
        bad = rows(1, 2)
        assert jnp.isnan(loss[bad]).all()
        assert jnp.isnan(gradient[bad]).all()
        assert jnp.isfinite(loss[~bad]).all()
        row = LOSSES[name]
        assert jnp.isnan(row.function(logits[1], labels[1], **row.keywords))

    @every_loss
    def test_multi_hot_targets_of_every_dtype_mean_the_same(self, name):
        if not multi_hot(name):
            pytest.skip("takes integer labels")
        logits, target = draw(name)
        expected = run(name, logits, target, how="eager")
        for dtype in (bool, jnp.uint8, jnp.bfloat16, jnp.float32):
            result = run(name, logits, target.astype(dtype), how="eager")
            assert_rows_equal(result, expected, EVERYONE)
        fractional = target.astype(jnp.float32).at[2, 3].set(0.5)
        assert jnp.isnan(run(name, logits, fractional, how="eager")[0][2])


class TestShapes:
    @every_loss
    @pytest.mark.parametrize("axis", [0, 1])
    def test_the_class_axis_may_be_any(self, name, axis):
        logits, target = draw(name)
        where = jnp.arange(4) != 2
        mask = jnp.arange(CLASSES) != 4
        wheres, masks = jnp.tile(where, 2), jnp.tile(mask, (ROWS, 1))
        loss, gradient = run(name, logits, target, wheres, masks)

        def arrange(x, classes=True):
            x = x.reshape(2, 4, *x.shape[1:]) if x.shape[0] == ROWS else x
            return jnp.moveaxis(x, -1, axis) if classes else x

        result = plain(
            name,
            arrange(logits),
            arrange(target, multi_hot(name)),
            arrange(cotangents(logits), False),
            where=where,
            class_mask=arrange(mask[None, None]) if axis else arrange(masks),
            axis=axis,
        )
        assert_close(result, (arrange(loss, False), arrange(gradient)))

    @every_loss
    def test_one_example_one_class_and_no_example(self, name):
        logits, target = draw(name)
        loss, gradient = run(name, logits, target)
        one = plain(name, logits[0], target[0], cotangents(logits)[0])
        assert_close(one, (loss[0], gradient[0]))
        if not multi_hot(name):
            loss, gradient = plain(name, logits[:, :1], jnp.zeros_like(target))
            np.testing.assert_array_equal(loss, 0)
            np.testing.assert_array_equal(gradient, 0)
        loss, gradient = plain(name, logits[:0], target[:0], cotangents(logits)[:0])
        assert (loss.shape, gradient.shape) == ((0,), (0, CLASSES))

    @every_loss
    def test_wrong_input_is_refused(self, name):
        logits, target = draw(name)
        f = functools.partial(LOSSES[name].function, **LOSSES[name].keywords)
        refused = functools.partial(refuses, f)
        noun = "targets" if multi_hot(name) else "labels"
        integers = logits.astype(jnp.int32)
        message = "`logits` must be floating point; got dtype int32"
        refused(TypeError, message, integers, target)
        refused(TypeError, "`logits` must be an array; got None", None, target)
        refused(ValueError, f"`{noun}` must", logits, target[:3])
        scalar = target[0, 0] if multi_hot(name) else target[0]
        refused(ValueError, "must have a class axis", jnp.float32(1), scalar)
        none = target[:, :0] if multi_hot(name) else target
        refused(ValueError, "at least one class", logits[:, :0], none)
        if not multi_hot(name):
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
    def test_a_wrong_keyword_is_refused(self, name, error, message, keywords):
        row = LOSSES[name]
        f = functools.partial(row.function, **row.keywords)
        refuses(f, error, message, *draw(name), **keywords)


def refuses(f, error, message, *args, **keywords):
    """Refused eagerly and, where it can be traced, while tracing."""
    with pytest.raises(error, match=message):
        f(*args, **keywords)
    if all(isinstance(argument, jax.Array) for argument in args):
        with pytest.raises(error, match=message):
            jax.eval_shape(lambda *a: f(*a, **keywords), *args)


class TestVariants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    @parameterized.named_parameters(*((name, name) for name in LOSSES))
    def test_runs_eager_compiled_and_under_pmap(self, name):
        logits, target = draw(name)
        row = LOSSES[name]

        @self.variant
        def f(logits, target, cotangent):
            loss, vjp = jax.vjp(
                lambda o: row.function(o, target, **row.keywords), logits
            )
            return loss, vjp(cotangent)[0]

        result = f(logits, target, cotangents(logits))
        assert_close(result, run(name, logits, target))


def mesh_of_8():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


class TestTransformations:
    @every_loss
    def test_scan_of_vmap_of_checkpoint(self, name):
        logits, target = draw(name)
        row = LOSSES[name]
        one = jax.checkpoint(lambda o, t: row.function(o, t, **row.keywords))

        def gradient_of_one(o, t, cotangent):
            loss, vjp = jax.vjp(lambda o: one(o, t), o)
            return loss, vjp(cotangent)[0]

        def step(carry, args):
            return carry, jax.vmap(gradient_of_one)(*args)

        args = (logits, target, cotangents(logits))
        args = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), args)
        result = jax.lax.scan(step, 0, args)[1]
        result = jax.tree.map(lambda x: x.reshape(ROWS, *x.shape[2:]), result)
        assert_close(result, run(name, logits, target))

    @every_loss
    def test_shard_map(self, name):
        logits, target = draw(name)
        sharded = jax.shard_map(
            masked_program(name, "eager"),
            mesh=mesh_of_8(),
            in_specs=P("data"),
            out_specs=P("data"),
        )
        args = (logits, target, cotangents(logits), EVERYONE, ALL_CLASSES)
        assert_close(jax.jit(sharded)(*args), run(name, logits, target))

    @every_loss
    def test_compiles_once_and_without_a_collective(self, name):
        logits, target = draw(name)
        args = (logits, target, cotangents(logits), EVERYONE, ALL_CLASSES)
        args = jax.device_put(args, NamedSharding(mesh_of_8(), P("data")))
        chex.clear_trace_counter()
        f = jax.jit(chex.assert_max_traces(masked_program(name, "eager"), 1))
        f.lower(*args)
        program = f.lower(*args).compile()
        found = re.findall(
            r"all-gather|all-reduce|all-to-all|reduce-scatter|collective-\w+",
            program.as_text(),
        )
        assert not found
        assert_close(program(*args), run(name, logits, target))


class TestMathematics:
    @every_loss
    def test_gradients_are_finite_differences(self, name):
        with jax.enable_x64(True):
            logits, target = draw(name, scale=1.0, dtype="float64")
            _, gradient = run(name, logits, target)
            step = 1e-6
            for seed in range(3):
                along = np.random.default_rng(seed).normal(size=logits.shape)
                ahead, _ = run(name, logits + step * along, target)
                behind, _ = run(name, logits - step * along, target)
                slope = cotangents(logits) * (ahead - behind) / (2 * step)
                expected = (gradient * along).sum(axis=-1)
                np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8)

    @every_loss
    def test_the_order_of_classes_does_not_matter(self, name):
        logits, target = draw(name)
        loss, gradient = run(name, logits, target)
        order = np.random.default_rng(2).permutation(CLASSES)
        moved = target[:, order] if multi_hot(name) else jnp.argsort(order)[target]
        result = run(name, logits[:, order], moved)
        assert_close(result, (loss, gradient[:, order]))

    @every_loss
    def test_is_not_negative_and_pulls_the_label_from_the_rest(self, name):
        for seed in range(5):
            logits, target = draw(name, seed=seed)
            loss, _ = run(name, logits, target)
            assert (loss >= 0).all()
            _, gradient = run(name, jnp.zeros_like(logits), target)
            up = positives(name, target)
            assert (gradient[up] < 0).all()
            assert (gradient[~up] > 0).all()

    @every_loss
    def test_a_common_shift_of_the_logits_does_not_matter(self, name):
        if multi_hot(name):
            pytest.skip("decides each class against 0")
        logits, target = draw(name)
        # A shift by a power of two, and logits that it does not round.
        logits = jnp.round(logits * 64) / 64
        loss, gradient = run(name, logits, target)
        assert_close(run(name, logits + 256, target), (loss, gradient))
        scale = jnp.max(jnp.abs(gradient), axis=-1)
        total = jnp.abs(jnp.sum(gradient, axis=-1))
        assert (total <= 4e-7 * CLASSES * scale).all()

    @every_loss
    @pytest.mark.parametrize(
        "classes",
        [CLASSES, *(pytest.param(c, marks=pytest.mark.long) for c in (2, 999))],
    )
    def test_is_no_worse_than_its_reference(self, name, classes):
        mask = jnp.ones(classes, bool)
        for seed in range(12):
            logits, target = draw(
                name, seed=seed, classes=classes, scale=(0.1, 3.0, 30.0)[seed % 3]
            )
            fast = run(name, logits, target, class_mask=mask)
            naive = reference(name, logits, target)
            with jax.enable_x64(True):
                truth = reference(name, logits.astype(jnp.float64), target)
            slack = 8 * LOSSES[name].keywords.get("scale", 1.0) * np.finfo("f4").eps
            for a, n, t in zip(fast, naive, truth, strict=True):
                assert_no_worse(a, n, t, slack=slack)

    @every_loss
    def test_float64_equals_its_reference(self, name):
        with jax.enable_x64(True):
            for seed in range(12):
                scale = (0.1, 3.0, 30.0)[seed % 3]
                args = draw(name, seed=seed, scale=scale, dtype="float64")
                expected = reference(name, *args)
                assert_close(run(name, *args), expected, 1e-11, 1e-11)

    @every_loss
    def test_huge_logits(self, name):
        if LOSSES[name].cosine:
            pytest.skip("takes cosines")
        small, _ = draw(name, seed=5)
        target = first_class(name)
        logits = np.array(small)
        logits[0, :2] = 1e4, -1e4
        logits[1, :2] = -1e4, 1e4
        logits[2, :2] = 3e38, 0.0
        logits[3, :2] = -3e38, 0.0
        logits[4, :] = 1e4
        logits[5, 3] = -3e38
        logits[6, 0] = 3e38
        logits[7, :] = -1e4
        result = run(name, jnp.asarray(logits), target)
        with jax.enable_x64(True):
            truth = run(name, jnp.asarray(logits, jnp.float64), target)
            truth = tuple(map(np.asarray, truth))
        assert (truth[0] < np.finfo(np.float32).max).all()
        for part, expected in zip(result, truth, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-5)

    @every_loss
    def test_opposite_ends_of_float32_give_no_nan(self, name):
        if LOSSES[name].cosine:
            pytest.skip("takes cosines")
        ends = np.full((ROWS, CLASSES), -3e38, np.float32)
        ends[:4, 0] = 3e38
        ends[4:, 1] = 3e38
        loss, gradient = run(name, jnp.asarray(ends), first_class(name))
        assert not jnp.isnan(loss).any()
        assert jnp.isfinite(gradient).all()
        np.testing.assert_array_less(loss[:4], loss[4:])


class TestExactZeros:
    @every_loss
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
    def test_settled_is_exactly_where_nothing_is_learnt(self, name, dtype):
        where = ~rows(0)
        won = rows(1, 3, 5, 7)[:, None]
        num_settled = 0
        with jax.enable_x64(dtype == "float64"):
            for seed in range(32):
                logits, target = draw(name, seed=seed, scale=8.0)
                ahead = 1.0 if LOSSES[name].cosine else 20.0
                logits = jnp.where(won & positives(name, target), ahead, logits)
                logits = logits.astype(dtype)
                settled = settled_rows(name, logits, target, where)
                loss, gradient = run(name, logits, target)
                nothing = (gradient == 0).all(axis=-1)
                assert (loss[settled & where] == 0).all()
                np.testing.assert_array_equal(settled[where], nothing[where])
                assert settled[0] == LOSSES[name].exact_zeros
                num_settled += int(settled[where].sum())
        assert (num_settled > 50) == LOSSES[name].exact_zeros
        assert num_settled < 200

    @every_loss
    def test_a_row_of_nan_loss_is_not_settled(self, name):
        if not LOSSES[name].exact_zeros:
            pytest.skip("never settles")
        _, target = draw(name)
        logits = jnp.where(positives(name, target), 50.0, -50.0)
        if multi_hot(name):  # p sums to 1: with many labels none is far ahead
            target = first_class(name)
            logits = jnp.where(positives(name, target), 50.0, -50.0)
        assert settled_rows(name, logits, target).all()
        logits = logits.at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf)
        target = target.at[2].set(-1)
        settled = settled_rows(name, logits, target)
        np.testing.assert_array_equal(settled, ~rows(0, 1, 2))


INTERESTING = (0.0, 1.0, -1.0, 0.5, 2.0, 1e4, -1e4, 3e38, -3e38, 1e-30, -np.inf)
DRAWN = (3, 5)  # rows and classes that hypothesis chooses; the rest are masked


@st.composite
def inputs(draw_value, name):
    """Logits with ties and extremes, targets good and bad, and masks."""
    num_rows, num_classes = DRAWN
    if LOSSES[name].cosine:
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
    if multi_hot(name):
        target = np.zeros(logits.shape, np.int32)
        target[:num_rows, :num_classes] = array(st.booleans())
    else:
        target = np.zeros(ROWS, np.int32)
        some = st.integers(-1, num_classes - 1) | st.just(CLASSES)
        target[:num_rows] = draw_value(st.tuples(*[some] * num_rows))
    where = np.zeros(ROWS, bool)
    where[:num_rows] = draw_value(st.tuples(*[st.booleans()] * num_rows))
    return logits, target, where, mask


def check_invariants(name, logits, target, where, mask):
    """What holds for any input at all."""
    args = tuple(map(jnp.asarray, (logits, target, where, mask)))
    loss, gradient = map(np.asarray, run(name, *args))
    settled = np.asarray(settled_rows(name, *args))
    valid, wrong = mask, np.zeros(ROWS, bool)
    if not multi_hot(name):
        wrong = (target < 0) | (target >= CLASSES)
        valid = mask | (np.arange(CLASSES) == target[:, None])
    seen = np.where(valid, logits, 0)
    bad = where & (wrong | (np.isnan(seen) | (seen == np.inf)).any(-1))
    np.testing.assert_array_equal(np.isnan(loss), bad)
    np.testing.assert_array_equal(np.isnan(gradient).any(-1), bad & valid.any(-1))
    assert (loss[~bad] >= 0).all()
    assert np.isfinite(gradient[~bad]).all()
    assert (loss[~where] == 0).all()
    assert (gradient[~where] == 0).all()
    assert (gradient[~bad][~valid[~bad]] == 0).all()
    assert not (settled & bad).any()
    assert (loss[settled] == 0).all()
    assert (gradient[settled] == 0).all()


@every_loss
def test_invariants_on_any_input(name):
    check = given(inputs(name))(lambda drawn: check_invariants(name, *drawn))
    settings(max_examples=50, derandomize=True, deadline=None, database=None)(check)()


@pytest.mark.long
@every_loss
def test_invariants_on_any_input_for_long(name):
    check = given(inputs(name))(lambda drawn: check_invariants(name, *drawn))
    settings(max_examples=1500, deadline=None, database=None)(check)()


class TestTable:
    @every_loss
    def test_a_row_says_what_its_function_is(self, name):
        row = LOSSES[name]
        assert row.name == name
        assert row.exact_zeros == (row.settled is not None)
        assert row.function.__name__ == f"{name}_loss"
        assert row.function.__name__ in as_softmax_jax.__all__
        assert row.reference.__name__ == row.function.__name__
        first, second, *rest = inspect.signature(row.function).parameters.values()
        assert first.name == "logits"
        assert second.name == ("targets" if multi_hot(name) else "labels")
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in rest)
        shared = {"where", "class_mask", "axis", "implementation"}
        own = {p.name: p.default for p in rest if p.name not in shared}
        assert list(own) == list(row.keywords)
        for keyword, default in own.items():
            if default is not inspect.Parameter.empty:
                assert default == row.keywords[keyword]

    @every_loss
    def test_settled_takes_what_the_loss_takes(self, name):
        row = LOSSES[name]
        if row.settled is not None:
            accepted = inspect.signature(row.settled).parameters
            assert {*row.keywords, "where", "class_mask", "axis"} <= set(accepted)

    @every_loss
    def test_the_page_of_losses_has_its_line(self, name):
        row = LOSSES[name]
        keywords = ", ".join(f"{k}={v}" for k, v in row.keywords.items())
        zeros = "yes" if row.exact_zeros else ""
        cells = (f"`{name}`", f"`{name}_loss`", keywords, zeros, row.paper)
        line = "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"
        assert line in PAGE.read_text().splitlines()
        assert PAGE.read_text().count("_loss` |") == len(LOSSES)
