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


@pytest.mark.parametrize(("margin", "value"), [("delta", 0.15), ("logit_margin", 0.6)])
def test_equals_the_reference_with_gradients(margin, value):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(400, 11)) * 2, jnp.float32)
    targets = jnp.asarray(rng.random((400, 11)) < 0.2)
    if margin == "logit_margin":
        logits = logits - 3 + 6 * targets.astype(jnp.float32)
    given = {margin: jnp.full(400, value)}
    loss, gradient = value_and_grad(logits, targets, **{margin: value})
    expected, vjp = jax.vjp(
        lambda o: reference.multi_label_as_softmax_loss(o, targets, ~targets, **given),
        logits,
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, vjp(jnp.ones(400))[0], rtol=1e-4, atol=1e-6)
    settled = multi_label_as_softmax_settled(logits, targets, **{margin: value})
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


MARGIN = {"logit_margin": 2.0}


def test_a_margin_between_logits_compares_each_class_with_0():
    # P = {0, 1}: 3 is above 2 and -4 below -2, so 1 and -1 are left.
    logits, targets = jnp.array([[3.0, 1.0, -1.0, -4.0]]), jnp.array([[1, 1, 0, 0]])
    loss, gradient = value_and_grad(logits, targets, **MARGIN)
    np.testing.assert_allclose(loss, [2 * log(1 + exp(-1))], rtol=1e-6)
    share = exp(-1) / (1 + exp(-1))
    np.testing.assert_allclose(gradient, [[0, -share, share, 0]], rtol=1e-6)
    assert (gradient[0, jnp.array([0, 3])] == 0).all()


@pytest.mark.parametrize("num_labels", [0, 1, 7, 19, 20])
def test_a_row_of_any_number_of_labels_settles_where_it_is_right(num_labels):
    targets = jnp.broadcast_to(jnp.arange(20) < num_labels, (4, 20))
    right = jnp.where(targets, 2.5, -2.5)
    # In the second row one class is on its side by less, in the third on the other.
    logits = right.at[1, 3].multiply(0.8).at[2, 3].multiply(-1.0)
    loss, gradient = value_and_grad(logits, targets, **MARGIN)
    settled = multi_label_as_softmax_settled(logits, targets, **MARGIN)
    np.testing.assert_array_equal(settled, [True, False, False, True])
    np.testing.assert_array_equal(loss == 0, settled)
    others = gradient.at[jnp.array([1, 2]), 3].set(0)
    np.testing.assert_array_equal(others, 0)
    assert (gradient[jnp.array([1, 2]), 3] != 0).all()


def test_what_is_settled_by_a_margin_between_logits_is_predicted_right():
    rng = np.random.default_rng(5)
    targets = jnp.asarray(rng.random((4000, 3)) < 0.5)
    logits = jnp.asarray(rng.normal(size=(4000, 3)), jnp.float32)
    for margin in (0.0, 0.3):
        settled = multi_label_as_softmax_settled(logits, targets, logit_margin=margin)
        np.testing.assert_array_equal(logits[settled] > 0, targets[settled])
        assert 100 < settled.sum() < 2000


def test_a_row_without_labels_trains_its_classes_above_minus_the_margin():
    logits = jnp.array([[2.0, -1.0, -3.0]])
    loss, gradient = value_and_grad(logits, jnp.zeros((1, 3), int), **MARGIN)
    total = exp(2) + exp(-1)
    np.testing.assert_allclose(loss, [log(1 + total)], rtol=1e-6)
    expected = np.array([[exp(2), exp(-1), 0]]) / (1 + total)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize("margin", [0.0, 2.0])
def test_a_class_at_the_margin_between_logits_is_kept(margin):
    just = max(np.nextafter(np.float32(margin), np.float32(9)), 1e-30)
    logits = jnp.array([[margin, just, -margin, -just]])
    targets = jnp.array([[1, 1, 0, 0]])
    _, gradient = value_and_grad(logits, targets, logit_margin=margin)
    np.testing.assert_array_equal(gradient != 0, [[True, False, True, False]])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_without_a_margin_it_is_multi_label_softmax_bit_for_bit(dtype, masked):
    rng = np.random.default_rng(6)
    logits = jnp.asarray(rng.normal(size=(40, 30)) * 4, dtype)
    logits = logits.at[0, 0].set(-jnp.inf).at[1, 1].set(jnp.nan)
    targets = jnp.asarray(rng.random((40, 30)) < 0.2)
    masks = {}
    if masked:
        masks["where"] = jnp.asarray(rng.random(40) < 0.7)
        masks["class_mask"] = jnp.asarray(rng.random((40, 30)) < 0.7)

    def bits(loss_function, **margin):
        @jax.jit
        def f(o):
            loss, vjp = jax.vjp(
                lambda o: loss_function(o, targets, **masks, **margin), o
            )
            return loss, vjp(jnp.linspace(0.5, 2, 40))[0]

        return [np.asarray(part).tobytes() for part in f(logits)]

    expected = bits(multi_label_softmax_loss)
    assert bits(multi_label_as_softmax_loss, logit_margin=np.inf) == expected


def test_a_traced_margin_between_logits_out_of_range_is_nan_for_its_row():
    logits, targets = jnp.ones((4, 3)), jnp.eye(4, 3, dtype=int)
    margins = jnp.array([2.0, -1.0, jnp.nan, jnp.inf])
    loss, gradient = jax.jit(lambda m: value_and_grad(logits, targets, logit_margin=m))(
        margins
    )
    np.testing.assert_array_equal(np.isnan(loss), [False, True, True, False])
    bad = np.isnan(gradient)
    np.testing.assert_array_equal(bad.any(-1), [False, True, True, False])
    np.testing.assert_array_equal(bad.all(-1), bad.any(-1))


@pytest.mark.parametrize(
    "function", [multi_label_as_softmax_loss, multi_label_as_softmax_settled]
)
def test_exactly_one_margin_in_range_is_given(function):
    logits, targets = jnp.ones((2, 3)), jnp.eye(2, 3, dtype=int)
    message = rf"`{function.__name__}` .*`logit_margin`.*`delta`.*got "
    with pytest.raises(ValueError, match=message + "neither"):
        function(logits, targets)
    with pytest.raises(ValueError, match=message + "both"):
        function(logits, targets, delta=0.1, logit_margin=2.0)
    with pytest.raises(ValueError, match="`logit_margin` must be at least 0"):
        function(logits, targets, logit_margin=-1.0)
    with pytest.raises(ValueError, match="`logit_margin` must broadcast"):
        function(logits, targets, logit_margin=np.ones(3, np.float32))
    with pytest.raises(TypeError, match="`logit_margin` must be a real number"):
        function(logits, targets, logit_margin=True)


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
