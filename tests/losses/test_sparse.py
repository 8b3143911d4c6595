"""Sparse-Softmax, sparsemax and entmax: their numbers, limits and exact zeros."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import brentq

from as_softmax_jax.losses import (
    entmax_loss,
    entmax_probs,
    entmax_settled,
    focal_loss,
    softmax_loss,
    sparse_softmax_loss,
    sparsemax_loss,
    sparsemax_probs,
    sparsemax_settled,
)
from as_softmax_jax.reference import _sparse as reference

exp, log = np.exp, np.log
LABELS = jnp.array([0], jnp.int32)
ALPHAS = (1.05, 1.3, 1.5, 1.7, 2.0, 3.0, 6.0)


def random(rows=60, classes=9, scale=1.0):
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(rows, classes)) * scale).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(rng.integers(0, classes, rows, np.int32))


@functools.cache
def program(loss, **keywords):
    """The jitted f(logits, labels) -> loss, gradient; compiled once a shape."""

    def f(logits, labels):
        value, vjp = jax.vjp(lambda o: loss(o, labels, **keywords), logits)
        return value, vjp(jnp.ones_like(value))[0]

    return jax.jit(f)


def loss_and_gradient(loss, logits, labels, **keywords):
    return program(loss, **keywords)(logits, labels)


def true_entmax(o, alpha):
    """p* in float64: the threshold is a root that SciPy finds."""
    z = (alpha - 1) * (np.asarray(o, np.float64) - np.max(o))

    def probs(tau):
        return np.maximum(z - tau, 0) ** (1 / (alpha - 1))

    tau = brentq(lambda t: probs(t).sum() - 1, -1, 0, xtol=1e-300, rtol=1e-15)
    return probs(tau) / probs(tau).sum()


class TestSparseSoftmax:
    def test_keeps_the_strongest_and_pulls_a_label_outside_with_full_force(self):
        logits = jnp.array([[0.0, 3.0, 1.0, 2.0]])
        loss, gradient = loss_and_gradient(sparse_softmax_loss, logits, LABELS, k=2)
        total = exp(3.0) + exp(2.0)
        np.testing.assert_allclose(loss, [log(total)], rtol=1e-6)
        expected = [[-1, exp(3.0) / total, 0.0, exp(2.0) / total]]
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
        assert gradient[0, 2] == 0

    def test_all_that_tie_with_the_k_th_are_kept(self):
        logits = jnp.array([[0.0, 1.0, 1.0, 1.0, -1.0]])
        loss = sparse_softmax_loss(logits, LABELS, k=2)
        np.testing.assert_allclose(loss, [log(3 * exp(1.0))], rtol=1e-6)

    @pytest.mark.parametrize("k", [9, 10, 1000])
    def test_k_of_every_class_is_softmax(self, k):
        logits, labels = random()
        loss = sparse_softmax_loss(logits, labels, k=k)
        np.testing.assert_allclose(loss, softmax_loss(logits, labels), 1e-6, 1e-6)

    def test_k_counts_valid_classes_alone(self):
        logits = jnp.array([[0.0, 9.0, 1.0, 2.0, 0.5]])
        mask = jnp.array([True, False, True, True, True])
        loss = sparse_softmax_loss(logits, LABELS, k=2, class_mask=mask)
        np.testing.assert_allclose(loss, [log(exp(1.0) + exp(2.0))], rtol=1e-6)

    @pytest.mark.parametrize(
        ("error", "k", "message"),
        [
            (ValueError, 0, "`k` must be at least 1; got 0."),
            (TypeError, 2.0, "`k` must be an integer; got float."),
            (TypeError, True, "`k` must be an integer; got bool."),
        ],
    )
    def test_k_is_a_positive_integer(self, error, k, message):
        with pytest.raises(error, match=message):
            sparse_softmax_loss(*random(), k=k)

    def test_k_is_static(self):
        with pytest.raises(TypeError, match=r"`k` must be a Python integer.*static"):
            jax.jit(lambda k: sparse_softmax_loss(*random(), k=k))(2)


class TestSparsemax:
    def test_two_classes_are_a_huber_hinge(self):
        # 0 from a lead of 1 on, (1 - lead)^2 / 4 between, -lead below -1.
        lead = np.array([2.0, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0], np.float32)
        logits = jnp.stack([jnp.asarray(lead), jnp.zeros(7)], axis=-1)
        loss = sparsemax_loss(logits, jnp.zeros(7, jnp.int32))
        expected = np.where(
            lead >= 1, 0, np.where(lead <= -1, -lead, (1 - lead) ** 2 / 4)
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-6)

    @pytest.mark.standard_promotion(reason="optax's sparsemax mixes dtypes")
    @pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
    def test_equals_optax(self, scale):
        logits, labels = random(scale=scale)
        loss, gradient = loss_and_gradient(sparsemax_loss, logits, labels)
        expected, slope = loss_and_gradient(
            optax.losses.multiclass_sparsemax_loss, logits, labels
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-6)

    def test_is_entmax_of_2(self):
        logits, labels = random()
        expected = sparsemax_loss(logits, labels)
        by_sorting = entmax_loss(logits, labels, alpha=2.0)
        np.testing.assert_array_equal(by_sorting, expected)
        traced = jax.jit(lambda alpha: entmax_loss(logits, labels, alpha=alpha))
        by_bisection = traced(jnp.full(60, 2.0))
        np.testing.assert_allclose(by_bisection, expected, rtol=1e-5, atol=1e-6)


class TestEntmax:
    @pytest.mark.parametrize("alpha", ALPHAS)
    @pytest.mark.parametrize("scale", [0.3, 2.0, 20.0])
    def test_gradient_is_the_true_p_less_onehot(self, alpha, scale):
        logits, labels = random(scale=scale)
        _, gradient = loss_and_gradient(entmax_loss, logits, labels, alpha=alpha)
        truth = np.stack([true_entmax(o, alpha) for o in np.asarray(logits)])
        truth[np.arange(60), labels] -= 1
        np.testing.assert_allclose(gradient, truth, rtol=1e-5, atol=1e-6)
        # Exact zeros, apart from shares below the rounding of the largest.
        others = truth * (truth > 0)
        assert (np.asarray(gradient)[others > 1e-6] > 0).all()
        assert (np.asarray(gradient)[truth == 0] <= 1e-6).all()

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_value_is_the_maximum_that_defines_it(self, alpha):
        logits, labels = random(scale=2.0)
        loss, _ = loss_and_gradient(entmax_loss, logits, labels, alpha=alpha)
        for i in range(60):
            o = np.asarray(logits[i], np.float64)
            p = true_entmax(o, alpha)
            entropy = (1 - (p**alpha).sum()) / (alpha * (alpha - 1))
            expected = p @ o + entropy - o[int(labels[i])]
            np.testing.assert_allclose(loss[i], expected, rtol=1e-5, atol=1e-6)

    def test_near_1_it_is_softmax(self):
        logits, labels = random()
        loss, gradient = loss_and_gradient(entmax_loss, logits, labels, alpha=1 + 1e-4)
        expected, slope = loss_and_gradient(softmax_loss, logits, labels)
        np.testing.assert_allclose(loss, expected, rtol=2e-3, atol=1e-4)
        np.testing.assert_allclose(gradient, slope, atol=1e-3)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_settles_exactly_from_its_margin_on(self, alpha):
        # 1 / (alpha - 1) rounds for most alphas: a lead a little to each side.
        lead = np.float32(1 / (alpha - 1)) * np.array([1.001, 0.98], np.float32)
        logits = jnp.stack([jnp.asarray(lead), jnp.zeros(2), jnp.full(2, -1.0)], -1)
        labels = jnp.zeros(2, jnp.int32)
        loss, gradient = loss_and_gradient(entmax_loss, logits, labels, alpha=alpha)
        settled = entmax_settled(logits, labels, alpha=alpha)
        np.testing.assert_array_equal(settled, [True, False])
        assert loss[0] == 0
        np.testing.assert_array_equal(gradient[0], 0)
        assert (loss[1] > 0) or alpha < 1.1  # (0.02)^20 is below float32
        if alpha > 1.1:
            assert gradient[1, 0] < 0

    def test_settles_exactly_at_its_margin(self):
        logits = jnp.array([[1.0, 0.0], [np.nextafter(np.float32(1), 0), 0.0]])
        labels = jnp.zeros(2, jnp.int32)
        np.testing.assert_array_equal(sparsemax_settled(logits, labels), [True, False])
        settled = entmax_settled(2 * logits, labels, alpha=1.5)
        np.testing.assert_array_equal(settled, [True, False])
        loss, gradient = loss_and_gradient(sparsemax_loss, logits, labels)
        assert loss[0] == 0
        np.testing.assert_array_equal(gradient[0], 0)
        assert gradient[1, 0] < 0

    @pytest.mark.parametrize("alpha", [1.5, 2.0, 1.3])
    def test_hessian_is_that_of_the_closed_form(self, alpha):
        # p = [z - tau]^(1 / (alpha - 1)): dp = s (do - <s, do> / sum s), s = p^(2-a).
        logits = jnp.array([0.4, 0.1, -0.3, -9.0])
        label = jnp.int32(1)
        hessian = jax.jit(jax.hessian(lambda o: entmax_loss(o, label, alpha=alpha)))(
            logits
        )
        p = true_entmax(np.asarray(logits), alpha)
        s = np.where(p > 0, np.where(p > 0, p, 1) ** (2 - alpha), 0)
        expected = np.diag(s) - np.outer(s, s) / s.sum()
        np.testing.assert_allclose(hessian, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("classes", [1, 2, 4097])
    @pytest.mark.parametrize("alpha", [1.5, 2.0, 1.25])
    def test_equal_logits_share_equally(self, classes, alpha):
        logits = jnp.full((1, classes), 7.0)
        _, gradient = loss_and_gradient(entmax_loss, logits, LABELS, alpha=alpha)
        expected = np.full((1, classes), 1 / classes)
        expected[0, 0] = 1 / classes - 1
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("alpha", [1.0, 0.5, -1.0, np.inf])
    def test_alpha_must_be_above_1(self, alpha):
        message = rf"`alpha` must be above 1 .*`softmax_loss`\); got {alpha}\."
        with pytest.raises(ValueError, match=message):
            entmax_loss(*random(), alpha=alpha)


@pytest.mark.parametrize(
    "loss",
    [
        functools.partial(sparse_softmax_loss, k=1),
        functools.partial(focal_loss, class_mask=np.array([True, False, False])),
        sparsemax_loss,
        functools.partial(entmax_loss, alpha=1.3),
        entmax_loss,
    ],
)
def test_second_derivatives_are_those_of_the_gradient(loss):
    with jax.enable_x64(True):

        def squared(o):
            return jnp.sum(loss(o, jnp.array([0])) ** 2)

        logits, step = jnp.array([[0.5, 0.45, 0.3]]), 1e-6
        moved = logits[None] + step * jnp.eye(3)[:, None]
        back = logits[None] - step * jnp.eye(3)[:, None]
        gradients = jax.jit(jax.vmap(jax.grad(squared)))
        by_differences = gradients(moved) - gradients(back)
        for hessian in (jax.hessian(squared), jax.jacrev(jax.grad(squared))):
            np.testing.assert_allclose(
                jax.jit(hessian)(logits).reshape(3, 3),
                by_differences.reshape(3, 3) / (2 * step),
                atol=1e-8,
            )


class TestProbs:
    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_the_gradient_of_the_loss_is_what_they_are_off_the_label(self, alpha):
        logits, labels = random()
        probs = entmax_probs(logits, alpha=alpha)
        _, gradient = program(entmax_loss, alpha=alpha)(logits, labels)
        onehot = jax.nn.one_hot(labels, logits.shape[1])
        np.testing.assert_allclose(probs - onehot, gradient, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(probs.sum(axis=-1), 1, rtol=1e-6)
        assert (probs >= 0).all()

    # At 6 classes at the threshold have a fifth root that no bisection resolves.
    @pytest.mark.parametrize("alpha", ALPHAS[:-1])
    def test_they_are_those_of_the_reference(self, alpha):
        with jax.enable_x64(True):
            logits = jnp.asarray(random()[0], jnp.float64)
            expected = reference.entmax(logits, jnp.full(len(logits), alpha))
            probs = entmax_probs(logits, alpha=alpha)
        np.testing.assert_allclose(probs, expected, rtol=1e-9, atol=1e-9)

    def test_sparsemax_is_the_projection_onto_the_simplex(self):
        # (0.5 - t) + (0 - t) = 1 at t = -0.25, below which the last class lies.
        probs = sparsemax_probs(jnp.array([0.5, 0.0, -1.0]))
        np.testing.assert_array_equal(probs, [0.75, 0.25, 0.0])
        logits, _ = random()
        expected = entmax_probs(logits, alpha=2.0)
        np.testing.assert_array_equal(sparsemax_probs(logits), expected)

    @pytest.mark.parametrize("alpha", [1.5, 1.7, 2.0])
    def test_what_is_left_out_has_none_and_a_bad_row_is_nan_alone(self, alpha):
        logits = jnp.zeros((5, 4)).at[1, 0].set(jnp.nan).at[2, 1].set(jnp.inf)
        logits = logits.at[3].set(-jnp.inf).at[4, 2].set(jnp.nan)
        where = jnp.array([True, True, True, True, False])
        mask = jnp.array([True, True, True, False])
        probs = entmax_probs(logits, alpha=alpha, where=where, class_mask=mask)
        expected = np.zeros((5, 4))
        expected[0, :3] = 1 / 3
        expected[1:4, :3] = np.nan
        np.testing.assert_allclose(probs, expected, rtol=1e-6)

    def test_the_classes_may_lie_on_any_axis(self):
        logits, _ = random()
        probs = entmax_probs(logits.T, alpha=1.5, axis=0)
        np.testing.assert_array_equal(probs.T, entmax_probs(logits, alpha=1.5))

    def test_a_known_alpha_out_of_range_is_refused(self):
        with pytest.raises(ValueError, match="`alpha` must be above 1 and finite"):
            entmax_probs(jnp.zeros((1, 3)), alpha=1.0)

    def test_a_traced_alpha_out_of_range_gives_nan(self):
        probs = jax.jit(lambda a: entmax_probs(jnp.zeros((1, 3)), alpha=a))(0.5)
        assert jnp.isnan(probs).all()
