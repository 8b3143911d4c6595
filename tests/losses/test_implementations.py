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
SCALES = {"|o| about 5": 1.0, "|o| about 50": 15.0, "|o| about 500": 150.0}


def run(implementation, logits, labels, delta, cotangent, **keywords):
    """Loss and gradient of one implementation."""

    @jax.jit
    def both(logits):
        loss, vjp = jax.vjp(
            lambda o: as_softmax_loss(
                o, labels, delta=delta, implementation=implementation, **keywords
            ),
            logits,
        )
        return loss, vjp(cotangent)[0]

    return both(logits)


def hold_to_the_plain_form(implementation, logits, labels):
    """Compares loss and gradient, for a random cotangent, with the truth."""
    cotangent = np.random.default_rng(7).normal(size=len(labels)).astype(np.float32)
    truth = as_softmax(logits.astype(jnp.float32), labels, np.float32(0.1))
    loss, gradient = run(implementation, logits, labels, 0.1, cotangent)
    plain, plain_gradient = run("reference", logits, labels, 0.1, cotangent)
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


@pytest.mark.parametrize("implementation", LONG_ON_GPU)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
@pytest.mark.parametrize(
    "n_classes", [129, *(pytest.param(c, marks=pytest.mark.long) for c in (5, 127))]
)
def test_error_is_no_worse_than_the_plain_form(implementation, dtype, scale, n_classes):
    logits, labels = draw("mixed", 96, n_classes, scale=scale)
    hold_to_the_plain_form(implementation, jnp.asarray(logits, dtype), labels)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_row_alone(implementation, kind):
    hold_to_the_plain_form(implementation, *map(jnp.asarray, draw(kind, 97, 64)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_left_out_may_hold_anything(implementation, kind):
    logits, labels = draw(kind, 12, 9)
    where = np.arange(12) % 3 != 0
    dirty = np.where(where[:, None], logits, np.nan)
    dirty_labels = np.where(where, labels, -100)
    ones = np.ones(12, np.float32)
    loss, gradient = run(implementation, dirty, dirty_labels, 0.1, ones, where=where)
    expected, exact = run(implementation, logits, labels, 0.1, ones)
    np.testing.assert_array_equal(loss, np.where(where, expected, 0))
    np.testing.assert_array_equal(gradient, np.where(where[:, None], exact, 0))


@pytest.mark.parametrize("implementation", MASKED)
def test_masks_agree_with_the_loss(implementation):
    logits, labels = draw("mixed", 60, 7)
    keywords = {"delta": 0.1, "implementation": implementation}
    kept = as_softmax_kept(logits, labels, **keywords)
    settled = as_softmax_settled(logits, labels, **keywords)
    loss, gradient = run(implementation, logits, labels, 0.1, np.ones(60, np.float32))
    np.testing.assert_array_equal(settled, np.sum(kept, -1) == 1)
    np.testing.assert_array_equal(settled, loss == 0)
    np.testing.assert_array_equal((gradient != 0).any(-1), ~settled)
    assert not (gradient[~kept]).any()


def test_reference_serves_forward_mode_and_hessians():
    logits, labels = draw("partial", 2, 4)

    def f(o):
        return as_softmax_loss(o, labels, delta=0.1, implementation="reference").sum()

    hessian = jax.hessian(f)(jnp.asarray(logits))
    assert np.isfinite(hessian).all()
    _, tangent = jax.jvp(f, (jnp.asarray(logits),), (jnp.ones_like(logits),))
    np.testing.assert_allclose(tangent, 0, atol=1e-6)  # a shift changes nothing


def test_the_fast_form_says_that_it_has_no_forward_mode():
    logits, labels = draw("partial", 2, 4)
    message = 'needs `implementation="reference"`.*custom_vjp'
    with pytest.raises(TypeError, match=message):
        jax.jvp(
            lambda o: as_softmax_loss(o, labels, delta=0.1),
            (jnp.asarray(logits),),
            (jnp.ones_like(logits),),
        )


@pytest.mark.parametrize("implementation", KERNELS)
def test_a_kernel_serves_every_option(implementation):
    logits, labels = draw("mixed", 24, 9)
    class_mask = np.random.default_rng(2).random((24, 9)) < 0.8
    keywords = {"class_mask": class_mask, "where": np.arange(24) % 4 != 0}
    ones = np.ones(24, np.float32)
    delta = np.linspace(0, 1, 24)
    got = run(implementation, logits, labels, delta, ones, **keywords)
    expected = run("xla", logits, labels, delta, ones, **keywords)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    loss = as_softmax_loss(
        logits.T.reshape(9, 4, 6),
        labels.reshape(4, 6),
        delta=0.1,
        axis=0,
        implementation=implementation,
    )
    np.testing.assert_allclose(
        loss.reshape(24), as_softmax_loss(logits, labels, delta=0.1), rtol=1e-5
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
def test_the_gpu_kernel_lowers_without_a_gpu(monkeypatch, dtype, n_classes):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")

    @jax.value_and_grad
    def f(logits):
        return as_softmax_loss(
            logits, jnp.arange(4), delta=0.1, implementation="mosaic_gpu"
        ).sum()

    logits = jax.ShapeDtypeStruct((4, n_classes), dtype)
    lowered = jax.jit(f).trace(logits).lower(lowering_platforms=("cuda",))
    assert "mosaic_gpu" in lowered.as_text()
