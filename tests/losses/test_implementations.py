"""One battery over every implementation of AS-Softmax.

The plain form is the reference in the same dtype; the truth is float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import as_softmax, assert_no_worse, draw

from as_softmax_jax import as_softmax_kept, as_softmax_loss, as_softmax_settled, kernels
from as_softmax_jax.losses._as_softmax import IMPLEMENTATIONS, KERNELS, MASKED

KINDS = ("hard", "partial", "settled", "mixed")
FAST = [name for name in IMPLEMENTATIONS if name != "reference"]
# Interpreting a GPU kernel takes seconds.
LONG_ON_GPU = [
    pytest.param(name, marks=pytest.mark.long) if name == "mosaic_gpu" else name
    for name in FAST
]
DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
# Of 1.9 no two numbers of bfloat16 at 500 are apart.
MARGINS = {"logit_margin": 1.9, "delta": 0.1}
every_margin = pytest.mark.parametrize("margin", MARGINS)
quick_in_logits = pytest.mark.parametrize(
    "margin", ["logit_margin", pytest.param("delta", marks=pytest.mark.long)]
)
SCALES = {"|o| about 5": 1.0, "|o| about 50": 15.0, "|o| about 500": 150.0}


def draw_for(margin, kind, n, c, **keywords):
    """Logits and labels whose rows are of one kind by the margin of `MARGINS`."""
    logit_margin = MARGINS[margin] if margin == "logit_margin" else None
    return draw(kind, n, c, logit_margin=logit_margin, **keywords)


def run(implementation, logits, labels, cotangent, **keywords):
    """Loss and gradient of one implementation."""

    @jax.jit
    def both(logits):
        loss, vjp = jax.vjp(
            lambda o: as_softmax_loss(
                o, labels, implementation=implementation, **keywords
            ),
            logits,
        )
        return loss, vjp(cotangent)[0]

    return both(logits)


def hold_to_the_plain_form(implementation, logits, labels, **margin):
    """Compares loss and gradient, for a random cotangent, with the truth."""
    cotangent = np.random.default_rng(7).normal(size=len(labels)).astype(np.float32)
    seen = {name: np.float32(value) for name, value in margin.items()}
    truth = as_softmax(logits.astype(jnp.float32), labels, **seen)
    loss, gradient = run(implementation, logits, labels, cotangent, **margin)
    plain, plain_gradient = run("reference", logits, labels, cotangent, **margin)
    true_gradient = truth.gradient * cotangent[:, None]
    slack = 4 * np.finfo(np.float32).eps
    assert gradient.dtype == logits.dtype
    assert_no_worse(loss, plain, truth.loss, slack=slack, rows=truth.clear)
    if implementation in KERNELS:
        # Rounded when it is formed, and again when the cotangent has scaled it.
        slack = max(slack, float(jnp.finfo(logits.dtype).eps))
    assert_no_worse(
        gradient, plain_gradient, true_gradient, slack=slack, rows=truth.clear
    )
    return truth


@quick_in_logits
@pytest.mark.parametrize("implementation", LONG_ON_GPU)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize(
    "n_classes", [129, *(pytest.param(c, marks=pytest.mark.long) for c in (5, 127))]
)
def test_error_is_no_worse_than_the_plain_form(
    implementation, dtype, scale, n_classes, margin
):
    logits, labels = draw_for(margin, "mixed", 96, n_classes, scale=scale)
    given = {margin: MARGINS[margin]}
    hold_to_the_plain_form(implementation, jnp.asarray(logits, dtype), labels, **given)


@every_margin
@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_row_alone(implementation, kind, margin):
    logits, labels = map(jnp.asarray, draw_for(margin, kind, 97, 64))
    given = {margin: MARGINS[margin]}
    truth = hold_to_the_plain_form(implementation, logits, labels, **given)
    shares = {"hard": truth.kept.all(-1).mean(), "settled": truth.settled.mean()}
    shares["partial"] = 1 - sum(shares.values())
    wanted = {name: 1 / 3 if kind == "mixed" else int(name == kind) for name in shares}
    assert shares == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("implementation", LONG_ON_GPU)
@pytest.mark.parametrize("margin", [0.0, 1e-3, 0.7, 5.0, 3e38, np.inf, "by row"])
def test_any_margin_between_logits(implementation, margin):
    logits, labels = draw("mixed", 97, 64, logit_margin=1.0)
    logits = np.round(logits, 1)  # with ties
    if margin == "by row":
        margin = np.linspace(0, 6, 97, dtype=np.float32)
        margin[::7] = np.inf
    hold_to_the_plain_form(
        implementation, jnp.asarray(logits), labels, logit_margin=margin
    )


@quick_in_logits
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_left_out_may_hold_anything(implementation, kind, margin):
    logits, labels = draw_for(margin, kind, 12, 9)
    given = {margin: MARGINS[margin]}
    where = np.arange(12) % 3 != 0
    dirty = np.where(where[:, None], logits, np.nan)
    dirty_labels = np.where(where, labels, -100)
    ones = np.ones(12, np.float32)
    loss, gradient = run(
        implementation, dirty, dirty_labels, ones, where=where, **given
    )
    expected, exact = run(implementation, logits, labels, ones, **given)
    np.testing.assert_array_equal(loss, np.where(where, expected, 0))
    np.testing.assert_array_equal(gradient, np.where(where[:, None], exact, 0))


@every_margin
@pytest.mark.parametrize("implementation", MASKED)
def test_masks_agree_with_the_loss(implementation, margin):
    logits, labels = draw_for(margin, "mixed", 60, 7)
    keywords = {margin: MARGINS[margin], "implementation": implementation}
    kept = as_softmax_kept(logits, labels, **keywords)
    settled = as_softmax_settled(logits, labels, **keywords)
    ones = np.ones(60, np.float32)
    loss, gradient = run(
        implementation, logits, labels, ones, **{margin: MARGINS[margin]}
    )
    np.testing.assert_array_equal(settled, np.sum(kept, -1) == 1)
    np.testing.assert_array_equal(settled, loss == 0)
    np.testing.assert_array_equal((gradient != 0).any(-1), ~settled)
    assert not (gradient[~kept]).any()


@pytest.mark.parametrize(
    ("implementation", "margin"),
    [("reference", "delta"), ("reference", "logit_margin"), ("xla", "logit_margin")],
)
def test_forward_mode_and_hessians(implementation, margin):
    logits, labels = draw_for(margin, "partial", 2, 4)
    keywords = {margin: MARGINS[margin], "implementation": implementation}

    def f(o):
        return as_softmax_loss(o, labels, **keywords).sum()

    hessian = jax.hessian(f)(jnp.asarray(logits))
    np.testing.assert_allclose(hessian.sum(-1), 0, atol=1e-6)
    assert np.any(hessian)
    _, tangent = jax.jvp(f, (jnp.asarray(logits),), (jnp.ones_like(logits),))
    np.testing.assert_allclose(tangent, 0, atol=1e-6)  # a shift changes nothing


def test_the_fast_form_of_delta_says_that_it_has_no_forward_mode():
    logits, labels = draw("partial", 2, 4)
    message = 'needs `implementation="reference"`.*custom_vjp'
    with pytest.raises(TypeError, match=message):
        jax.jvp(
            lambda o: as_softmax_loss(o, labels, delta=0.1),
            (jnp.asarray(logits),),
            (jnp.ones_like(logits),),
        )


@pytest.mark.parametrize("implementation", KERNELS)
@pytest.mark.parametrize(
    "margin", ["logit_margin", pytest.param("delta", marks=pytest.mark.long)]
)
def test_a_kernel_serves_every_option(implementation, margin):
    logits, labels = draw_for(margin, "mixed", 24, 9)
    class_mask = np.random.default_rng(2).random((24, 9)) < 0.8
    keywords = {"class_mask": class_mask, "where": np.arange(24) % 4 != 0}
    ones = np.ones(24, np.float32)
    keywords[margin] = np.linspace(0, 10 * MARGINS[margin], 24)
    got = run(implementation, logits, labels, ones, **keywords)
    expected = run("xla", logits, labels, ones, **keywords)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    given = {margin: MARGINS[margin]}
    loss = as_softmax_loss(
        logits.T.reshape(9, 4, 6),
        labels.reshape(4, 6),
        axis=0,
        implementation=implementation,
        **given,
    )
    np.testing.assert_allclose(
        loss.reshape(24), as_softmax_loss(logits, labels, **given), rtol=1e-5
    )


def test_the_choice_is_logged_when_asked(caplog):
    logits, labels = draw("mixed", 4, 5)
    with caplog.at_level("DEBUG", "as_softmax_jax"):
        as_softmax_loss(logits, labels, delta=0.1)
    assert caplog.messages == ["as_softmax_loss on cpu: implementation xla"]


def test_a_kernel_that_cannot_run_is_refused():
    logits, labels = draw("mixed", 4, 5)
    arguments = {"delta": 0.1, "implementation": "mosaic_tpu"}
    wide = np.zeros((1, 32_769), np.float32)
    with pytest.raises(ValueError, match="runs on a TPU; the default device here is"):
        as_softmax_loss(logits, labels, **arguments)
    with (
        kernels.interpreted("mosaic_tpu"),
        pytest.raises(ValueError, match="up to 32768 classes"),
    ):
        as_softmax_loss(wide, labels[:1], **arguments)
    with pytest.raises(ValueError, match="`implementation` must be one of"):
        as_softmax_kept(logits, labels, **arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("n_classes", [10, 300, 1024, 49_152])
@every_margin
def test_the_gpu_kernel_lowers_without_a_gpu(monkeypatch, dtype, n_classes, margin):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    @jax.value_and_grad
    def f(logits):
        return as_softmax_loss(
            logits,
            jnp.arange(4),
            implementation="mosaic_gpu",
            **{margin: MARGINS[margin]},
        ).sum()

    logits = jax.ShapeDtypeStruct((4, n_classes), dtype)
    lowered = jax.jit(f).trace(logits).lower(lowering_platforms=("cuda",))
    assert "mosaic_gpu" in lowered.as_text()
