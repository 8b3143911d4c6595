"""Multi-label AS-Softmax and its peers: formulas, limits, overflow and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy.special import log_expit, logsumexp

from as_softmax_jax import multi_label_as_softmax_loss, multi_label_as_softmax_settled
from as_softmax_jax.losses import (
    multi_label_sigmoid_loss,
    multi_label_softmax_loss,
    multi_label_sparse_softmax_loss,
)
from as_softmax_jax.reference import _multi_label as reference

exp, log = np.exp, np.log


def value_and_grad(logits, targets, **keywords):
    loss, vjp = jax.vjp(
        lambda o: multi_label_as_softmax_loss(o, targets, **keywords), logits
    )
    return loss, vjp(jnp.ones_like(loss))[0]


def test_value_is_the_formula():
    # p = (.4, .35, .2, .05), P = {0, 2}: the weakest positive has .2, so of the
    # negatives .35 stays and .05 (.15 below) goes at delta = .1; the strongest
    # negative has .35, so the positive at .4 stays, and so does the one at .2.
    logits = jnp.log(jnp.array([[0.4, 0.35, 0.2, 0.05]]))
    loss, gradient = value_and_grad(logits, jnp.array([[1, 0, 1, 0]]), delta=0.1)
    positives = 1 / 0.4 + 1 / 0.2
    expected = log(1 + 0.35) + log(1 + positives)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)
    np.testing.assert_allclose(
        gradient,
        [[-2.5 / (1 + positives), 0.35 / 1.35, -5 / (1 + positives), 0.0]],
        rtol=1e-6,
    )
    assert gradient[0, 3] == 0


def test_a_positive_far_above_every_negative_is_dropped():
    # p = (.7, .2, .1), P = {0, 1}: the first positive is .6 above the negative.
    logits = jnp.log(jnp.array([[0.7, 0.2, 0.1]]))
    loss = multi_label_as_softmax_loss(logits, jnp.array([[1, 1, 0]]), delta=0.3)
    np.testing.assert_allclose(loss, [log(1 + 0.1) + log(1 + 1 / 0.2)], rtol=1e-6)


def test_without_positives_every_negative_trains():
    logits = jnp.array([[2.0, -1.0, 0.0]])
    loss, gradient = value_and_grad(logits, jnp.zeros((1, 3), int), delta=0.1)
    total = exp(2) + exp(-1) + 1
    np.testing.assert_allclose(loss, [log(1 + total)], rtol=1e-6)
    np.testing.assert_allclose(
        gradient, [np.array([exp(2), exp(-1), 1]) / (1 + total)], rtol=1e-6
    )


def test_without_negatives_every_positive_trains():
    logits = jnp.array([[2.0, -1.0, 0.0]])
    loss = multi_label_as_softmax_loss(logits, jnp.ones((1, 3), bool), delta=0.0)
    np.testing.assert_allclose(loss, [log(1 + exp(-2) + exp(1) + 1)], rtol=1e-6)


def test_settled_is_exactly_zero_and_need_not_be_right():
    logits, targets = jnp.array([[5.0, 2.0]]), jnp.array([[1, 0]])
    loss, gradient = value_and_grad(logits, targets, delta=0.1)
    assert multi_label_as_softmax_settled(logits, targets, delta=0.1).all()
    np.testing.assert_array_equal(loss, [0])
    np.testing.assert_array_equal(gradient, [[0, 0]])
    assert logits[0, 1] > 0  # predicted, though negative


def test_many_positives_never_settle():
    # Ten positives share the probability: none has more than .1.
    logits = jnp.zeros((1, 20)).at[0, :10].set(50.0)
    targets = (jnp.arange(20) < 10)[None]
    assert not multi_label_as_softmax_settled(logits, targets, delta=0.1).any()
    assert multi_label_as_softmax_settled(logits, targets, delta=0.09).all()


@pytest.mark.parametrize("size", [88.0, 1e4, 1.5e38])
def test_large_logits_do_not_overflow(size):
    logits = jnp.array([[-size, size]])
    loss, gradient = value_and_grad(logits, jnp.array([[1, 0]]), delta=0.1)
    np.testing.assert_allclose(loss, [2 * np.float32(size)])
    np.testing.assert_allclose(gradient, [[-1, 1]], rtol=1e-6)


def test_a_positive_at_minus_infinity_is_an_infinite_loss():
    logits = jnp.array([[-jnp.inf, 1.0, 0.0]])
    loss, gradient = value_and_grad(logits, jnp.array([[1, 0, 0]]), delta=0.1)
    np.testing.assert_array_equal(loss, [np.inf])
    expected = [-1, exp(1) / (2 + exp(1)), 1 / (2 + exp(1))]
    np.testing.assert_allclose(gradient, [expected], rtol=1e-6)


def test_targets_may_be_bool_integer_or_float():
    logits = jnp.array([[1.0, 0.5, -2.0]])
    hot = np.array([[1, 0, 0]])
    losses = [
        multi_label_as_softmax_loss(logits, hot.astype(dtype), delta=0.1)
        for dtype in (bool, np.uint8, np.int32, np.float32, jnp.bfloat16)
    ]
    for loss in losses[1:]:
        np.testing.assert_array_equal(loss, losses[0])


def test_a_target_that_is_not_0_or_1_is_nan_for_its_row():
    logits = jnp.ones((2, 3))
    targets = jnp.array([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0]])
    loss, gradient = value_and_grad(logits, targets, delta=0.1)
    np.testing.assert_array_equal(np.isnan(loss), [True, False])
    np.testing.assert_array_equal(np.isnan(gradient).all(-1), [True, False])
    assert not multi_label_as_softmax_settled(logits, targets, delta=0.0)[0]


def test_unknown_classes_have_no_part():
    logits = jnp.array([[1.0, 0.5, 9.0, -2.0]])
    targets = jnp.array([[1, 0, -1, 0]])
    known = jnp.array([True, True, False, True])
    loss, gradient = value_and_grad(logits, targets, delta=0.1, class_mask=known)
    small = np.asarray(known)
    expected, few = value_and_grad(logits[:, small], targets[:, small], delta=0.1)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[:, small], few, rtol=1e-6)
    assert gradient[0, 2] == 0


def test_equals_the_reference_with_gradients():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(400, 11)) * 2, jnp.float32)
    targets = jnp.asarray(rng.random((400, 11)) < 0.2)
    delta = jnp.full(400, 0.15)
    loss, gradient = value_and_grad(logits, targets, delta=0.15)
    expected, vjp = jax.vjp(
        lambda o: reference.multi_label_as_softmax_loss(o, targets, ~targets, delta),
        logits,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, vjp(jnp.ones(400))[0], rtol=1e-4, atol=1e-6)
    settled = multi_label_as_softmax_settled(logits, targets, delta=0.15)
    np.testing.assert_array_equal(settled, loss == 0)
    assert 0 < settled.sum() < 400


def test_gradient_equals_finite_differences_in_float64():
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        logits = jnp.asarray(rng.normal(size=(5, 6)))
        targets = jnp.asarray(rng.random((5, 6)) < 0.3)
        f = lambda o: multi_label_as_softmax_loss(o, targets, delta=0.2)  # noqa: E731
        check_grads(f, (logits,), order=1, eps=1e-6)


def test_ties_at_delta_0_are_kept():
    logits = jnp.array([[1.0, 1.0, np.nextafter(np.float32(1), 0)]])
    loss = multi_label_as_softmax_loss(logits, jnp.array([[1, 0, 0]]), delta=0.0)
    np.testing.assert_allclose(loss, [log(1 + exp(1)) + log(1 + exp(-1))], rtol=1e-6)


def test_refuses_class_indices_for_targets():
    with pytest.raises(ValueError, match="`targets` must be multi-hot"):
        multi_label_as_softmax_loss(jnp.zeros((2, 3)), jnp.array([0, 1]), delta=0.1)


def test_refuses_complex_targets():
    with pytest.raises(TypeError, match="`targets` must be boolean or numbers"):
        multi_label_as_softmax_loss(
            jnp.zeros((2, 3)), jnp.zeros((2, 3), jnp.complex64), delta=0.1
        )


# The peers for several labels: ZLPR, its sparse form, and one sigmoid a class.


def draw_in_float64(seed=0, shape=(40, 30)):
    """Logits with several labels a row; a row without any, and one with all."""
    rng = np.random.default_rng(seed)
    targets = rng.random(shape) < 0.2
    targets[0], targets[1] = False, True
    return jnp.asarray(rng.normal(size=shape) * 4), jnp.asarray(targets)


def peer_value_and_grad(loss_function, logits, targets, **keywords):
    loss, vjp = jax.vjp(lambda o: loss_function(o, targets, **keywords), logits)
    return loss, vjp(jnp.ones_like(loss))[0]


def test_softmax_value_is_the_formula():
    logits = jnp.log(jnp.array([[4.0, 2.0, 0.5, 3.0]]))
    loss = multi_label_softmax_loss(logits, jnp.array([[1, 0, 0, 1]]))
    expected = log(1 + 2 + 0.5) + log(1 + 1 / 4 + 1 / 3)
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)


def test_softmax_is_scipys_logsumexp_in_float64():
    with jax.enable_x64(True):
        logits, targets = draw_in_float64()
        loss = multi_label_softmax_loss(logits, targets)
        side = lambda o, kept: logsumexp(  # noqa: E731
            np.pad(np.where(kept, o, -np.inf), ((0, 0), (1, 0))), axis=-1
        )
        expected = side(logits, ~targets) + side(-logits, targets)
        np.testing.assert_allclose(loss, expected, rtol=1e-14)


def test_softmax_is_as_softmax_at_delta_1():
    with jax.enable_x64(True):
        args = draw_in_float64()
        actual = peer_value_and_grad(multi_label_softmax_loss, *args)
        expected = value_and_grad(*args, delta=1.0)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, e)


def test_softmax_is_an_upper_bound_of_as_softmax():
    with jax.enable_x64(True):
        args = draw_in_float64()
        whole = multi_label_softmax_loss(*args)
        kept = multi_label_as_softmax_loss(*args, delta=0.1)
        assert (kept <= whole).all()
        assert (kept < whole).any()


def test_with_one_class_softmax_and_sigmoid_are_the_same():
    with jax.enable_x64(True):
        logits = jnp.linspace(-30.0, 30.0, 61)[:, None]
        for targets in (jnp.zeros((61, 1), bool), jnp.ones((61, 1), bool)):
            np.testing.assert_allclose(
                multi_label_softmax_loss(logits, targets),
                multi_label_sigmoid_loss(logits, targets),
                rtol=1e-14,
            )


@pytest.mark.parametrize(
    "loss_function",
    [
        multi_label_softmax_loss,
        multi_label_sparse_softmax_loss,
        multi_label_sigmoid_loss,
    ],
)
def test_peers_go_to_0_where_all_is_right_and_grow_with_the_error(loss_function):
    targets = jnp.array([[1, 0, 1, 0]])
    right = jnp.where(targets == 1, 1.0, -1.0)
    losses = [float(loss_function(s * right, targets)[0]) for s in (1, 10, 100, -1e4)]
    assert losses[0] > losses[1] > 0
    assert losses[2] == pytest.approx(0, abs=1e-40)
    per_side = 2 if loss_function is multi_label_sigmoid_loss else 1
    assert losses[3] == pytest.approx(2 * per_side * 1e4, rel=1e-4)


def test_a_small_loss_is_accurate_and_not_rounded_to_0():
    logits = jnp.array([[20.0, -20.0, -21.0]])
    loss = multi_label_softmax_loss(logits, jnp.array([[1, 0, 0]]))
    np.testing.assert_allclose(loss, [2 * exp(-20.0) + exp(-21.0)], rtol=1e-6)


def test_sparse_softmax_value_is_the_formula():
    # The negatives have e^o of 2, .5 and 3; the two largest stay.
    logits = jnp.log(jnp.array([[4.0, 2.0, 0.5, 3.0, 0.1]]))
    targets = jnp.array([[1, 0, 0, 0, 1]])
    loss, gradient = peer_value_and_grad(
        multi_label_sparse_softmax_loss, logits, targets, k=2
    )
    positives = 1 / 4 + 1 / 0.1
    np.testing.assert_allclose(loss, [log(1 + 5) + log(1 + positives)], rtol=1e-6)
    up = 1 + positives
    expected = [[-0.25 / up, 2 / 6, 0.0, 3 / 6, -10 / up]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    assert gradient[0, 2] == 0


def test_sparse_softmax_keeps_k_negatives_and_every_positive():
    with jax.enable_x64(True):
        logits, targets = draw_in_float64()
        _, gradient = peer_value_and_grad(
            multi_label_sparse_softmax_loss, logits, targets, k=5
        )
        learns = np.asarray(gradient != 0)
        hot = np.asarray(targets)
        np.testing.assert_array_equal(learns & hot, hot)
        negatives = (~hot).sum(-1)
        np.testing.assert_array_equal((learns & ~hot).sum(-1), np.minimum(negatives, 5))
        assert negatives.max() > 5


@pytest.mark.parametrize("k", [29, 30, 31])
def test_sparse_softmax_with_k_negatives_or_fewer_is_softmax(k):
    with jax.enable_x64(True):
        logits, targets = draw_in_float64()
        targets = targets.at[:, 0].set(True)  # 29 negatives at most
        whole = multi_label_softmax_loss(logits, targets)
        sparse = multi_label_sparse_softmax_loss(logits, targets, k=k)
        np.testing.assert_array_equal(sparse, whole)
        fewer = multi_label_sparse_softmax_loss(logits, targets, k=5)
        assert (fewer[2:] < whole[2:]).all()


def test_sparse_softmax_counts_no_unknown_class():
    logits = jnp.array([[1.0, 9.0, 2.0, 3.0]])
    targets = jnp.array([[1, 0, 0, 0]])
    known = jnp.array([True, False, True, True])
    loss = multi_label_sparse_softmax_loss(logits, targets, k=1, class_mask=known)
    np.testing.assert_allclose(loss, [log(1 + exp(3)) + log(1 + exp(-1))], rtol=1e-6)


def test_sparse_softmax_keeps_ties_with_the_kth_negative():
    logits = jnp.array([[0.0, 1.0, 1.0, 1.0, 0.5]])
    targets = jnp.array([[1, 0, 0, 0, 0]])
    loss = multi_label_sparse_softmax_loss(logits, targets, k=2)
    np.testing.assert_allclose(loss, [log(1 + 3 * exp(1)) + log(2)], rtol=1e-6)


@pytest.mark.parametrize(
    ("error", "k"), [(ValueError, 0), (TypeError, 1.5), (TypeError, True)]
)
def test_sparse_softmax_refuses_a_k_that_is_no_count(error, k):
    with pytest.raises(error, match="`k` must be"):
        multi_label_sparse_softmax_loss(jnp.zeros((2, 3)), jnp.zeros((2, 3)), k=k)


@pytest.mark.standard_promotion(reason="optax mixes dtypes")
def test_sigmoid_is_optax_in_float64():
    with jax.enable_x64(True):
        logits, targets = draw_in_float64()
        actual = peer_value_and_grad(multi_label_sigmoid_loss, logits, targets)
        expected, vjp = jax.vjp(
            lambda o: optax.sigmoid_binary_cross_entropy(o, targets).sum(axis=-1),
            logits,
        )
        np.testing.assert_allclose(actual[0], expected, rtol=1e-13)
        gradient = vjp(jnp.ones_like(expected))[0]
        np.testing.assert_allclose(actual[1], gradient, rtol=1e-12, atol=1e-15)


def test_sigmoid_is_minus_the_log_of_scipys_expit():
    with jax.enable_x64(True):
        logits, targets = draw_in_float64()
        loss = multi_label_sigmoid_loss(logits, targets)
        signed = np.where(targets, logits, -logits)
        np.testing.assert_allclose(loss, -log_expit(signed).sum(-1), rtol=1e-14)


def test_sigmoid_of_a_class_of_minus_infinity_is_no_nan():
    logits = jnp.array([[-jnp.inf, 0.0], [0.0, -jnp.inf]])
    targets = jnp.array([[0, 1], [0, 1]])
    loss, gradient = peer_value_and_grad(multi_label_sigmoid_loss, logits, targets)
    np.testing.assert_allclose(loss, [log(2), np.inf], rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, -0.5], [0.5, -1]], rtol=1e-6)
