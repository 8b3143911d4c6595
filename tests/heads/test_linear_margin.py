"""Margin losses on cosines by blocks: published values, the plain form, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from oracle import assert_no_worse

from as_softmax_jax.heads import (
    cosine_logits,
    linear_margin_softmax_loss,
    margin_row_statistics,
    margin_row_statistics_on_mesh,
)
from as_softmax_jax.heads._blocks import CLASSES
from as_softmax_jax.losses import ldam_margins, margin_softmax_loss

FEATURES = np.array([[-0.8, 1.4, -0.1], [2.3, -0.8, -0.1], [0.1, 0.9, 1.0]])
KERNEL = np.array([[-1.8, 1.2, -1.1, 0.6], [-0.4, 0.0, 0.2, -0.3], [-0.1, 1.6, 0, 2.7]])
LABELS = np.array([2, 1, 3])

# Own keywords, losses, and gradients of features and kernel: make_head_values.py.
GOLDEN = {
    "am_softmax": (
        {"scale": 30.0, "cosine": 0.35},
        [0.7889686846, 0.9561799643, 9.721480979],
        [
            [-1.633214951, -0.9878684065, -0.7644380809],
            [-0.5218067919, -1.648703531, 1.18807203],
            [8.588892716, 2.782774018, -3.363385888],
        ],
        [
            [-1.81197137, -10.38441713, -2.001191192, 6.723332582],
            [8.255251448, 13.03747534, -11.00655155, -10.00130006],
            [-0.4055211237, 7.788312849, 0.9063370155, -2.605329469],
        ],
    ),
    "arcface": (
        {"angle": 0.5},
        [6.54335709, 8.738046967, 26.49524716],
        [
            [0.9799063359, 0.3154197561, -3.423374102],
            [-2.264326602, -6.539205312, 0.2341306487],
            [15.93355515, 13.84010688, -14.04945171],
        ],
        [
            [-7.073605919, -33.41136994, -9.993958597, 22.78443301],
            [32.22699677, 33.73948508, -54.96677228, -29.19148258],
            [-1.583080543, 25.05852746, 4.526249364, -8.306705401],
        ],
    ),
    "arcface_straight_through": (
        {"angle": 0.5, "straight_through": True},
        [6.54335709, 8.738046967, 26.49524716],
        [
            [-6.375775184, -3.856459315, -2.984228937],
            [-1.807884993, -5.712203094, 4.116269905],
            [18.32407168, 5.936940135, -7.17565329],
        ],
        [
            [-7.073605919, -29.82154416, -7.812285415, 22.3043381],
            [32.22699677, 31.85010309, -42.96756978, -24.04846588],
            [-1.583080543, 22.36615812, 3.538172742, -7.628571342],
        ],
    ),
    "elastic_arcface": (
        {"angle": np.array([0.47, 0.56, 0.51]), "beyond": "plain"},
        [4.67450287, 12.5752727, 27.11976446],
        [
            [0.7565833844, 0.1906581815, -3.383452535],
            [-2.270549832, -6.550863239, 0.184259768],
            [15.91047937, 13.91639657, -14.11580485],
        ],
        [
            [-7.017711057, -33.46121454, -9.85104709, 22.7923188],
            [31.97234256, 33.76571908, -54.18075899, -29.24223574],
            [-1.570571213, 25.09591091, 4.46152495, -8.314097037],
        ],
    ),
    "elastic_cosface": (
        {"cosine": np.array([0.32, 0.41, 0.36])},
        [0.1961767105, 4.852828354, 21.37903142],
        [
            [-1.137373446, -0.6879531182, -0.5323560901],
            [-1.794059867, -5.668521152, 4.084792267],
            [18.32407167, 5.936940132, -7.175653286],
        ],
        [
            [-1.261859351, -29.66895313, -1.39363226, 22.14590408],
            [5.748968447, 31.76979201, -7.664977432, -23.99450767],
            [-0.2824054676, 22.25171485, 0.6311740309, -7.587368425],
        ],
    ),
    "ldam": (
        {"scale": 30.0},
        [0.560492914, 0.05172459135, 14.22142166],
        [
            [-1.284193353, -0.7767587727, -0.6010759951],
            [-0.04272630742, -0.1349982694, 0.09728108483],
            [8.589402194, 2.782939088, -3.363585398],
        ],
        [
            [-1.424749135, -5.096972433, -1.573532254, 1.233180853],
            [6.491086202, 10.25505886, -8.654427398, -8.131965394],
            [-0.3188603748, 3.822729325, 0.7126509025, -1.1775919],
        ],
    ),
    "as_softmax on am_softmax": (
        {"scale": 4.0, "cosine": 0.35, "delta": 0.1},
        [0.7054390578, 0.7250462505, 1.538015224],
        [
            [-0.2019678168, -0.1221625051, -0.09453253694],
            [-0.05827949418, -0.1841402015, 0.1326932459],
            [0.8992457752, 0.2913527314, -0.3521420358],
        ],
        [
            [-0.2240732621, -1.127487651, -0.247472689, 0.7457183082],
            [1.020866638, 1.386192177, -1.36109979, -1.06135687],
            [-0.05014783486, 0.8456157381, 0.1120800222, -0.2836437207],
        ],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_float64_values_and_gradients(name):
    keywords, expected, by_features, by_kernel = GOLDEN[name]
    with jax.enable_x64(True):
        if name == "ldam":
            counts = np.array([100, 20, 5, 1])
            keywords = keywords | {"cosine": ldam_margins(counts)[LABELS]}

        def losses(features, kernel):
            return linear_margin_softmax_loss(features, kernel, LABELS, **keywords)

        operands = jnp.asarray(FEATURES), jnp.asarray(KERNEL)
        loss, back = jax.vjp(losses, *operands)
        np.testing.assert_allclose(loss, expected, rtol=1e-9, atol=1e-24)
        for got, exact in zip(back(jnp.ones(3)), (by_features, by_kernel), strict=True):
            np.testing.assert_allclose(got, exact, rtol=1e-8, atol=1e-11)


def draw(n=81, d=24, c=2 * CLASSES + 100, seed=0):
    """Features of which a third are near their label's class."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(d, c))
    t = rng.integers(0, c, n)
    x = rng.normal(size=(n, d))
    x[: n // 3] = 0.3 * x[: n // 3] + w[:, t[: n // 3]].T
    return x, w, t.astype(np.int32)


def everything(implementation, x, w, t, dtype=np.float32, layout="dc", **keywords):
    """The loss, and the gradients of features, kernel, scale and both margins."""
    n = len(t)
    cotangent = np.random.default_rng(7).normal(size=n)
    own = np.full(n, 16.0), np.linspace(-0.2, 0.6, n), np.linspace(0.3, 0.0, n)

    @jax.jit
    def all_of_them(*operands):
        def f(x, w, scale, angle, cosine):
            return linear_margin_softmax_loss(
                x,
                w,
                t,
                scale=scale,
                angle=angle,
                cosine=cosine,
                kernel_layout=layout,
                implementation=implementation,
                **keywords,
            )

        loss, back = jax.vjp(f, *operands)
        return loss, *back(cotangent.astype(loss.dtype))

    w = w if layout == "dc" else w.T
    wide = dtype if dtype != jnp.bfloat16 else np.float32
    operands = (
        *(jnp.asarray(a, dtype) for a in (x, w)),
        *(a.astype(wide) for a in own),
    )
    return all_of_them(*operands)


@pytest.mark.parametrize(
    ("keywords", "layout", "dtype"),
    [
        ({}, "dc", jnp.float32),
        ({"logit_margin": 4.0, "filter_threshold": 0.4}, "cd", jnp.float32),
        ({"delta": 0.1, "where": np.arange(81) % 3 != 1}, "dc", jnp.bfloat16),
        ({"sub_centers": 2, "logit_margin": 4.0}, "dc", jnp.float32),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ({"logit_margin": 4.0}, "dc", jnp.bfloat16),
                ({"delta": 0.1, "filter_threshold": 0.4}, "dc", jnp.float32),
                ({"beyond": "plain", "class_mask": np.arange(2148) != 5}, "cd", "f"),
                ({"beyond": "clip", "straight_through": True}, "dc", "f"),
                ({"sub_centers": 3, "filter_threshold": 0.4}, "cd", "f"),
                ({"sub_centers": 4, "delta": 0.1}, "cd", jnp.bfloat16),
            )
        ),
    ],
)
def test_error_is_no_worse_than_the_plain_form(keywords, layout, dtype):
    x, w, t = draw()
    # A class has its columns side by side; those of the label's column are its own.
    t //= keywords.get("sub_centers", 1)
    x, w = (np.asarray(jnp.asarray(a, dtype), np.float64) for a in (x, w))
    with jax.enable_x64(True):
        truth = everything("reference", x, w, t, np.float64, layout, **keywords)
        truth = [np.asarray(part) for part in truth]
        # By blocks, in float64: the same to its rounding.
        fast = everything("xla", x, w, t, np.float64, layout, **keywords)
        for ours, exact in zip(fast, truth, strict=True):
            np.testing.assert_allclose(ours, exact, rtol=1e-9, atol=1e-10)
    fast = everything("xla", x, w, t, dtype, layout, **keywords)
    plain = everything("reference", x, w, t, dtype, layout, **keywords)
    # The gradient by the logits is rounded to the operands' dtype, and scale's follows.
    slack = 4 * float(jnp.finfo(dtype).eps)
    for ours, naive, exact in zip(fast, plain, truth, strict=True):
        assert ours.dtype == naive.dtype
        assert_no_worse(ours, naive, exact, slack=slack)


def test_vectors_of_0_and_a_cosine_of_1_or_minus_1_have_finite_gradients():
    x, w, t = draw(n=6, c=40)
    x[0], w[:, t[1]] = 0, 0
    x[2], x[3] = 3 * w[:, t[2]], -2 * w[:, t[3]]
    loss, *found = everything("xla", x, w, t)
    assert np.isfinite(loss).all()
    assert all(np.isfinite(part).all() for part in found)
    d_x, d_w = found[:2]
    assert (d_x[0] == 0).all()
    assert (d_w[:, t[1]] == 0).all()


@pytest.mark.parametrize("bad", ["label", "feature", "scale", "angle"])
def test_a_bad_row_is_nan_alone(bad):
    x, w, t = draw(n=20, c=40)
    own = {"scale": np.full(20, 9, "f"), "angle": np.full(20, 0.3, "f")}
    if bad == "label":
        t[7] = 40
    elif bad == "feature":
        x[7, 3] = np.nan
    else:
        own[bad][7] = -7

    def losses(x, own):
        kernel = jnp.asarray(w, jnp.float32)
        return linear_margin_softmax_loss(x, kernel, t, **own)

    @jax.jit
    def twice(x, own):
        loss, back = jax.vjp(losses, x, own)
        return loss, back(jnp.ones(20)), back(jnp.arange(20.0).at[7].set(0))

    loss, (d_x, _), (others, d_own) = twice(jnp.asarray(x, jnp.float32), own)
    rows = np.arange(20) == 7
    np.testing.assert_array_equal(np.isnan(loss), rows)
    np.testing.assert_array_equal(np.isnan(d_x).any(-1), rows)
    # Where nothing is asked of it, it spoils nothing.
    assert np.isfinite(others).all()
    assert np.isfinite(d_own["scale"]).all()


def test_a_small_loss_keeps_its_digits():
    x, w = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0], [1.0, 0.0]])
    # Cosines 0 and 1: log(1 + e^(0 - 64 (1 - 0.35))).
    loss = linear_margin_softmax_loss(x, w, jnp.array([1]), cosine=0.35)
    np.testing.assert_allclose(loss, np.exp(-64 * 0.65), rtol=1e-5)


@pytest.mark.parametrize("keywords", [{}, {"delta": 0.1, "filter_threshold": 0.5}])
def test_eight_devices_are_one(keywords):
    x, w, t = draw(n=32, c=1200)
    x, w = jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)
    w = jnp.pad(w, ((0, 0), (0, 8)))
    mask = np.arange(1208) < 1200
    scale, angle = np.full(32, 16, "f"), np.linspace(0, 0.5, 32, dtype="f")
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    rows, split = P("data"), P(None, "model")

    def loss(x, w, scale, angle, t, mask, axis_name=None):
        return linear_margin_softmax_loss(
            x,
            w,
            t,
            scale=scale,
            angle=angle,
            class_mask=mask,
            axis_name=axis_name,
            **keywords,
        )

    spread = jax.shard_map(
        lambda *arrays: loss(*arrays, axis_name="model"),
        mesh=mesh,
        in_specs=(rows, split, rows, rows, rows, P("model")),
        out_specs=rows,
    )

    def both(f):
        def total(*operands):
            return jnp.vdot(f(*operands, t, mask), jnp.arange(32.0))

        run = jax.jit(jax.value_and_grad(total, (0, 1, 2, 3)))
        return run, run(x, w, scale, angle)

    run, got = both(spread)
    _, expected = both(loss)
    for ours, alone in zip(
        jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-4)
    assert not np.any(got[1][1][:, 1200:])
    text = run.lower(x, w, scale, angle).compile().as_text()
    assert "all-gather" not in text
    assert "all-to-all" not in text


@pytest.mark.parametrize("sub_centers", [1, 3])
def test_rows_and_classes_on_a_mesh(sub_centers):
    x, w, t = draw(n=16, c=37 * sub_centers)
    t //= sub_centers
    x, w = jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32)
    own = {"scale": np.linspace(8, 16, 16, dtype="f"), "angle": np.float32(0.3)}
    own |= {"where": np.arange(16) % 5 > 0, "logit_margin": 2.0}
    own |= {"beyond": "clip", "filter_threshold": 0.6, "sub_centers": sub_centers}
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def both(function, *mesh):
        def total(x, w):
            found = function(*mesh, x, w, t, **own)
            lead = jnp.where(own["where"], found.label_lead, 0)
            return jnp.sum(found.loss), found._replace(label_lead=lead)

        return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(x, w)

    spread = both(margin_row_statistics_on_mesh, mesh)
    alone = both(margin_row_statistics)
    assert 0 < np.mean(alone[0][1].settled[own["where"]]) < 1
    for ours, expected in zip(*map(jax.tree.leaves, (spread, alone)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_a_prediction_is_right_before_the_margin():
    x, w, t = draw(n=40, c=37)
    found = margin_row_statistics(x, w, t, scale=8.0, angle=0.4)
    cosines = cosine_logits(x, w)
    right = np.argmax(cosines, axis=1) == t
    np.testing.assert_array_equal(found.correct, right)
    assert (right & (found.label_lead < 0)).any()


@pytest.mark.long
@pytest.mark.parametrize("sub_centers", [1, 3])
def test_second_derivatives_are_those_of_the_plain_form(sub_centers):
    x, w, t = draw(n=18, d=5, c=30 * sub_centers)
    t //= sub_centers
    options = {"angle": 0.3, "sub_centers": sub_centers}

    def penalty(implementation):
        def total(operands):
            x, w, scale = operands
            return linear_margin_softmax_loss(
                x, w, t, scale=scale, implementation=implementation, **options
            ).sum()

        def squares(operands):
            gradient = jax.grad(total)(operands)
            return sum(jnp.sum(g**2) for g in gradient)

        operands = (*(jnp.asarray(a, jnp.float32) for a in (x, w)), np.full(18, 4, "f"))
        return jax.jit(jax.grad(squares))(operands)

    for ours, plain in zip(penalty("xla"), penalty("reference"), strict=True):
        size = np.abs(plain).max()
        np.testing.assert_allclose(ours / size, plain / size, atol=2e-5)


def test_it_is_the_dense_loss_of_its_cosines():
    x, w, t = (jnp.asarray(a) for a in draw(n=12, c=50))
    x, w = x.reshape(3, 4, -1).astype(jnp.float32), w.astype(jnp.float32)
    t = t.reshape(3, 4)
    loss = linear_margin_softmax_loss(x, w, t, angle=0.3, beyond="clip")
    dense = margin_softmax_loss(cosine_logits(x, w), t, angle=0.3, beyond="clip")
    # Losses of 1e-12 are as exact as the logits, of 64, that they are exponentials of.
    np.testing.assert_allclose(loss, dense, rtol=64 * 2.0**-20)


@pytest.mark.long
def test_no_array_has_the_size_of_the_cosines():
    n, d, c = 512, 32, 20_000
    x, w = jnp.ones((n, d)), jnp.ones((d, c))

    def loss(x, w, t):
        return linear_margin_softmax_loss(x, w, t, angle=0.5).sum()

    program = jax.jit(jax.grad(loss, (0, 1))).lower(x, w, jnp.zeros(n, int)).compile()
    assert program.memory_analysis().temp_size_in_bytes < 0.2 * n * c * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 0.0}, "`scale` must be positive"),
        ({"angle": 4.0}, "`angle` must be in"),
        ({"cosine": np.inf}, "`cosine` must be finite"),
        ({"beyond": "bend"}, "`beyond` must be one of"),
        ({"filter_threshold": 1.5}, r"`filter_threshold` must be in \[0, 1\]"),
        ({"delta": 0.1, "logit_margin": 1.0}, "takes one margin"),
        ({"scale": np.ones(2, "f")}, "`scale` must broadcast"),
        ({"implementation": "mosaic_tpu"}, "`implementation` must be one of"),
        ({"implementation": "reference", "axis_name": "model"}, "do not go together"),
    ],
)
def test_what_misfits_is_refused(changes, message):
    given = {"features": np.ones((3, 4), "f"), "kernel": np.ones((4, 5), "f")}
    labels = np.zeros(3, int)
    if "axis_name" in changes:
        mesh = jax.make_mesh((1,), ("model",), axis_types=(AxisType.Auto,))
        mapped = jax.shard_map(
            lambda: linear_margin_softmax_loss(**given, labels=labels, **changes),
            mesh=mesh,
            in_specs=(),
            out_specs=P(),
        )
        with pytest.raises(ValueError, match=message):
            mapped()
        return
    with pytest.raises(ValueError, match=message):
        linear_margin_softmax_loss(**given, labels=labels, **changes)
