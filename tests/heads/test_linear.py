"""One battery over every implementation of the output layer with its loss.

The plain form is the layer and the reference one after the other; the truth is float64.
"""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify
from jax.sharding import PartitionSpec as P
from oracle import as_softmax, assert_no_worse, label_places, logsumexp

from as_softmax_jax import (
    as_softmax_settled,
    heads,
    linear_as_softmax_loss,
)
from as_softmax_jax.heads import _blocks
from as_softmax_jax.heads._linear import IMPLEMENTATIONS
from as_softmax_jax.heads._operands import LAYOUTS

KINDS = ("hard", "partial", "settled", "mixed")
# A kernel takes seconds to interpret: all tests of it are long.
INTERPRETED = pytest.param("mosaic_tpu", marks=pytest.mark.long)
FAST = ["xla", INTERPRETED]
EVERY = [*FAST, "reference"]
# The GPU kernel takes narrow numbers alone.
NARROW = [*FAST, pytest.param("mosaic_gpu", marks=pytest.mark.long)]
DTYPES = {"mosaic_gpu": jnp.bfloat16}
SCALES = {"|o| about 5": 1.0, "|o| about 50": 15.0, "|o| about 500": 150.0}
CLASSES, ROWS = _blocks.CLASSES, _blocks.ROW_SIZES
MARGINS = {"logit_margin": np.float32(2), "delta": np.float32(0.1)}
DELTA = MARGINS["delta"]
every_margin = pytest.mark.parametrize("margin", MARGINS)
# Where another quick test does the same with delta.
quick_in_logits = pytest.mark.parametrize(
    "margin", ["logit_margin", pytest.param("delta", marks=pytest.mark.long)]
)


def draw(kind, n, c, *, d=64, scale=1.0, seed=0, dtype=np.float32, logit_margin=None):
    """Draws features [n, d], a kernel [d, c] and labels whose rows are of one kind.

    The kinds are meant for a margin between logits, or for delta = 0.1.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * scale
    w = np.asarray(rng.normal(size=(d, c)) / np.sqrt(d), dtype).astype(np.float64)
    t = rng.integers(0, c, n)
    t[: n // 8] = c - 1  # the last, ragged block
    rival = (t + 1 + rng.integers(0, max(c - 1, 1), n)) % c
    which = np.array(["hard", "partial", "settled"])[np.arange(n) % 3]
    which = which if kind == "mixed" else np.full(n, kind)
    rows = np.arange(n)
    for _ in range(30):  # until label and rival stand where they should
        o = x @ w
        o[rows, t] = o[rows, rival] = -np.inf
        rest = np.concatenate([o, np.zeros((n, 1))], 1)
        weak = logsumexp(rest) - 3
        if logit_margin is not None:
            lowest = np.min(rest, 1, where=rest > -np.inf, initial=0)
            weak = (lowest + rest.max(1)) / 2
            rest = np.where(rest > -np.inf, rest, lowest[:, None])
        low, high, close = label_places(rest, logit_margin)
        o = x @ w
        for place, goal in (
            (t, np.where(which == "hard", low, high)),
            (rival, np.where(which == "partial", close, weak)),
        ):
            push = (goal - (x * w.T[place]).sum(1)) / (w.T[place] ** 2).sum(1)
            x += 0.7 * push[:, None] * w.T[place]
    return (
        np.asarray(x, dtype),
        np.asarray(w, dtype),
        t.astype(np.int32),
    )


def draw_for(margin, kind, n, c, **keywords):
    """Draws rows of one kind by the margin of `MARGINS`."""
    logit_margin = MARGINS[margin] if margin == "logit_margin" else None
    return draw(kind, n, c, logit_margin=logit_margin, **keywords)


def run(implementation, x, w, t, cotangent, *, bias=None, layout="dc", **keywords):
    """Loss and gradients of one implementation; the kernel's as [d, c]."""
    if not keywords.keys() & MARGINS.keys():
        keywords["delta"] = DELTA

    @jax.jit
    def all_of_them(x, w, bias):
        def f(x, w, bias):
            return linear_as_softmax_loss(
                x,
                w if layout == "dc" else w.T,
                t,
                bias=bias,
                kernel_layout=layout,
                implementation=implementation,
                **keywords,
            )

        loss, vjp = jax.vjp(f, x, w, bias)
        return loss, *vjp(cotangent)

    return all_of_them(x, w, bias)


def hold_to_the_plain_form(
    implementation, x, w, t, *, bias=None, layout="dc", **margin
):
    """Compares loss and gradients, for a random cotangent, with the truth."""
    margin = margin or {"delta": DELTA}
    n = len(t)
    cotangent = np.random.default_rng(7).normal(size=n).astype(np.float32)
    exact_x, exact_w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    logits = exact_x @ exact_w
    size = np.abs(exact_x) @ np.abs(exact_w)
    if bias is not None:
        logits, size = logits + np.float64(bias), size + np.abs(np.float64(bias))
    # Products may be summed in any order, so logits are known to that many units.
    growth = np.max(size) / (1 + np.abs(logits).max())
    unit = 2.0**-23 * max(1.0, growth / 16)
    truth = as_softmax(logits, t, **margin, rounding=unit)
    rounding = float(np.max(size)) * 2.0**-24
    where = truth.clear  # one row on the wrong side would be in every sum
    assert where.mean() >= 0.9
    g = truth.gradient * (cotangent * where)[:, None]
    expected = [truth.loss * where, g @ exact_w.T, exact_x.T @ g, g.sum(0)]
    keywords = {"bias": bias, "layout": layout, "where": where} | margin
    fast = run(implementation, x, w, t, cotangent, **keywords)
    plain = run("reference", x, w, t, cotangent, **keywords)
    for ours, naive, true in zip(fast, plain, expected, strict=True):
        if ours is not None:
            assert ours.dtype == naive.dtype
            slack = 4 * float(jnp.finfo(ours.dtype).eps) + rounding
            assert_no_worse(ours, naive, true, slack=slack)
    return truth


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("implementation", "layout", "margin"),
    [
        ("xla", "dc", "logit_margin"),
        ("xla", "cd", "delta"),
        pytest.param("xla", "dc", "delta", marks=pytest.mark.long),
        pytest.param("xla", "cd", "logit_margin", marks=pytest.mark.long),
        *(
            pytest.param(f"mosaic_{device}", layout, margin, marks=pytest.mark.long)
            for device in ("tpu", "gpu")
            for layout in LAYOUTS
            for margin in MARGINS
        ),
    ],
)
def test_each_kind_of_row_alone(implementation, kind, layout, margin):
    dtype = DTYPES.get(implementation, np.float32)
    x, w, t = draw_for(margin, kind, 97, CLASSES + 77, dtype=dtype)
    given = {margin: MARGINS[margin]}
    truth = hold_to_the_plain_form(implementation, x, w, t, layout=layout, **given)
    hard = truth.kept.all(-1).mean()
    shares = {"hard": hard, "settled": truth.settled.mean()}
    shares["partial"] = 1 - sum(shares.values())
    wanted = {name: 1 / 3 if kind == "mixed" else int(name == kind) for name in shares}
    assert shares == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(
    ("implementation", "dtype", "margin"),
    [
        ("xla", jnp.float32, "logit_margin"),
        ("xla", jnp.bfloat16, "delta"),
        pytest.param("xla", jnp.bfloat16, "logit_margin", marks=pytest.mark.long),
        pytest.param("xla", jnp.float32, "delta", marks=pytest.mark.long),
        *(
            pytest.param(implementation, dtype, margin, marks=pytest.mark.long)
            for implementation, dtype in (
                ("xla", jnp.float16),
                ("mosaic_tpu", jnp.float32),
                ("mosaic_tpu", jnp.bfloat16),
                ("mosaic_gpu", jnp.bfloat16),
                ("mosaic_gpu", jnp.float16),
            )
            for margin in MARGINS
        ),
    ],
)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_error_is_no_worse_than_the_plain_form(implementation, dtype, scale, margin):
    if dtype == jnp.float16 and scale > 100:
        pytest.skip("the features overflow")
    x, w, t = draw_for(margin, "mixed", 96, CLASSES + 101, scale=scale, dtype=dtype)
    hold_to_the_plain_form(implementation, x, w, t, **{margin: MARGINS[margin]})


@pytest.mark.parametrize("implementation", NARROW)
@pytest.mark.parametrize(
    "c", [2, 3, 257, CLASSES - 1, CLASSES, CLASSES + 1, 2 * CLASSES + 1]
)
@quick_in_logits
def test_any_number_of_classes(implementation, c, margin):
    dtype = DTYPES.get(implementation, np.float32)
    drawn = draw_for(margin, "mixed", 48, c, dtype=dtype)
    hold_to_the_plain_form(implementation, *drawn, **{margin: MARGINS[margin]})


SOME_ROWS = [2, ROWS[0] + 1, ROWS[-1], ROWS[-1] - 1]


@pytest.mark.parametrize("implementation", NARROW)
@pytest.mark.parametrize(
    "n",
    [
        pytest.param(n, marks=[pytest.mark.long] * (n not in SOME_ROWS))
        for n in (1, 2, *(size + k for size in ROWS for k in (-1, 0, 1)))
    ],
)
@quick_in_logits
def test_any_number_of_rows(implementation, n, margin):
    dtype = DTYPES.get(implementation, np.float32)
    drawn = draw_for(margin, "mixed", n, 131, dtype=dtype)
    hold_to_the_plain_form(implementation, *drawn, **{margin: MARGINS[margin]})


@pytest.mark.parametrize("implementation", NARROW)
@pytest.mark.parametrize(
    "margin",
    [*(pytest.param(m, marks=pytest.mark.long) for m in (0.0, 0.7, np.inf)), "by row"],
)
def test_any_margin_between_logits(implementation, margin):
    dtype = DTYPES.get(implementation, np.float32)
    x, w, t = draw("mixed", 97, CLASSES + 9, dtype=dtype, logit_margin=1.0)
    if margin == "by row":
        margin = np.linspace(0, 6, 97, dtype=np.float32)
        margin[::7] = np.inf
    hold_to_the_plain_form(implementation, x, w, t, logit_margin=margin)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize(
    "margin", [{"delta": DELTA}, {"logit_margin": np.float32(np.log(0.38 / 0.28))}]
)
def test_a_class_just_inside_the_margin_and_one_just_outside(implementation, margin):
    # Label, both classes and the small rest lie in blocks of their own.
    c, n, inside, outside = 4 * CLASSES, 8, CLASSES + 5, 2 * CLASSES + 7
    prob = np.full((n, c), 0.06 / (c - 3))
    t = np.arange(n, dtype=np.int32)
    prob[np.arange(n), t], prob[:, inside], prob[:, outside] = 0.38, 0.281, 0.279
    x, w = np.log(prob).astype(np.float32), np.eye(c, dtype=np.float32)
    loss, d_x, *_ = run(implementation, x, w, t, np.ones(n, np.float32), **margin)
    np.testing.assert_allclose(loss, np.log(1 + 0.281 / 0.38), rtol=1e-5)
    expected = np.zeros((n, c))
    expected[np.arange(n), t] = -0.281 / (0.38 + 0.281)
    expected[:, inside] = 0.281 / (0.38 + 0.281)
    np.testing.assert_allclose(d_x, expected, atol=1e-5)


@pytest.mark.parametrize("implementation", NARROW)
@pytest.mark.parametrize("layout", LAYOUTS)
@quick_in_logits
def test_a_large_random_bias(implementation, layout, margin):
    dtype = DTYPES.get(implementation, np.float32)
    x, w, t = draw_for(margin, "mixed", 40, CLASSES + 9, dtype=dtype)
    bias = np.random.default_rng(3).normal(size=w.shape[1]).astype(np.float32) * 100
    given = {"bias": bias, "layout": layout, margin: MARGINS[margin]}
    hold_to_the_plain_form(implementation, x, w, t, **given)


def equal(actual, expected, **keywords):
    """Compares all arrays of two results."""
    for a, b in zip(actual, expected, strict=True):
        if a is not None or b is not None:
            np.testing.assert_allclose(a, b, **keywords)


CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.mark.parametrize("implementation", EVERY)
@pytest.mark.parametrize("kind", KINDS)
@quick_in_logits
def test_rows_left_out_may_hold_anything(implementation, kind, margin):
    x, w, t = draw_for(margin, kind, 37, 40)
    given = {margin: MARGINS[margin]}
    where = np.arange(37) % 3 != 0
    cotangent = np.where(where, 1.5, np.nan).astype(np.float32)
    dirty = np.where(where[:, None], x, np.nan)
    dirty_labels = np.where(where, t, -100)
    got = run(implementation, dirty, w, dirty_labels, cotangent, where=where, **given)
    same = np.full(where.sum(), 1.5, np.float32)
    loss, d_x, d_w, _ = run(implementation, x[where], w, t[where], same, **given)
    np.testing.assert_allclose(got[0][where], loss, **CLOSE)
    np.testing.assert_allclose(got[1][where], d_x, **CLOSE)
    np.testing.assert_allclose(got[2], d_w, **CLOSE)
    assert not np.any(got[0][~where])
    assert not np.any(got[1][~where])


@pytest.mark.parametrize("implementation", EVERY)
@pytest.mark.parametrize("bad", ["label", "negative label", "feature", "margin"])
@every_margin
def test_a_bad_row_is_nan_alone(implementation, bad, margin):
    x, w, t = draw_for(margin, "mixed", 33, 20)
    margins = np.full(33, MARGINS[margin])
    if bad == "feature":
        x[7, 3] = np.nan
    elif bad == "margin":
        margins[7] = -0.5
    else:
        t[7] = {"label": 20, "negative label": -1}[bad]
    ones = np.ones(33, np.float32)

    @jax.jit
    def f(x, w, margins):
        def loss(x, w):
            return linear_as_softmax_loss(
                x, w, t, implementation=implementation, **{margin: margins}
            )

        value, vjp = jax.vjp(loss, x, w)
        return value, *vjp(ones)

    loss, d_x, d_w = f(x, w, margins)
    rows = np.arange(33) == 7
    np.testing.assert_array_equal(np.isnan(loss), rows)
    np.testing.assert_array_equal(np.isnan(d_x).any(-1), rows)
    assert np.isnan(d_w).all()  # as of x @ w, which this row is part of


@pytest.mark.parametrize("implementation", EVERY)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rank", [1, 2])
@quick_in_logits
def test_masked_classes_have_no_part(implementation, layout, rank, margin):
    x, w, t = draw_for(margin, "mixed", 20, 30)
    given = {margin: MARGINS[margin]}
    rng = np.random.default_rng(5)
    mask = rng.random((20, 30) if rank == 2 else 30) < 0.7
    ones = np.ones(20, np.float32)
    if implementation == "mosaic_tpu" and rank == 2:
        with pytest.raises(ValueError, match="one class mask"):
            run(implementation, x, w, t, ones, class_mask=mask, layout=layout)
        return
    got = run(implementation, x, w, t, ones, class_mask=mask, layout=layout, **given)
    valid = mask | (np.arange(30) == t[:, None])  # a label counts, masked or not
    logits = np.where(valid, np.float64(x) @ np.float64(w), -np.inf)
    truth = as_softmax(logits, t, **given)
    expected = truth.loss, truth.gradient @ w.T, x.T @ truth.gradient
    equal(got[:3], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,), (30,), (1, 30), (20, 1), (20, 30)])
def test_a_class_mask_broadcasts_to_the_logits(shape):
    x, w, t = draw("mixed", 20, 30)
    mask = np.random.default_rng(4).random(shape) < 0.7
    ones = np.ones(20, np.float32)
    got = run("xla", x, w, t, ones, class_mask=mask)
    full = np.broadcast_to(mask, (20, 30))
    equal(got, run("reference", x, w, t, ones, class_mask=full), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("implementation", FAST)
@every_margin
def test_one_pass_tells_what_is_settled_and_what_leads(implementation, margin):
    x, w, t = draw_for(margin, "mixed", 40, CLASSES + 7)
    given = {margin: MARGINS[margin], "where": np.arange(40) % 7 != 0}
    where, logits = given["where"], x @ w
    got = heads.row_statistics(x, w, t, implementation=implementation, **given)
    np.testing.assert_array_equal(got.settled, as_softmax_settled(logits, t, **given))
    of_label = logits[np.arange(40), t]
    rivals = np.where(np.arange(CLASSES + 7) == t[:, None], -np.inf, logits)
    np.testing.assert_allclose(
        got.label_lead[where], (of_label - rivals.max(-1))[where], rtol=1e-5, atol=1e-5
    )
    right = (of_label >= rivals.max(-1))[where]
    np.testing.assert_array_equal(got.correct[where], right)
    assert 0 < right.mean() < 1


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("margin", [{"delta": 0.0}, {"logit_margin": 0.0}])
def test_equal_classes_are_all_kept(implementation, margin):
    w = np.repeat(np.random.default_rng(0).normal(size=(8, 40)), 2, 1)
    w = w.astype(np.float32)  # each class twice
    x = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    label = np.argmax(x @ w, 1)
    keywords = {"implementation": implementation} | margin
    loss = linear_as_softmax_loss(x, w, label, **keywords)
    np.testing.assert_allclose(loss, np.log(2.0), rtol=1e-5)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("margin", [{"delta": 1.0}, {"logit_margin": np.inf}])
def test_at_the_largest_margin_it_is_softmax_cross_entropy(implementation, margin):
    x, w, t = draw("mixed", 70, CLASSES + 3)

    def plain(x, w):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w, t).sum()

    def ours(x, w):
        return linear_as_softmax_loss(
            x, w, t, implementation=implementation, **margin
        ).sum()

    expected = jax.value_and_grad(plain, (0, 1))(x, w)
    got = jax.value_and_grad(ours, (0, 1))(x, w)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        got,
        expected,
    )


@pytest.mark.parametrize("num_classes", [50, 1030])
@every_margin
def test_float64_stays_float64(num_classes, margin):
    with jax.enable_x64(True):
        x, w, t = draw_for(margin, "mixed", 30, num_classes, dtype=np.float64)
        given = {margin: np.float64(MARGINS[margin])}
        truth = as_softmax(x @ w, t, **given, rounding=2.0**-52)
        loss, vjp = jax.vjp(lambda x, w: linear_as_softmax_loss(x, w, t, **given), x, w)
        d_x, d_w = vjp(np.ones(30))
        assert {a.dtype for a in (loss, d_x, d_w)} == {np.dtype("float64")}
        np.testing.assert_allclose(loss, truth.loss, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(d_w, x.T @ truth.gradient, atol=1e-12)


def test_operands_of_two_dtypes_meet_in_the_wider_one():
    x, w, t = draw("mixed", 30, 50)
    narrow = jnp.asarray(x, jnp.bfloat16)
    got = run("xla", narrow, w, t, np.ones(30, np.float32), bias=np.zeros(50, "f"))
    wide = narrow.astype(jnp.float32)
    expected = run("xla", wide, w, t, np.ones(30, np.float32), bias=np.zeros(50, "f"))
    assert [a.dtype for a in got[1:]] == [jnp.bfloat16, jnp.float32, jnp.float32]
    np.testing.assert_array_equal(got[2], expected[2])


def test_every_implementation_is_here():
    assert IMPLEMENTATIONS == ("xla", "mosaic_gpu", "mosaic_tpu", "reference")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_many_rows_as_features_or_classes(layout):
    for c in (48, 70):
        x, w, t = draw("mixed", 48, c, d=48)
        hold_to_the_plain_form("xla", x, w, t, layout=layout)


@every_margin
def test_leading_axes_are_rows(margin):
    x, w, t = draw_for(margin, "mixed", 24, 50)
    margins = np.linspace(0, 9 * MARGINS[margin], 24, dtype=np.float32)
    keywords = {"where": np.arange(24) % 5 != 0, margin: margins}
    flat = linear_as_softmax_loss(x, w, t, **keywords)
    keywords = {name: array.reshape(4, 6) for name, array in keywords.items()}
    stacked = linear_as_softmax_loss(
        x.reshape(4, 6, -1), w, t.reshape(4, 6), **keywords
    )
    np.testing.assert_array_equal(stacked, flat.reshape(4, 6))


@pytest.mark.parametrize("n", [0, 5])
def test_no_row_counts(n):
    x, w = np.ones((n, 4), np.float32), np.ones((4, 9), np.float32)
    where = np.zeros(n, bool)
    got = run("xla", x, w, np.zeros(n, np.int32), np.ones(n, np.float32), where=where)
    assert not any(np.any(a) for a in got[:3])


@quick_in_logits
def test_transformations_compose(margin):
    x, w, t = draw_for(margin, "mixed", 24, 40)
    given = {margin: MARGINS[margin]}

    def mean_loss(x, w, t):
        return linear_as_softmax_loss(x, w, t, **given).mean()

    f = jax.jit(jax.value_and_grad(mean_loss, (0, 1)))
    parts = x.reshape(3, 8, -1), t.reshape(3, 8)
    each = [f(a, w, b) for a, b in zip(*parts, strict=True)]
    each = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    _, scanned = jax.lax.scan(lambda c, ab: (c, f(ab[0], w, ab[1])), 0, parts)
    forms = {
        "vmap": jax.vmap(f, (0, None, 0))(parts[0], w, parts[1]),
        "scan": scanned,
        "checkpoint": jax.lax.map(
            lambda ab: jax.value_and_grad(jax.checkpoint(mean_loss), (0, 1))(
                ab[0], w, ab[1]
            ),
            parts,
        ),
    }
    for got in forms.values():
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), got, each)


@pytest.mark.parametrize("check_vma", [True, False])
@quick_in_logits
def test_devices_differentiate_their_own_rows(check_vma, margin):
    x, w, t = draw_for(margin, "mixed", 64, 90)
    given = {margin: MARGINS[margin]}
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = P("data"), P()

    def loss(x, w, bias, t):
        return linear_as_softmax_loss(x, w, t, bias=bias, **given)

    spread = jax.shard_map(
        loss,
        mesh=mesh,
        in_specs=(rows, whole, whole, rows),
        out_specs=rows,
        check_vma=check_vma,
    )
    bias = np.linspace(-1, 1, 90, dtype=np.float32)

    def grads(f):
        total = jax.jit(jax.value_and_grad(lambda *a: f(*a, t).sum(), (0, 1, 2)))
        return total, total(x, w, bias)

    total, got = grads(spread)
    _, expected = grads(loss)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        got,
        expected,
    )
    text = total.lower(x, w, bias).compile().as_text()
    assert not re.search(r"all-gather|all-to-all|collective-permute", text)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 8), (2, 4)], ids=["8 of classes", "2 x 4"])
@quick_in_logits
def test_classes_split_over_devices(layout, shape, margin):
    c = 4 * CLASSES + 37  # no multiple of the devices: the last ones hold padding
    x, w, t = draw_for(margin, "mixed", 32, c)
    given = {margin: MARGINS[margin]}
    bias = np.linspace(-1, 1, c, dtype=np.float32)
    padded = -(-c // shape[1]) * shape[1]
    mask = np.arange(padded) < c
    mesh = jax.make_mesh(
        shape, ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    rows, split = P("data"), P("model")
    kernel_spec = P(None, "model") if layout == "dc" else P("model", None)

    def parallel(x, kernel, bias, t, mask):
        return linear_as_softmax_loss(
            x,
            kernel,
            t,
            bias=bias,
            class_mask=mask,
            kernel_layout=layout,
            axis_name="model",
            **given,
        )

    spread = jax.shard_map(
        parallel,
        mesh=mesh,
        in_specs=(rows, kernel_spec, split, rows, split),
        out_specs=rows,
    )
    cotangent = np.random.default_rng(0).normal(size=32).astype(np.float32)

    def total(x, kernel, bias):
        loss = spread(x, kernel, bias, t, mask)
        return jnp.sum(loss * cotangent), loss

    kernel = np.pad(w, ((0, 0), (0, padded - c)))
    places = (
        jax.sharding.NamedSharding(mesh, spec) for spec in (rows, kernel_spec, split)
    )
    whole = x, kernel if layout == "dc" else kernel.T, np.pad(bias, (0, padded - c))
    arguments = jax.tree.map(jax.device_put, whole, tuple(places))
    f = jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
    (_, loss), (d_x, d_kernel, d_bias) = f(*arguments)
    d_w = d_kernel if layout == "dc" else d_kernel.T
    expected = run("xla", x, w, t, cotangent, bias=bias, **given)
    got = loss, d_x, d_w[:, :c], d_bias[:c]
    equal(got, expected, rtol=1e-5, atol=1e-5)
    assert not np.any(d_w[:, c:])
    text = f.lower(*arguments).compile().as_text()
    assert not re.search(r"all-gather|all-to-all", text)


def statistics_loss(*args, **keywords):
    return heads.row_statistics(*args, **keywords).loss


def split_over(mesh, check_vma, function=linear_as_softmax_loss, margin="delta"):
    """The loss with classes split over an axis, and its gradient inside the map."""
    specs = {"mesh": mesh, "check_vma": check_vma}
    specs["in_specs"] = (P(), P(None, "model"), P())

    def loss(x, w, t):
        return function(x, w, t, axis_name="model", **{margin: MARGINS[margin]})

    def gradient(x, w, t):
        return jax.grad(lambda w: loss(x, w, t).sum())(w)

    return (
        jax.shard_map(loss, out_specs=P(), **specs),
        jax.shard_map(gradient, out_specs=P(None, "model"), **specs),
    )


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("function", [linear_as_softmax_loss, statistics_loss])
@pytest.mark.parametrize("devices", [2, pytest.param(8, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "margin", [pytest.param("logit_margin", marks=pytest.mark.long), "delta"]
)
def test_split_classes_have_the_whole_gradient_or_none(
    devices, function, check_vma, inside, margin
):
    x, w, t = draw_for(margin, "mixed", 16, 64)
    ones = np.ones(16, np.float32)
    expected, _, d_w, _ = run("xla", x, w, t, ones, **{margin: MARGINS[margin]})
    mesh = jax.make_mesh(
        (devices,),
        ("model",),
        devices=jax.devices()[:devices],
        axis_types=(jax.sharding.AxisType.Auto,),
    )
    loss, within = split_over(mesh, check_vma, function, margin)
    np.testing.assert_allclose(jax.jit(loss)(x, w, t), expected, **CLOSE)
    gradient = within if inside else jax.grad(lambda *a: loss(*a).sum(), 1)
    if check_vma:
        got = jax.jit(gradient)(x, w, t)
        np.testing.assert_allclose(got, d_w, rtol=1e-5, atol=1e-5)
        return
    with pytest.raises(ValueError, match="with `check_vma=True`, its default"):
        jax.jit(gradient)(x, w, t)


@pytest.mark.parametrize(
    ("margin", "by_row"),
    [
        ("logit_margin", True),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("logit_margin", False), ("delta", True), ("delta", False))
        ),
    ],
)
def test_rows_and_classes_on_a_mesh(margin, by_row):
    x, w, t = draw_for(margin, "mixed", 32, 2 * CLASSES + 37)
    value = MARGINS[margin]
    if by_row:
        value = np.linspace(0, 2 * value, 32, dtype=np.float32)
    bias = np.linspace(-1, 1, w.shape[1], dtype=np.float32)
    keywords = {margin: value, "bias": bias, "where": np.arange(32) % 5 != 0}
    mesh = jax.make_mesh(
        (2, 4), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )

    def both(function, *args):
        def total(x, w):
            found = function(*args, x, w, t, **keywords)
            return jnp.sum(found.loss), found

        return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(x, w)

    (_, found), gradients = both(heads.row_statistics_on_mesh, mesh)
    (_, expected), expected_gradients = both(heads.row_statistics)
    equal(found, expected, rtol=1e-5, atol=1e-5)
    equal(gradients, expected_gradients, rtol=1e-5, atol=1e-5)


@quick_in_logits
def test_split_classes_have_second_derivatives(margin):
    rng = np.random.default_rng(1)
    x, w = (rng.normal(size=s).astype("f") for s in ((40, 5), (5, 16)))
    t = rng.integers(0, 16, 40)
    mesh = jax.make_mesh(
        (4,),
        ("model",),
        devices=jax.devices()[:4],
        axis_types=(jax.sharding.AxisType.Auto,),
    )

    def penalty(loss):
        def f(w):
            return jnp.sum(jax.grad(lambda w: loss(x, w, t).sum())(w) ** 2)

        return jax.jit(jax.grad(f))(w)

    def plain(x, w, t):
        given = {margin: MARGINS[margin], "implementation": "reference"}
        return linear_as_softmax_loss(x, w, t, **given)

    expected = penalty(plain)
    got = penalty(split_over(mesh, True, margin=margin)[0])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@every_margin
def test_forward_mode_is_refused_with_the_form_that_serves_it(margin):
    x, w, t = draw_for(margin, "mixed", 16, 20)

    def loss(w, implementation=None):
        given = {margin: MARGINS[margin], "implementation": implementation}
        return linear_as_softmax_loss(x, w, t, **given).sum()

    with pytest.raises(TypeError, match='needs `implementation="reference"`'):
        jax.jvp(loss, (w,), (w,))
    _, change = jax.jvp(lambda w: loss(w, "reference"), (w,), (w,))
    np.testing.assert_allclose(change, jnp.vdot(jax.grad(loss)(w), w), rtol=1e-4)


@pytest.mark.parametrize(
    "n", [40, *(pytest.param(n, marks=pytest.mark.long) for n in (9, 600))]
)
@pytest.mark.parametrize("layout", LAYOUTS)
@quick_in_logits
def test_second_derivatives_are_those_of_the_plain_form(n, layout, margin):
    rng = np.random.default_rng(2)
    x, w, cotangent = (rng.normal(size=s).astype("f") for s in ((n, 8), (8, 60), n))
    t = rng.integers(0, 60, n)
    bias = np.linspace(-1, 1, 60, dtype=np.float32)
    w = w if layout == "dc" else w.T

    def second(implementation):
        def total(operands):
            x, w, bias = operands
            loss = linear_as_softmax_loss(
                x,
                w,
                t,
                bias=bias,
                kernel_layout=layout,
                implementation=implementation,
                **{margin: MARGINS[margin]},
            )
            return jnp.vdot(loss, cotangent)

        def penalty(operands):
            value, gradient = jax.value_and_grad(total)(operands)
            return value + sum(jnp.sum(g**2) for g in gradient)

        operands = (x, w, bias)
        forward = jax.jvp(jax.grad(total), (operands,), (operands,))[1]
        return jax.grad(penalty)(operands), forward

    got, expected = (jax.jit(second, static_argnums=0)(i) for i in ("xla", "reference"))
    for ours, plain in zip(
        jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
    ):
        scale = np.abs(plain).max()
        np.testing.assert_allclose(ours / scale, plain / scale, atol=2e-5)


@pytest.mark.parametrize("implementation", EVERY)
@pytest.mark.parametrize("left_out", ["by where", "by weight"])
@quick_in_logits
def test_what_has_no_part_is_in_no_derivative(implementation, left_out, margin):
    x, w, t = draw_for(margin, "mixed", 40, 30, d=8)
    good = np.arange(40) % 3 != 0
    bad = np.where(good[:, None], x, np.nan)
    if (left_out, implementation) == ("by weight", "reference"):
        bad = x  # NaN times 0 is in the product of the features itself
    labels = np.where(good, t, -100)
    where = good if left_out == "by where" else None
    orders = 1 if implementation.startswith("mosaic") else 2

    def derivatives(x, labels, where):
        def total(operands):
            loss = linear_as_softmax_loss(
                *operands,
                labels,
                where=where,
                implementation=implementation,
                **{margin: MARGINS[margin]},
            )
            return jnp.sum(jnp.where(good, loss, 0))

        def penalty(operands):
            return sum(jnp.sum(g**2) for g in jax.grad(total)(operands))

        found = [jax.grad(f)((x, w)) for f in (total, penalty)[:orders]]
        return jax.tree.leaves(found)

    expected = jax.jit(derivatives)(x, t, good)
    for part, wanted in zip(
        jax.jit(derivatives)(bad, labels, where), expected, strict=True
    ):
        np.testing.assert_allclose(part, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.long
@every_margin
def test_exports_with_a_symbolic_batch(margin):
    x, w, t = draw_for(margin, "mixed", 600, 70, d=8)
    given = {margin: MARGINS[margin]}
    (batch,) = jax.export.symbolic_shape("b")
    shapes = (
        jax.ShapeDtypeStruct((batch, 8), jnp.float32),
        jax.ShapeDtypeStruct(w.shape, jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
        jax.ShapeDtypeStruct((batch,), bool),
    )

    def f(x, w, t, where):
        def total(x, w):
            return linear_as_softmax_loss(x, w, t, where=where, **given).sum()

        return jax.value_and_grad(total, (0, 1))(x, w)

    exported = jax.export.export(jax.jit(f))(*shapes)
    for n in (1, 17, 512, 600):
        args = x[:n], w, t[:n], np.arange(n) % 5 != 1
        equal(
            jax.tree.leaves(exported.call(*args)),
            jax.tree.leaves(jax.jit(f)(*args)),
            rtol=1e-4,
            atol=1e-4,
        )


def test_features_that_lie_spread_over_an_explicit_mesh_are_refused():
    x, w, t = draw("mixed", 16, 20)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    spread = jax.device_put(x, jax.NamedSharding(mesh, P("data")))

    def loss(x, w, t):
        return linear_as_softmax_loss(x, w, t, delta=0.1)

    with jax.set_mesh(mesh):
        with pytest.raises(ValueError, match=r"`features` lies spread.*jax.shard_map"):
            jax.jit(loss)(spread, w, t)
        mapped = jax.shard_map(
            loss, in_specs=(P("data"), P(), P("data")), out_specs=P("data")
        )
        labels = jax.device_put(t, jax.NamedSharding(mesh, P("data")))
        got = jax.jit(mapped)(spread, jnp.asarray(w), labels)
    np.testing.assert_allclose(got, loss(x, w, t), **CLOSE)


@pytest.mark.parametrize("padded", [pytest.param(False, marks=pytest.mark.long), True])
@quick_in_logits
def test_debugging_modes_find_no_nan(padded, margin):
    x, w, t = map(jnp.asarray, draw_for(margin, "mixed", 16, 20, d=8))
    given = {margin: MARGINS[margin]}
    where = jnp.arange(16) % 3 != 0 if padded else None
    t = jnp.where(jnp.arange(16) % 3 != 0, t, -100) if padded else t

    def loss(x, w):
        return linear_as_softmax_loss(x, w, t, where=where, **given).sum()

    both = jax.value_and_grad(loss, (0, 1))
    error, _ = checkify.checkify(both, errors=checkify.nan_checks)(x, w)
    assert error.get() is None
    with jax.debug_nans(True):
        both(x, w)
        jax.jit(both)(x, w)
        with jax.disable_jit():
            loss(x, w)


@every_margin
def test_a_label_outside_all_devices_classes_is_nan(margin):
    x, w, t = draw("mixed", 16, 64)
    t[3], t[5] = 64, -1
    given = {margin: MARGINS[margin], "axis_name": "model"}
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    loss = jax.shard_map(
        lambda x, w: linear_as_softmax_loss(x, w, t, **given),
        mesh=mesh,
        in_specs=(P(), P(None, "model")),
        out_specs=P(),
    )(x, w)
    np.testing.assert_array_equal(np.isnan(loss), np.isin(np.arange(16), [3, 5]))


@pytest.mark.parametrize("layout", LAYOUTS)
@every_margin
def test_no_array_has_the_size_of_the_logits(layout, margin):
    n, d, c = 512, 32, 20_000
    x, w = jnp.zeros((n, d)), jnp.zeros((d, c) if layout == "dc" else (c, d))

    def loss(x, w, t):
        given = {margin: MARGINS[margin], "kernel_layout": layout}
        return linear_as_softmax_loss(x, w, t, **given).sum()

    compiled = (
        jax.jit(jax.grad(loss, (0, 1))).lower(x, w, jnp.zeros(n, jnp.int32)).compile()
    )
    logits = n * c * 4
    assert compiled.memory_analysis().temp_size_in_bytes < 0.2 * logits
    sizes = [
        math.prod(map(int, shape.split(",")))
        for shape in re.findall(r"f32\[([\d,]+)\]", compiled.as_text())
    ]
    assert max(sizes) <= d * c


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kernel": np.ones((5, 4), "f")}, 'kernel_layout="cd"'),
        ({"kernel": np.ones(5, "f")}, r"`kernel` must have the shape \(4, C\)"),
        ({"features": np.float32(1)}, "`features` must have an axis"),
        ({"bias": np.ones(4, "f")}, r"`bias` must have the shape \(5,\)"),
        ({"labels": np.zeros((3, 1), int)}, r"`labels` must have the shape"),
        ({"class_mask": np.ones(4, bool)}, "`class_mask` must broadcast"),
        ({"where": np.ones(2, bool)}, "`where` must broadcast"),
        ({"delta": 1.5}, r"`delta` must be in \[0, 1\]; got 1.5"),
        ({"delta": None, "logit_margin": -1.0}, "`logit_margin` must be at least 0"),
        ({"logit_margin": 2.0}, "takes one margin, `logit_margin` .* `delta` .*both"),
        ({"delta": None}, "takes one margin, `logit_margin` .* `delta` .*neither"),
        ({"kernel_layout": "cb"}, "`kernel_layout` must be one of 'dc', 'cd'"),
        ({"implementation": "fast"}, "`implementation` must be one of"),
    ],
)
def test_what_misfits_is_refused(changed, message):
    arguments = {
        "features": np.ones((3, 4), "f"),
        "kernel": np.ones((4, 5), "f"),
        "labels": np.zeros(3, int),
        "delta": 0.1,
    } | changed
    with pytest.raises(ValueError, match=message):
        linear_as_softmax_loss(**arguments)


def test_a_kernel_that_cannot_run_is_refused():
    x, w, t = draw("mixed", 16, 20)
    arguments = {"delta": 0.1, "implementation": "mosaic_tpu"}
    with pytest.raises(ValueError, match="runs on a TPU; the default device here is"):
        linear_as_softmax_loss(x, w, t, **arguments)


@pytest.mark.parametrize("width", [96, 768])
@pytest.mark.parametrize("layout", LAYOUTS)
@every_margin
def test_the_gpu_kernel_lowers_without_a_gpu(monkeypatch, layout, width, margin):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    arguments = {margin: MARGINS[margin], "implementation": "mosaic_gpu"}

    def loss(x, w):
        w = w if layout == "dc" else w.T
        labels = jnp.arange(40)
        return linear_as_softmax_loss(
            x, w, labels, kernel_layout=layout, **arguments
        ).sum()

    x = jax.ShapeDtypeStruct((40, width), jnp.bfloat16)
    w = jax.ShapeDtypeStruct((width, CLASSES + 9), jnp.bfloat16)
    lowered = jax.jit(jax.grad(loss)).trace(x, w).lower(lowering_platforms=("cuda",))
    assert "mosaic_gpu" in lowered.as_text()
    for misfit in (jnp.zeros((40, 8), jnp.float32), jnp.zeros((40, 800), jnp.bfloat16)):
        with pytest.raises(ValueError, match="takes bfloat16 or float16, and up to"):
            loss(misfit, jnp.zeros((misfit.shape[1], 50), misfit.dtype))


@pytest.mark.parametrize("name", ["features", "kernel", "bias"])
def test_integers_are_refused(name):
    arguments = {
        "features": np.ones((3, 4), "f"),
        "kernel": np.ones((4, 5), "f"),
        "labels": np.zeros(3, int),
        "bias": np.zeros(5, "f"),
        "delta": 0.1,
    }
    arguments[name] = arguments[name].astype(int)
    with pytest.raises(TypeError, match=f"`{name}` must be floating point"):
        linear_as_softmax_loss(**arguments)
